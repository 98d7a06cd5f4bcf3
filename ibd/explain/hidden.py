"""What hidden layers put out, as a target reads it: a channel of any layer, as a whole or at one place.

With such a target an explainer sees the model as if it ended at the layer: nothing after it runs, so that guided
backpropagation or deconvnet of a hidden unit (Zeiler & Fergus 2014, Springenberg et al. 2015) needs no model that is
cut off by hand.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import Reader
from ibd.explain.arrangement import Arrangement
from ibd.explain.layer_layout import as_map
from ibd.explain.layouts import Layout

Cell = tuple[int, int]
Place = Literal["mean", "peak"] | Cell | tuple[Cell, ...]
"""Where in a layer's map: the mean over it, where it is highest in each image, a row and column, or one for each."""


@dataclass(frozen=True)
class Seen:
    """What a pass showed.

    Attributes:
        output: what the model returned; None where it ran no further than to the layers.
        layers: name -> (B, D, h, w), or (B, D) of a layer that is no map.
    """

    output: Any
    layers: dict[str, Tensor]


class HiddenLayers:
    """Reads layers of a model, whatever their layout is. How they lie is told by passes of one image.

    Args:
        model: model, run as it is.
        names: names of the layers.
        image: (B, 3, H, W), of which the first is looked at.
        layout: layout of the layers' outputs.
        whole: whether what the model returns is needed as well; else it runs no further than to the last of the layers.

    Attributes:
        passes: passes of one image that it took to look.

    Raises:
        ConfigError: there is no such layer.
        UnsupportedError: a layer does not run, puts out no map and no vector, or it cannot be told how it lies.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], image: Tensor, layout: Layout, whole: bool) -> None:
        self._reader, self._whole = Reader(model, names), whole
        self._lie: dict[str, Arrangement] = {}
        self.passes = 2
        first = image[:1].detach().clone()
        with torch.no_grad():
            outputs = self._reader(first)
        for name, output in outputs.items():
            if output.dim() != 2:
                self._lie[name] = as_map(model, first, name, output, layout)[1]
                self.passes += 1

    def __call__(self, image: Tensor) -> Seen:
        """Return what images show; a graph goes through, where there is one."""
        outputs, returned = self._reader.whole(image) if self._whole else (self._reader(image), None)
        return Seen(returned, {n: self._lie[n].to_map(v) if n in self._lie else v for n, v in outputs.items()})


def checked_place(row: int | None, column: int | None) -> Place:
    """Return a place as a target has it: that of a row and a column, or, without both, where the channel is highest.

    Raises:
        ConfigError: only one of them is given, or what is no number counted from 0.
    """
    if row is None and column is None:
        return "peak"
    try:
        cell = (operator.index(row), operator.index(column))  # type: ignore[arg-type]
    except TypeError:
        cell = (-1, -1)
    if min(cell) < 0:
        raise ConfigError(
            f"target: neuron: row {row!r}, column {column!r}: two numbers counted from 0, or none, needed"
        )
    return cell


def layer_of(seen: object, layer: str) -> Tensor:
    """Return what a layer put out, (B, D, h, w) or (B, D).

    Raises:
        UnsupportedError: only what the model returned is known.
    """
    if not isinstance(seen, Seen):
        raise UnsupportedError(
            f"target: only explainers read what layer '{layer}' puts out: call one with this target; images are made "
            "for it by Objective.neuron and Objective.channel"
        )
    return seen.layers[layer]


def value_at(values: Tensor, channels: Tensor, place: Place, layer: str) -> Tensor:
    """Return (B,): one channel of each image, at a place.

    Args:
        values: (B, D, h, w), or (B, D) of a layer without places.
        channels: (B,) numbers.
        place: place, as of `Place`.
        layer: name of the layer, for messages.

    Raises:
        ConfigError: there is no such place.
    """
    cells = values.flatten(2) if values.dim() == 4 else values.unsqueeze(2)
    index = channels.view(-1, 1, 1).expand(-1, 1, cells.shape[2])
    own = cells.gather(1, index).squeeze(1)
    if place == "mean":
        return own.mean(1)
    return own.gather(1, _positions(values, own, place, layer).unsqueeze(1)).squeeze(1)


def peaks(values: Tensor, channels: Tensor) -> tuple[Cell, ...]:
    """Return for each image the row and column at which its channel is highest; of several the first."""
    if values.dim() != 4:
        return ((0, 0),) * len(values)
    width = values.shape[3]
    own = values.detach().flatten(2).gather(1, channels.view(-1, 1, 1).expand(-1, 1, values[0, 0].numel()))
    return tuple(divmod(int(cell), width) for cell in own.squeeze(1).argmax(1).tolist())


def own_map(ends: Sequence[str]) -> UnsupportedError:
    """Return the error for a unit of a layer that is to be explained by the last map there is."""
    return UnsupportedError(
        f"the last map before a unit of '{ends[-1]}' is that layer's own: name an earlier layer, by whose output the "
        "unit is explained, or use a method of pixels"
    )


def _positions(values: Tensor, own: Tensor, place: Place, layer: str) -> Tensor:
    """Return the (B,) positions, row by row, of a place in each image's map."""
    if isinstance(place, str):
        return own.detach().argmax(1)
    rows, columns = (values.shape[2], values.shape[3]) if values.dim() == 4 else (1, 1)
    given = place if isinstance(place[0], tuple) else (place,) * len(values)
    for row, column in given:
        if row >= rows or column >= columns:
            raise ConfigError(f"target: no place {row}, {column} in '{layer}' of {rows} x {columns}, counted from 0")
    if len(given) != len(values):
        raise ConfigError(f"target: {len(given)} places for {len(values)} images")
    return torch.tensor([row * columns + column for row, column in given], device=values.device)
