"""A map of codes as a picture: points in the colors of a class, a concept or an error, and thumbnails beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ibd.drawing import PlainFigure, shorten
from ibd.explain.code_map import CodeMap
from ibd.explain.pixels import pixels_of

_GRID = 16
"""Cells of a map along a side, of which each has one thumbnail at most."""
_NAMED = 20
"""Groups in a legend."""
_UNKNOWN = "#adb5bd"


@dataclass(frozen=True)
class Groups:
    """What the images of a map are told apart by.

    Attributes:
        title: what that is.
        names: names of the groups.
        index: (N,) group of each image; -1 where it is unknown.
    """

    title: str
    names: Sequence[str]
    index: Tensor


def of_classes(labels: Tensor, names: Sequence[str]) -> Groups:
    """Return the images by their class."""
    return Groups("class", names, labels)


def of_concept(values: Tensor, name: str) -> Groups:
    """Return the images by a concept, (N,) from 0 to 1 or NaN."""
    index = torch.where(values.isnan(), -1, (values >= 0.5).long())
    return Groups(name, ["absent", "there"], index)


def of_errors(labels: Tensor, predicted: Tensor) -> Groups:
    """Return the images by whether the model's class for them is right."""
    return Groups("prediction", ["right", "wrong"], (labels != predicted).long())


def colors_of(count: int) -> list[str]:
    """Return a color for each of some groups; up to ten are told apart well, two by color-blind people, too."""
    if count <= 2:
        return ["#0072b2", "#d55e00"][:count]
    table = colormaps["tab10" if count <= 10 else "tab20" if count <= 20 else "hsv"]
    places: Sequence[float] = range(count) if count <= 20 else np.linspace(0, 0.95, count).tolist()
    return [to_hex(table(place)) for place in places]


def shown_thumbnails(places: Tensor, most: int) -> list[int]:
    """Return the images that are drawn: the first in each cell of the map, and at most so many, spread evenly."""
    cells = (places * _GRID).long().clamp(max=_GRID - 1)
    first = list({tuple(cell): number for number, cell in reversed(list(enumerate(cells.tolist())))}.values())
    step = max(1, -(-len(first) // most))
    return sorted(first)[::step]


def code_map_figure(
    codes: CodeMap, groups: Groups, thumbnails: Tensor | None = None, shown: Sequence[int] = (), note: str = ""
) -> Figure:
    """Return a map of codes: points by group, and thumbnails in frames of the same colors.

    Args:
        codes: places of N images.
        groups: what they are told apart by.
        thumbnails: (T, 3, s, s) in [0, 1]; None draws points alone.
        shown: the T images that these are of.
        note: a line below.
    """
    panels = 1 if thumbnails is None else 2
    figure = PlainFigure(figsize=(4.6 * panels + 1.4, 4.9), layout="constrained", dpi=150)
    axes = figure.subplots(1, panels, squeeze=False)[0].tolist()
    colors = colors_of(len(groups.names))
    _points(axes[0], codes.places, groups, colors)
    if thumbnails is not None:
        _thumbnails(axes[1], codes.places, groups, colors, thumbnails, shown)
    handles, texts = axes[0].get_legend_handles_labels()
    title = shorten(groups.title, 24)
    figure.legend(handles, texts, loc="outside right center", fontsize=7, title=title, title_fontsize=8, frameon=False)
    if note:
        figure.supxlabel(textwrap.fill(note, 64 * panels), fontsize=8, color="#495057")
    return figure


def _points(axis: Axes, places: Tensor, groups: Groups, colors: Sequence[str]) -> None:
    _plain(axis)
    index = groups.index
    counts = torch.bincount(index[index >= 0], minlength=len(groups.names)).tolist()
    if bool((index < 0).any()):
        own = places[index < 0]
        axis.scatter(own[:, 0], own[:, 1], s=9, color=_UNKNOWN, linewidths=0, label="unknown")
    for group in sorted(range(len(counts)), key=lambda number: -counts[number]):  # the rarest on top
        own = places[index == group]
        if len(own):
            axis.scatter(own[:, 0], own[:, 1], s=11, color=colors[group], linewidths=0, alpha=0.85)
    for group, name in list(enumerate(groups.names))[:_NAMED]:
        axis.scatter([], [], s=14, color=colors[group], label=f"{shorten(name, 24)} ({counts[group]})")
    if len(groups.names) > _NAMED:
        axis.scatter([], [], s=0, color="white", label=f"... {len(groups.names)} in all")


def _thumbnails(
    axis: Axes, places: Tensor, groups: Groups, colors: Sequence[str], thumbnails: Tensor, shown: Sequence[int]
) -> None:
    _plain(axis)
    half = 0.44 / _GRID
    for number, picture in zip(shown, thumbnails, strict=True):
        x, y = places[number].tolist()
        group = int(groups.index[number])
        axis.imshow(
            framed(pixels_of(picture), colors[group] if group >= 0 else _UNKNOWN),
            extent=(x - half, x + half, y - half, y + half),
            interpolation="nearest",
        )
    axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")


def framed(picture: np.ndarray, color: str) -> np.ndarray:
    """Return a (H, W, 3) picture in [0, 1] in a frame of a color."""
    wide = max(1, round(0.06 * len(picture)))
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    frame = np.empty((picture.shape[0] + 2 * wide, picture.shape[1] + 2 * wide, 3), dtype=np.float32)
    frame[:] = (red, green, blue)
    frame[wide:-wide, wide:-wide] = picture
    return frame


def thumbnail(image: Tensor, side: int = 32) -> Tensor:
    """Return an image (3, H, W) as a square of so many pixels, (3, side, side); cut to a square in its middle."""
    edge = min(image.shape[1:])
    top, left = (image.shape[1] - edge) // 2, (image.shape[2] - edge) // 2
    square = image[:, top : top + edge, left : left + edge].float().unsqueeze(0)
    return F.interpolate(square, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)


def _plain(axis: Axes) -> None:
    axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_color("#dee2e6")
