"""An activation atlas as a picture: its cells, framed by the class that they do most for, and the places under them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.atlas import Atlas, Sampled
from ibd.explain.code_map_figures import colors_of, framed
from ibd.explain.pixels import pixels_of

_NAMED = 20
_FAINT = "#dee2e6"


def top_classes(atlas: Atlas) -> Tensor:
    """Return for each of the n cells the position, among the atlas's classes, of that which it does most for."""
    return atlas.parts.argmax(1)


def atlas_figure(atlas: Atlas, sampled: Sampled, class_names: Sequence[str], examples: Tensor | None = None) -> Figure:
    """Return an atlas, and beside it a patch for each cell, or the places that it averages; colors are of classes.

    Args:
        atlas: the atlas.
        sampled: the places that it was made of.
        class_names: names of all classes of the data.
        examples: (n, 3, s, s) patches of images, from `atlas_examples`; None draws the places as dots.
    """
    figure = PlainFigure(figsize=(12.4, 6.1), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    left.set_title("made", fontsize=9)
    right.set_title("found" if examples is not None else "the places", fontsize=9)
    colors = dict(zip(atlas.classes, colors_of(len(atlas.classes)), strict=True))
    edge = atlas.images.shape[-1] // 8  # where images are blurred by the movements
    used = _cells(left, atlas, atlas.images[..., edge:-edge, edge:-edge], colors)
    if examples is None:
        _places(right, atlas, sampled, colors)
        beside = f"the {len(sampled.vectors)} places, by the class of their image."
    else:
        _cells(right, atlas, examples, colors)
        beside = "a patch of an image, at the place that is nearest to the cell's mean."
    shown = [number for number in atlas.classes if number in used][:_NAMED]
    for number in shown:
        left.scatter([], [], s=18, color=colors[number], label=shorten(class_names[number], 24))
    if shown:
        figure.legend(loc="outside right center", fontsize=7, frameon=False)
    undrawn = len(atlas.cells) - len(atlas.images)
    note = (
        f"'{atlas.layer}', left: what excites it as the mean of each cell's places does; frame: the class whose logit "
        f"the places raise most. Right: {beside}"
    )
    note += f" Gray: not drawn, {undrawn} of {len(atlas.cells)} cells." if undrawn else ""
    figure.supxlabel(textwrap.fill(note, 150), fontsize=8, color="#495057")
    return figure


def _cells(axis: Axes, atlas: Atlas, pictures: Tensor, colors: dict[int, str]) -> set[int]:
    """Draw a picture for each cell, gray where there is none; return the classes of their frames."""
    used = set()
    for number, ((row, column), top) in enumerate(zip(atlas.cells.tolist(), top_classes(atlas).tolist(), strict=True)):
        box = (column + 0.04, column + 0.96, row + 0.96, row + 0.04)
        own = atlas.classes[top]
        used.add(own)
        if number < len(pictures):
            axis.imshow(framed(pixels_of(pictures[number]), colors[own]), extent=box, interpolation="bilinear")
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
