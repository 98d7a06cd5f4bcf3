"""Networks of anybody's on the command line: ``package.module:make_model``, and how they are asked."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibd import registry
from ibd.config import plain_values
from ibd.config.sources import Sources, parse_override
from ibd.errors import ConfigError, told
from ibd.models.foreign import ForeignModel, OutputKind, Preprocess
from ibd.models.inputs import File, read_images
from ibd.types import DataSpec, Resize

_LARGEST = 4096
_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class ForeignSettings:
    """How a network of anybody's is asked, ``model.key=value``; see ``ibd.ForeignModel``.

    Attributes:
        preprocess: what is done to pixels in [0, 1] before it: unit (nothing), imagenet, half, or package.module:NAME
            of a module or function; mean and std take its place.
        mean: mean of the red, green and blue channel that is taken away.
        std: deviation of each that pixels are divided by then.
        output: what it returns; "auto" is one number for each image, or logits.
        label: which output of a multilabel network is asked about, by number or name.
        class_names: names of its outputs, or a text file with one in each line; by default those of the data.
        image_size: side of the square, or [height, width], that an image for `ibd explain` is brought to, in pixels.
        resize: way to bring it there: squash, crop or pad.
    """

    preprocess: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    output: OutputKind = "auto"
    label: Any = None
    class_names: Any = field(default_factory=list)
    image_size: Any = 224
    resize: Resize = "crop"


def is_place(text: str) -> bool:
    """Return whether an argument names something in a module, and no file."""
    return _PLACE.fullmatch(text) is not None and not Path(text).exists()


def read_settings(changes: Sequence[str]) -> ForeignSettings:
    """Return what ``model.key=value`` texts mean.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    layers = [parse_override(text) for text in changes]
    inner = [replace(layer, values=layer.values.get("model", layer.values)) for layer in layers]
    return ForeignSettings(**plain_values(ForeignSettings, Sources("model", inner)))


def find_model(place: str, settings: ForeignSettings) -> ForeignModel:
    """Return the network that ``package.module:NAME`` makes or is, with how it is asked.

    Who writes its place on the command line wants its code to run: that needs no further word of trust.

    Raises:
        ConfigError: there is none, or it is not told how images are fed to it.
    """
    found = registry.own_object(place, f"'{place}'")
    made = found if isinstance(found, nn.Module) else _made(place, found)
    if isinstance(made, ForeignModel):
        return made
    if not isinstance(made, nn.Module):
        raise ConfigError(f"'{place}' gives a {type(made).__name__}, a torch.nn.Module is needed")
    names = _class_names(settings.class_names)
    return ForeignModel(made, _preprocess(place, settings), names, settings.output, settings.label)


def image_tensor(files: Sequence[File], settings: ForeignSettings) -> Tensor:
    """Return image files as (B, 3, H, W) in [0, 1], at the size that is asked for.

    Raises:
        ConfigError: that is no size.
    """
    given = settings.image_size
    size = given if isinstance(given, list) else [given, given]
    if len(size) != 2 or not all(isinstance(side, int) and 2 <= side <= _LARGEST for side in size):
        raise ConfigError(
            f"model: image_size: {given} given, a number or [height, width] from 2 to {_LARGEST} is needed"
        )
    return read_images(files, DataSpec((), image_size=(size[0], size[1]), resize=settings.resize))


def short_name(place: str) -> str:
    """Return what a report calls a model: the name without its module."""
    return place.partition(":")[2]


def _made(place: str, make: Any) -> Any:
    """Call what makes a model."""
    if not callable(make):
        raise ConfigError(f"'{place}' is a {type(make).__name__}: a network, or a function that makes one, is needed")
    try:
        inspect.signature(make).bind()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"'{place}' cannot be called without arguments: {error}") from None
    torch.manual_seed(0)  # of a network without trained weights: the same again, so that a comparison can go on
    try:
        return make()
    except Exception as error:  # whatever the code of a stranger does
        raise ConfigError(f"'{place}' fails: {told(error)}") from error


def _preprocess(place: str, settings: ForeignSettings) -> Preprocess:
    if settings.mean is not None or settings.std is not None:
        if settings.preprocess is not None:
            raise ConfigError("model: preprocess: give a name, or mean and std, not both")
        given = {"mean": settings.mean, "std": settings.std}
        return {name: values for name, values in given.items() if values is not None}
    if settings.preprocess is None:
        raise ConfigError(
            f"'{place}': how is it fed? Say model.preprocess=unit if it takes pixels in [0, 1], "
            "model.preprocess=imagenet if these less ImageNet's mean and over its deviation, or model.mean=[r,g,b] "
            "model.std=[r,g,b]"
        )
    if _PLACE.fullmatch(settings.preprocess):
        own = registry.own_object(settings.preprocess, "model: preprocess")
        return own() if isinstance(own, type) else own  # type: ignore[no-any-return]  # checked by ForeignModel
    return settings.preprocess  # type: ignore[return-value]  # checked by ForeignModel


def _class_names(given: Any) -> list[str]:
    """Return names of classes: a list, or the lines of a file."""
    if isinstance(given, str) and Path(given).is_file():
        given = Path(given).read_text(encoding="utf-8").splitlines()
    if not isinstance(given, list):
        raise ConfigError(f"model: class_names: '{given}' given, a list [a,b,c] or a text file of lines is needed")
    return [str(name).strip() for name in given if str(name).strip()]
