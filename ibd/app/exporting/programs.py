"""Models as programs of ``torch.export``, whole or in parts, for any number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ibd.app.exporting.dependent import check_placement
from ibd.app.exporting.edits import edit_kinds
from ibd.app.exporting.parts import (
    NEW,
    PARTS,
    WHOLE,
    Decode,
    Edit,
    Encode,
    Explain,
    Painting,
    Part,
    PartName,
    Whole,
    Wiring,
    account_names,
    check_explains,
    judged_names,
    painted,
)
from ibd.app.exporting.quiet import quiet
from ibd.errors import UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.lightning import InterpretableModule
from ibd.models.scbm.network import StochasticConceptBottleneckNetwork
from ibd.types import Units

_MOST_IMAGES = 2**31 - 1


@dataclass(frozen=True)
class Program:
    """One part of a model as a graph.

    Attributes:
        name: "whole", or what part it is.
        inputs: names of what goes in.
        outputs: names of what comes out.
        exported: the program.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    exported: torch.export.ExportedProgram


@dataclass(frozen=True)
class _Sources:
    """What parts are made of: a copy of the network for inference, and what it makes of two images."""

    model: InterpretableModule
    tensors: dict[str, Tensor]
    parts: dict[str, Part]


def dtype_of(model: InterpretableModule) -> torch.dtype:
    """Return the type of a model's weights."""
    return next(model.network.parameters()).dtype


def random_images(model: InterpretableModule, count: int) -> Tensor:
    """Return random images on the CPU, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, *model.spec.image_size, generator=generator).to(dtype_of(model))


@torch.no_grad()
def programs(model: InterpretableModule, parts: Sequence[PartName]) -> list[Program]:
    """Return the parts of a model as programs; without any part named, the whole as one.

    Raises:
        UnsupportedError: a part that this model does not have, or that torch.export cannot follow.
    """
    sources = _sources(model, parts)
    if not parts:
        whole = sources.parts[WHOLE]
        return [Program(WHOLE, whole.inputs, whole.outputs, _traced(sources, WHOLE))]
    for name in parts:
        if name != "encode":
            _leave_out_unused(sources, name)
    encode = sources.parts["encode"]
    wanted = {name for part in parts for name in sources.parts[part].inputs} - {"scores", "maps"}
    encode.outputs = ("scores", "values", "maps", *(name for name in sources.tensors if name in wanted))
    encode.outputs = tuple(name for name in encode.outputs if name not in ("mask", "class_index", "image"))
    encode.outputs = tuple(dict.fromkeys(encode.outputs))
    made = ((name, sources.parts[name], _traced(sources, name)) for name in parts)
    return [Program(name, part.inputs, part.outputs, exported) for name, part, exported in made]


def possible_parts(model: InterpretableModule) -> tuple[tuple[PartName, ...], list[str]]:
    """Return the parts that a model has, and a line on each that it has not."""
    found, missing = list(PARTS), []
    checks: dict[PartName, Callable[[InterpretableNetwork], None]] = {"edit": _check_edits, "explain": check_explains}
    for name, check in checks.items():
        try:
            check(model.network)
        except UnsupportedError as error:
            found.remove(name)
            missing.append(str(error).removesuffix(": leave the part out"))
    return tuple(found), missing


def _check_edits(network: InterpretableNetwork) -> None:
    """Check that a graph can set a network's units.

    Raises:
        UnsupportedError: it cannot.
    """
    edit_kinds(network)
    if isinstance(network, StochasticConceptBottleneckNetwork):
        check_placement(network)


def _sources(model: InterpretableModule, parts: Sequence[PartName]) -> _Sources:
    """Return the parts, with all that they might need as inputs, and examples of these."""
    network = model.network.for_inference().cpu().to(memory_format=torch.contiguous_format).requires_grad_(False)
    calibration, images = model.calibration, random_images(model, 2)
    units: Units = network.encode(images)
    wiring = Wiring.of(units)
    painting = Painting(network, units.maps, model.spec.image_size) if painted(network) else None
    own = network, calibration, wiring
    made: dict[str, Part] = {"encode": Encode(*own), WHOLE: Whole(*own, painting)}
    judged = tuple(judged_names(network, calibration))
    made[WHOLE].outputs = (*judged[:2], "values", "maps", *account_names(network), *judged[2:])
    count = len(network.unit_names)
    known = wiring.tensors(units)
    tensors = {name: known[name].clone() for name in wiring.names}  # a tensor that is given twice is one input
    tensors["image"] = images
    if "edit" in parts:
        _check_edits(network)
        if network.truth_values:
            network.edit(units, {0: 1.0})  # says what this checkpoint lacks
        made["edit"] = Edit(*own)
        made["edit"].inputs = (*wiring.names, "values", "mask")
        made["edit"].outputs = (*(NEW + name for name in (*wiring.names, "values")), "edited")
    if "decode" in parts:
        made["decode"] = Decode(*own)
        made["decode"].inputs, made["decode"].outputs = wiring.names, judged
    if "explain" in parts:
        check_explains(network)
        made["explain"] = Explain(*own, painting)
        made["explain"].inputs, made["explain"].outputs = (*wiring.names, "class_index"), tuple(account_names(network))
    tensors |= {
        "values": torch.ones(2, count, dtype=units.scores.dtype),
        "class_index": torch.zeros(2, dtype=torch.int64),
    }
    tensors["mask"] = torch.zeros(2, count, dtype=torch.bool)
    return _Sources(model, tensors, {name: part.eval() for name, part in made.items()})


def _leave_out_unused(sources: _Sources, name: str) -> None:
    """Leave out the inputs of a part that its graph does not read, and the outputs that are inputs as they came in."""
    part, exported = sources.parts[name], _traced(sources, name)
    signature = exported.graph_signature
    given = dict(zip(signature.user_inputs, part.inputs, strict=True))
    part.outputs = tuple(
        output for output, made in zip(part.outputs, signature.user_outputs, strict=True) if made not in given
    )
    used = {
        given[node.name]
        for node in exported.graph.nodes
        if node.name in given and any(user.op != "output" for user in node.users)
    }
    part.inputs = tuple(each for each in part.inputs if each in used)


def _traced(sources: _Sources, name: str) -> torch.export.ExportedProgram:
    """Return the graph of a part, for any number of images.

    Raises:
        UnsupportedError: there is none.
    """
    part, batch = sources.parts[name], torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    examples = tuple(sources.tensors[each] for each in part.inputs)
    try:
        with quiet():
            program = torch.export.export(
                part, examples, dynamic_shapes=(tuple({0: batch} for _ in examples),), strict=False
            )
    except Exception as error:  # whatever it makes of the code of a stranger's model
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = "" if name == WHOLE else f"{name}: "
        raise UnsupportedError(f"{what}torch.export cannot follow {type(sources.model).__name__} ({reason})") from error
    for graph in program.graph_module.modules():
        if isinstance(graph, fx.GraphModule):  # of torch 2.6, traces of Python that it writes but cannot read
            graph.graph.eliminate_dead_code()
            graph.recompile()
    return program
