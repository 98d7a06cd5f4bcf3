"""Checks of a checkpoint that somebody else may have written, before and after its model is built."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ibd import config as configuration, registry
from ibd.errors import CheckpointError, no_file

_TYPES: dict[str, type] = {
    "ibd_model": str,
    "ibd_calibration": dict,
    "hyper_parameters": dict,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""What is read here of a checkpoint, and its types; the weights and what is Lightning's own are others' to read."""
_SPARE_VALUES = 2**24
"""Values that a model may have beside those that its checkpoint has room for."""
_SPARE_CALLS = 10_000
_CALLS = 200
"""Calls of torch with which a constructor makes one tensor that is saved."""


def check_archive(path: Path) -> None:
    """Look at a file before anything is read from it: a zip archive of stored, that is of uncompressed, parts.

    Raises:
        CheckpointError: it is another one; compressed, a few bytes could become more than the memory holds.
    """
    if (kind := no_file(path)) is not None:
        raise CheckpointError(f"'{path}' is {kind}, the file of a checkpoint is needed")
    with path.open("rb") as file:
        start = file.read(2)
    reason = ""
    if not start:
        reason = "it is empty"
    elif start != b"PK":
        reason = "it is not a PyTorch file"
    elif not zipfile.is_zipfile(path):
        reason = "it is cut short"
    else:
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                reason = "it is compressed, which PyTorch never does"
    if reason:
        raise CheckpointError(f"'{path}' is not a readable checkpoint: {reason}")


def why_unreadable(error: Exception) -> str:
    """Return in words why PyTorch could not read a file."""
    if isinstance(error, PermissionError):
        return "reading it is not permitted"
    if "weights_only" in str(error):
        return "it holds Python objects, which could run any code, and not only tensors"
    return " ".join(str(error).split())[:120] or type(error).__name__


def check_types(path: str | Path, content: Mapping[str, object]) -> None:
    """Check the parts of a checkpoint that are read by name.

    Raises:
        CheckpointError: one is of another type than was written.
    """
    for key, kind in _TYPES.items():
        value = content.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise CheckpointError(f"'{path}' is damaged: its '{key}' is a {type(value).__name__}")


def check_hyper_parameters(name: str, values: Mapping[str, Any]) -> None:
    """Check what one of our own models is to be made with against the options it has.

    Args:
        name: the model's registered name.
        values: the arguments of its constructor.

    Raises:
        ConfigError: an option that there is not, or a value of another type.
        CheckpointError: it would read another file than the checkpoint, which has all weights.
    """
    configuration.check("models", {**values, "name": name}, supplied=("spec", "optimizer"))
    configuration.check("optimizer", values.get("optimizer") or {})
    check_backbone(values["backbone"])


def check_backbone(values: Mapping[str, Any]) -> None:
    """Check what the backbone of one of our own models is to be made with.

    Raises:
        ConfigError: an option that there is not, or a value of another type.
        CheckpointError: it would read another file than the checkpoint, which has all weights.
    """
    configuration.check("backbones", values)
    common = registry.load_class(registry.COMMON["backbones"])
    names = inspect.signature(common).parameters
    configuration.check_options(common, {key: value for key, value in values.items() if key in names})
    for key in ("weights", "init_from"):
        if values.get(key) is not None:
            raise CheckpointError(f"its backbone.{key} asks for other weights than its own")


def check_size(make: Callable[[], nn.Module], size: int, saved: int) -> None:
    """Build a model without memory, to see that it needs no more of it than its checkpoint has weights.

    Args:
        make: function that makes it.
        size: size of the checkpoint, in bytes.
        saved: number of tensors that it holds.

    Raises:
        CheckpointError: it is larger.
    """
    most = size + _SPARE_VALUES
    with torch.device("meta"), _Bounded(_SPARE_CALLS + _CALLS * saved):
        module = make()
    if sum(value.numel() for value in module.state_dict().values()) > most:
        raise CheckpointError(_TOO_LARGE)


_TOO_LARGE = "its hyperparameters describe a larger network than its weights"


_DRAWS = {
    *("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"),
    *("xavier_normal_", "xavier_uniform_"),
}
"""What draws the numbers of a tensor, which one without memory has none of; torch would import its compiler for it."""


class _Bounded(TorchFunctionMode):
    """Stops what does not come to an end, such as a network of a billion layers; draws no numbers."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def __torch_function__(
        self,
        func: Any,
        types: Collection[object],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.calls -= 1
        if self.calls < 0:
            raise CheckpointError(_TOO_LARGE)
        if getattr(func, "__name__", "") in _DRAWS:
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))


def check_finite(module: nn.Module, undefined: Collection[str]) -> None:
    """Check that all values of a model are numbers.

    Args:
        module: module with its weights.
        undefined: names in its state of tensors that may be NaN, such as what only a finished training knows.

    Raises:
        CheckpointError: some are not: a training has failed that was not stopped in time.
    """
    wrong = [key for key, value in module.state_dict().items() if not bool(value.isfinite().all())]
    wrong = [key for key in wrong if key not in undefined]
    if wrong:
        few = ", ".join(wrong[:2]) + (", ..." if len(wrong) > 2 else "")
        raise CheckpointError(f"it holds values that are not numbers, in {few}: its training has failed")
