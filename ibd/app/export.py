"""Writing a model as one file that PyTorch alone can run, without this package (``torch.export``)."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from ibd import __version__, registry
from ibd.app.terminal import writing
from ibd.errors import ConfigError, UnsupportedError
from ibd.io import load_model
from ibd.models.base import InterpretableNetwork, evaluating
from ibd.models.calibration.calibration import Calibration
from ibd.models.lightning import InterpretableModule
from ibd.types import RunLike

NAMES = "ibd.json"
"""What the file with the names is called inside of the exported one."""
OUTPUTS = ("logits", "probabilities", "values", "maps")
_MOST_IMAGES = 2**31 - 1
_TOLERANCE = 1e-3


class Exported(NamedTuple):
    """What `export` wrote.

    Attributes:
        path: the file.
        difference: the largest one between a logit of the file and of the model in memory, on random images.
    """

    path: Path
    difference: float


class ExportedNetwork(nn.Module):
    """What an exported file computes: (B, 3, H, W) images in [0, 1] -> a tuple of four tensors, as `OUTPUTS` names.

    (B, C) class logits, (B, C) class probabilities, (B, U) values of the units as a person reads them (quantities in
    their unit), and their (B, U, h, w) maps. B is free; H and W are those of the training. Probabilities and values are
    calibrated where the model is.
    """

    def __init__(self, network: InterpretableNetwork, calibration: Calibration | None = None) -> None:
        super().__init__()
        self.network = network
        self.calibration = calibration

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits, probabilities, values and maps."""
        logits, units = self.network(image)
        if self.calibration is None:
            return logits, self.network.class_probabilities(logits), self.network.readable(units), units.maps
        probabilities = self.calibration.probabilities(self.network, logits).to(logits.dtype)
        return logits, probabilities, self.calibration.values(self.network, units), units.maps


def export(run: RunLike | InterpretableModule, path: str | Path, which: str = "best", trust: bool = False) -> Exported:
    """Write a model as a file that ``torch.export.load`` reads where this package is not installed.

    The file holds `ExportedNetwork`, on the CPU; the layers of concept whitening are folded into the convolutions
    before them. Beside it, as the extra file ``ibd.json``, lie the names of classes and units. What was written is
    read again and compared with the model in memory.

    Args:
        run: a run folder, a checkpoint, what ``ibd.fit`` returned, or a model.
        path: path of the file, which ends in ``.pt2``; its folder is made.
        which: "best" or "last" checkpoint of a run.
        trust: trust in the run, as of ``ibd.load_model``.

    Raises:
        ConfigError: the file cannot be written, or its name does not end in ``.pt2``.
        CheckpointError: there is no such run.
        UnsupportedError: torch.export cannot follow the model, or computes something else.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ConfigError(f"cannot export to '{path}': the name of an exported model ends in .pt2")
    model = run if isinstance(run, InterpretableModule) else load_model(run, which, trust)
    with writing(path):
        pass  # its folder, before the work
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's about its own graphs
        torch.export.save(_program(model), content, extra_files={NAMES: json.dumps(describe(model), indent=1)})
    unchecked = path.with_name(f"{path.stem}.unchecked.pt2")
    try:
        with writing(path):
            unchecked.write_bytes(content.getbuffer())
        difference = _check(model, unchecked)
        with writing(path):
            unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return Exported(path, difference)


def describe(model: InterpretableModule) -> dict[str, object]:
    """Return what a reader without this package must know of a model, as plain values."""
    network, spec = model.network, model.spec
    return {
        "model": registry.name_of("models", type(model)),
        "ibd": __version__,
        "torch": str(torch.__version__),
        "class_names": network.class_names,
        "unit_kind": network.unit_kind,
        "unit_names": network.unit_names,
        "quantities": {network.unit_names[number]: quantity.unit for number, quantity in network.quantities.items()},
        "image_size": list(spec.image_size),
        "resize": spec.resize,
        "dtype": str(_dtype(model)).removeprefix("torch."),
        "outputs": list(OUTPUTS),
        **({} if model.calibration is None else {"calibration": model.calibration.to_dict()}),
    }


def _dtype(model: InterpretableModule) -> torch.dtype:
    return next(model.network.parameters()).dtype


def _images(model: InterpretableModule, count: int) -> Tensor:
    """Return random images."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, *model.spec.image_size, generator=generator).to(_dtype(model))


@torch.no_grad()
def _program(model: InterpretableModule) -> torch.export.ExportedProgram:
    """Return the graph of what the model computes for any number of images.

    Raises:
        UnsupportedError: there is none.
    """
    network = model.network.for_inference().cpu().to(memory_format=torch.contiguous_format).requires_grad_(False)
    batch = torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    try:
        program = torch.export.export(
            ExportedNetwork(network, model.calibration).eval(),
            (_images(model, 2),),
            dynamic_shapes=({0: batch},),
            strict=False,
        )
    except Exception as error:  # whatever it makes of the code of a stranger's model
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnsupportedError(f"torch.export cannot follow {type(model).__name__} ({reason})") from error
    for part in program.graph_module.modules():
        if isinstance(part, fx.GraphModule):  # of torch 2.6, traces of Python that it writes but cannot read
            part.graph.eliminate_dead_code()
            part.recompile()
    return program


@torch.no_grad()
def _check(model: InterpretableModule, path: Path) -> float:
    """Compare what was written with the model, for one image and for several; return how far the logits differ.

    Raises:
        UnsupportedError: they are not the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path).module()
    original = ExportedNetwork(model.network, model.calibration)
    device = next(model.network.parameters()).device
    largest = 0.0
    for count in (1, 3):
        image = _images(model, count)
        with evaluating(original):
            expected = original(image.to(device))
        for name, new, old in zip(OUTPUTS, program(image), expected, strict=True):
            difference = float((new - old.cpu()).abs().max())
            if not difference <= _TOLERANCE * max(1.0, float(old.abs().max())):
                raise UnsupportedError(
                    f"torch.export does not follow {type(model).__name__}: for {count} images its {name} differ by "
                    f"{difference:.1g}"
                )
            largest = max(largest, difference) if name == "logits" else largest
    return largest
