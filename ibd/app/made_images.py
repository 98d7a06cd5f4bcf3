"""What the verbs that make images share: the model that is asked, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ibd.app.foreign import find_model, is_place, read_settings, short_name
from ibd.app.over_data import number
from ibd.app.terminal import options
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.activations import device_of, find_layer
from ibd.explain.base import undisturbed
from ibd.explain.feature_visualization.maximize import as_input, read_layer
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.names import names_of
from ibd.explain.targets import Target, logits_of
from ibd.io import find_run, load_model
from ibd.models.inputs import read_images
from ibd.types import DataSpec, Resize

_TARGETS = 10
"""Classes that are drawn where none is named."""
_LARGEST = 2048


class Asked(NamedTuple):
    """A model in evaluation mode, the folder for pictures, the verb's options, and how images are brought to it.

    Attributes:
        model: the model.
        folder: folder for pictures.
        options: the verb's own options.
        size: H and W of its images.
        resize: way to bring images there.
        data: changes to the data, or what names it.
        run: what was given.
    """

    model: nn.Module
    folder: Path
    options: dict[str, str]
    size: tuple[int, int]
    resize: Resize
    data: list[str]
    run: str


class Wanted(NamedTuple):
    """What images are made for, one for each of K classes, units or channels.

    Attributes:
        objective: objective of all of them.
        names: K names.
        classes: K classes by number; None of units and channels.
        natural: (B, C, H, W) images -> (B, K): how much of each there is in images as they are.
    """

    objective: Objective
    names: list[str]
    classes: tuple[int, ...] | None
    natural: Callable[[Tensor], Tensor]


def asked_model(verb: str, run: str, changes: Sequence[str], known: Sequence[str]) -> Asked:
    """Return the model that is asked, and how.

    Args:
        verb: name of the verb, for messages.
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``key=value``: options of the verb, ``data=`` and ``data.key=value``, and of a network of anybody's
            ``model.key=value``, see `ibd.app.foreign.ForeignSettings`.
        known: names of the options of the verb.

    Raises:
        ConfigError: an unknown option, a size that is none, or a network that cannot be asked.
    """
    of_model = [text for text in changes if text.startswith("model.")]
    of_data = [text for text in changes if text.startswith(("data.", "data="))]
    rest = options([text for text in changes if text not in (*of_model, *of_data)])
    for key in rest:
        if key not in known:
            raise ConfigError(f"{verb}: there is no option '{key}'.{did_you_mean(key, known)}")
    said = {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in rest.items()}
    side = number(verb, said, "size", 0, least=0) if "size" in said else None
    if side is not None and not 8 <= side <= _LARGEST:
        raise ConfigError(f"{verb}: size: {side} given, a number of pixels from 8 to {_LARGEST} is needed")
    if not is_place(run):
        if of_model:
            raise ConfigError(f"{verb}: '{of_model[0]}': a run says itself how its model is asked")
        ours = load_model(run).eval()
        size = ours.spec.image_size if side is None else (side, side)
        return Asked(ours, find_run(run) / "figures", said, size, ours.spec.resize, of_data, run)
    settings = read_settings(of_model)
    model, whole = find_model(run, settings).eval(), settings.image_size
    size = (side, side) if side is not None else tuple(whole) if isinstance(whole, list) else (whole, whole)
    model.check(torch.rand(7, 3, *size, generator=torch.Generator().manual_seed(0)), model.class_names)
    return Asked(model, Path(short_name(run)), said, cast(Any, size), settings.resize, of_data, run)


def picture_of(asked: Asked, image: str) -> Tensor:
    """Return an image file as (1, 3, H, W) in [0, 1]."""
    spec = DataSpec((), image_size=asked.size, resize=asked.resize)
    return read_images([image], spec).to(device_of(asked.model))


def class_names(model: nn.Module) -> list[str]:
    """Return the names of a model's classes; none where it has none."""
    return list(names_of(model, "class") or {})


def wanted_of(verb: str, model: nn.Module, targets: Sequence[str], scalar: str = "log_prob") -> Wanted:
    """Return what texts mean.

    Args:
        verb: name of the verb, for messages.
        model: the model.
        targets: classes by number or name, units by name, or channels as ``LAYER:NUMBER``, all of a kind; none are the
            first ten classes.
        scalar: scalar of classes.

    Raises:
        ConfigError: one that there is not, or of several kinds.
    """
    classes, units = class_names(model), list(names_of(model, "unit") or {})
    texts = list(targets) or [str(place) for place in range(min(_TARGETS, len(classes) or _outputs(model)))]
    channels = [found for text in texts if text not in (*classes, *units) and (found := _channel(model, text))]
    if len(channels) == len(texts):
        return _of_channels(verb, model, channels)
    if all(text in units and text not in classes for text in texts):
        index = [units.index(text) for text in texts]
        target = Target.units(index)
        return Wanted(Objective.unit(index), texts, None, lambda image: target.scores(model(as_input(model, image))))
    index = [_class(verb, text, classes, units) for text in texts]
    names = [classes[place] if place < len(classes) else f"class {place}" for place in index]
    probable = Target.classes(index, "prob")
    return Wanted(
        Objective.cls(index, cast(Any, scalar)),
        names,
        tuple(index),
        lambda image: probable.scores(model(as_input(model, image))),
    )


def _of_channels(verb: str, model: nn.Module, channels: Sequence[tuple[str, int]]) -> Wanted:
    layers = sorted({layer for layer, _ in channels})
    if len(layers) > 1:
        raise ConfigError(f"{verb}: channels of one layer at a time are drawn, not of {', '.join(layers)}")
    numbers = [place for _, place in channels]

    def natural(image: Tensor) -> Tensor:
        output = read_layer(model, image, layers[0])
        return (output.flatten(2).mean(2) if output.dim() > 2 else output)[:, numbers]

    names = [f"channel {place}" for place in numbers]
    return Wanted(Objective.channel(layers[0], numbers), names, None, natural)


def _class(verb: str, text: str, classes: list[str], units: list[str]) -> int:
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and (not classes or int(text) < len(classes)):
        return int(text)
    also = " (classes, units and channels are drawn one kind at a time)" if text in units or ":" in text else ""
    raise ConfigError(f"{verb}: no class is called '{text}'{also}.{did_you_mean(text, [*classes, *units])}")


def _channel(model: nn.Module, text: str) -> tuple[str, int] | None:
    """Return layer and channel of ``LAYER:NUMBER``; None of anything else."""
    layer, colon, channel = text.rpartition(":")
    if not colon or not channel.isdecimal() or layer.endswith(":"):
        return None
    find_layer(model, layer)
    return layer, int(channel)


def _outputs(model: nn.Module) -> int:
    image = torch.full((1, 3, 64, 64), 0.5)
    with undisturbed(model), torch.no_grad():
        return logits_of(model(as_input(model, image))).shape[1]
