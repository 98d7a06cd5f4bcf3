"""Sheets of images that were made: a row for each recipe, a dream beside its image, an image seen by several layers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.feature_visualization.maximize import Visualization
from ibd.explain.figures import GRAY
from ibd.explain.pixels import pixels_of

_SIDE = 1.25


class Row(NamedTuple):
    """A row of a sheet.

    Attributes:
        title: text before it.
        images: (K, C, H, W) in [0, 1], or fewer than there are columns.
        texts: text above each.
    """

    title: str
    images: Tensor
    texts: Sequence[str]


def row_of(title: str, made: Visualization) -> Row:
    """Return the row of images that were made: above each the probability of its class, or else the objective."""
    if made.probability is None:
        return Row(title, made.image, [f"{value:.2g}" for value in made.value.tolist()])
    return Row(title, made.image, [f"p = {value:.2f}" for value in made.probability.tolist()])


def made_figure(rows: Sequence[Row], names: Sequence[str], note: str = "") -> Figure:
    """Return rows of images, a column for each name.

    Args:
        rows: rows, at least one.
        names: K names of classes, units or channels.
        note: text below.
    """
    columns = len(names)
    size = (_SIDE * (columns + 0.9), 1.22 * _SIDE * len(rows) + 0.5)
    figure = PlainFigure(figsize=size, layout="constrained", dpi=110)
    grid = figure.subplots(len(rows), 1 + columns, squeeze=False, width_ratios=[0.8, *[1.0] * columns])
    for number, row in enumerate(rows):
        _blank(grid[number][0])
        grid[number][0].text(1, 0.5, row.title, fontsize=8, ha="right", va="center")
        for place in range(columns):
            axis = grid[number][1 + place]
            _blank(axis)
            if place < len(row.images):
                axis.imshow(pixels_of(row.images[place]), interpolation="nearest")
                head = f"{shorten(names[place].replace('::', ' '), 18)}\n" if number == 0 else ""
                axis.set_title(head + row.texts[place], fontsize=7)
    if note:
        figure.supxlabel(textwrap.fill(note, int(14 * size[0])), fontsize=8, color=GRAY)
    return figure


def pair_figure(before: Tensor, after: Tensor, titles: tuple[str, str], note: str = "") -> Figure:
    """Return an image beside what became of it, (C, H, W) in [0, 1] each."""
    figure = PlainFigure(figsize=(7.4, 4.0), layout="constrained", dpi=110)
    for axis, image, title in zip(figure.subplots(1, 2), (before, after), titles, strict=True):
        _blank(axis)
        axis.imshow(pixels_of(image), interpolation="nearest")
        axis.set_title(title, fontsize=9)
    if note:
        figure.supxlabel(textwrap.fill(note, 100), fontsize=8, color=GRAY)
    return figure


def _blank(axis: Axes) -> None:
    axis.set_axis_off()
