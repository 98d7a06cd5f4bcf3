"""An activation atlas as a picture: its cells, framed by the class that they do most for, and the places under them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.explain.atlas import Atlas, Sampled
from ibd.explain.code_map_figures import colors_of, framed
from ibd.explain.pixels import pixels_of

_NAMED = 20
_FAINT = "#dee2e6"


def top_classes(atlas: Atlas) -> torch.Tensor:
    """Return for each of the n cells the position, among the atlas's classes, of that which it does most for."""
    return atlas.parts.argmax(1)


def atlas_figure(atlas: Atlas, sampled: Sampled, class_names: Sequence[str]) -> Figure:
    """Return an atlas beside the places that it averages; colors are of classes.

    Args:
        atlas: the atlas.
        sampled: the places that it was made of.
        class_names: names of all classes of the data.
    """
    figure = PlainFigure(figsize=(6.2 + 3.6 + 1.5, 6.5), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, width_ratios=(6.2, 3.6))
    colors = dict(zip(atlas.classes, colors_of(len(atlas.classes)), strict=True))
    used = _cells(left, atlas, colors)
    _places(right, atlas, sampled, colors)
    shown = [number for number in atlas.classes if number in used][:_NAMED]
    for number in shown:
        right.scatter([], [], s=18, color=colors[number], label=shorten(class_names[number], 24))
    if shown:
        figure.legend(loc="outside right center", fontsize=7, frameon=False)
    undrawn = len(atlas.cells) - len(atlas.images)
    note = (
        f"'{atlas.layer}': what excites it as the mean of each cell's places does; frame: the class whose logit the "
        f"places raise most. Right: the {len(sampled.vectors)} places, by the class of their image."
    )
    note += f" Gray: {undrawn} cells that were not drawn." if undrawn else ""
    figure.supxlabel(textwrap.fill(note, 120), fontsize=8, color="#495057")
    return figure


def _cells(axis: Axes, atlas: Atlas, colors: dict[int, str]) -> set[int]:
    """Draw the cells; return the classes of their frames."""
    used = set()
    for number, ((row, column), top) in enumerate(zip(atlas.cells.tolist(), top_classes(atlas).tolist(), strict=True)):
        box = (column + 0.04, column + 0.96, row + 0.96, row + 0.04)
        own = atlas.classes[top]
        used.add(own)
        if number < len(atlas.images):
            edge = atlas.images.shape[-1] // 8  # where images are blurred by the movements
            side = atlas.images.shape[-1]
            middle = atlas.images[number, :, edge : side - edge, edge : side - edge]
            axis.imshow(framed(pixels_of(middle), colors[own]), extent=box, interpolation="bilinear")
        else:
            axis.fill([box[0], box[1], box[1], box[0]], [box[2], box[2], box[3], box[3]], color=_FAINT)
    axis.set(xlim=(0, atlas.grid), ylim=(atlas.grid, 0), aspect="equal")
    axis.set_axis_off()
    return used


def _places(axis: Axes, atlas: Atlas, sampled: Sampled, colors: dict[int, str]) -> None:
    places = atlas.map.places
    inks = [colors.get(label, _FAINT) for label in sampled.labels.tolist()]
    axis.scatter(places[:, 0], places[:, 1], s=4, c=inks, linewidths=0)
    for line in range(atlas.grid + 1):
        axis.axhline(line / atlas.grid, color=_FAINT, linewidth=0.4, zorder=0)
        axis.axvline(line / atlas.grid, color=_FAINT, linewidth=0.4, zorder=0)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])
