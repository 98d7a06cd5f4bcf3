"""Writing a model as files that run without this package: programs of PyTorch (``torch.export``), or ONNX files."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ibd import registry
from ibd.app.exporting.checking import check
from ibd.app.exporting.description import describe
from ibd.app.exporting.formats import OPSET, Run, onnx_bytes, pt2_bytes, require_onnx, run_onnx, run_pt2
from ibd.app.exporting.parts import PARTS, WHOLE, PartName
from ibd.app.exporting.programs import Program, dtype_of, programs
from ibd.app.terminal import writing
from ibd.distributed import progress
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.io import load_model
from ibd.models.lightning import InterpretableModule
from ibd.types import RunLike


class Exported(NamedTuple):
    """What `export` wrote.

    Attributes:
        path: the file, or the first one of several parts.
        difference: the largest one between a logit of the files and of the model in memory, on random images, as they
            are and with units set by hand.
        files: part -> its file; "whole" where there are no parts.
        programs: what goes into each file, and comes out.
        opset: version of ONNX's operators, of ONNX files.
    """

    path: Path
    difference: float
    files: dict[str, Path]
    programs: list[Program]
    opset: int | None


class Content(NamedTuple):
    """Checked files in memory.

    Attributes:
        parts: part -> the content of its file.
        described: what is known of the model, as each file has it.
        difference: the largest one between a logit of these and of the model.
        programs: what goes into each file, and comes out.
    """

    parts: dict[str, bytes]
    described: dict[str, Any]
    difference: float
    programs: list[Program]


def export(
    run: RunLike | InterpretableModule,
    path: str | Path,
    which: str = "best",
    trust: bool = False,
    parts: Sequence[PartName] = (),
    opset: int | None = None,
) -> Exported:
    """Write a model as files that run where this package is not installed, by PyTorch or by any runtime of ONNX.

    They hold the network in evaluation mode, on the CPU; the layers of concept whitening are folded into the
    convolutions before them. In each lie the names of classes and units. All that was written is run and compared with
    the model in memory, also with units set by hand, before it takes the place of older files.

    Args:
        run: a run folder, a checkpoint, what ``ibd.fit`` returned, or a model.
        path: path of the file, which ends in ``.pt2`` or ``.onnx``; its folder is made.
        which: "best" or "last" checkpoint of a run.
        trust: trust in the run, as of ``ibd.load_model``.
        parts: parts to write, each into a file of its own, ``model.encode.onnx`` of ``model.onnx``: "encode" (image ->
            units), "edit" (units, values, mask -> units set by hand, as by ``Prediction.intervene``), "decode" (units
            -> logits, probabilities) and "explain" (units, class -> its contributions and map). Without any, one
            file: image -> all of it.
        opset: version of ONNX's operators; by default 18.

    Raises:
        ConfigError: a file cannot be written, its name has another ending, or an option is not allowed.
        CheckpointError: there is no such run.
        UnsupportedError: the model, or a part, cannot be followed, or what was written computes something else; or a
            package for ONNX is not installed.
    """
    path, parts = Path(path), check_parts(parts)
    if path.suffix not in (".pt2", ".onnx"):
        raise ConfigError(f"cannot export to '{path}': the name of an exported model ends in .onnx or .pt2")
    if path.suffix == ".pt2" and opset is not None:
        raise ConfigError("--opset is of ONNX's operators, and a .pt2 file has PyTorch's: leave it out")
    if path.suffix == ".onnx":
        require_onnx()
        opset = OPSET if opset is None else opset
    files: dict[str, Path] = {name: path.with_suffix(f".{name}{path.suffix}") for name in parts}
    files = files or {WHOLE: path}
    for file in files.values():
        with writing(file):
            pass  # its folder, before the work
        if file.is_dir():
            raise ConfigError(f"cannot write '{file}': Is a directory")
    model = run if isinstance(run, InterpretableModule) else load_model(run, which, trust)
    made = exported_content(model, parts, opset)
    write_all({files[name]: content for name, content in made.parts.items()})
    return Exported(next(iter(files.values())), made.difference, files, made.programs, opset)


def check_parts(parts: Sequence[str]) -> tuple[PartName, ...]:
    """Return the parts in the order in which they run.

    Raises:
        ConfigError: there is no such part, or one comes twice.
    """
    for name in parts:
        if name not in PARTS:
            raise ConfigError(f"--parts: unknown part '{name}'.{did_you_mean(name, PARTS)}")
    if len(set(parts)) < len(parts):
        raise ConfigError(f"--parts: a part is given twice: {', '.join(parts)}")
    return tuple(name for name in PARTS if name in parts)


def exported_content(model: InterpretableModule, parts: Sequence[PartName], opset: int | None) -> Content:
    """Return the files of a model, compared with it.

    Args:
        model: model in memory.
        parts: parts; none for the whole.
        opset: version of ONNX's operators; None for programs of PyTorch.

    Raises:
        UnsupportedError: as for `export`.
    """
    if opset is not None and dtype_of(model) != torch.float32:
        raise UnsupportedError(
            f"the model is {dtype_of(model)}, and a .onnx file is written in float32, as runtimes lack operators of "
            "other types: write a .pt2 file, or in Python export model.float()"
        )
    needed = check_parts(sorted({*parts, "encode"})) if parts else ()  # the others are checked by what it reads
    found = programs(model, needed)
    wanted = [each for each in found if not parts or each.name in parts]
    described = describe(model, wanted, opset)
    contents: dict[str, bytes] = {}
    runs: dict[str, Run] = {}
    for each in progress(found, f"writing .{'pt2' if opset is None else 'onnx'}"):
        if opset is None:
            contents[each.name] = pt2_bytes(each, described)
            runs[each.name] = run_pt2(contents[each.name], each)
        else:
            family = registry.name_of("models", type(model))
            contents[each.name] = onnx_bytes(each, described, opset, family)
            runs[each.name] = run_onnx(contents[each.name], each)
    return Content({each.name: contents[each.name] for each in wanted}, described, check(model, runs), wanted)


def write_all(contents: Mapping[Path, bytes | str]) -> None:
    """Write files, all of them or, where one cannot be written, none in the place of an older one.

    Raises:
        ConfigError: one cannot be written.
    """
    mark = uuid.uuid4().hex[:8]
    waiting = {path: path.with_name(f".{path.name}.{mark}") for path in contents}
    try:
        for path, content in contents.items():
            with writing(path):
                if isinstance(content, str):
                    waiting[path].write_text(content, encoding="utf-8")
                else:
                    waiting[path].write_bytes(content)
        for path, temporary in waiting.items():
            with writing(path):
                temporary.replace(path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
