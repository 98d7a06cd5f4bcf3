"""One picture of what several methods say about the same thing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.base import Explanation
from ibd.explain.colors import LINEAR_MAP, own_colors
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay

_MOST_COLUMNS = 7
_CAPTION = "Red speaks for what is explained, blue against it; full strength is the 99th percentile of each map."
_SEEN = "Left out: what lies where nobody sees a detail of a picture of {:g} degrees of visual angle."
_COLORS = "In colors: what the network looked for in each pixel, as opaque as what is added around it."


def explanations_figure(
    images: Tensor, explanations: Sequence[Explanation], titles: Sequence[str], degrees: float | None = None
) -> Figure:
    """Return a labeled picture: for each image the image itself, then the map of each explanation.

    Args:
        images: (B, C, H, W) in [0, 1]; gray where C is not 3.
        explanations: explanations of these images, of single targets, whose maps are (B, H, W); those without a map are
            left out. What a B-cos network says of itself is also drawn in the colors of its linear map.
        titles: titles of the B images: what is explained.
        degrees: visual angle of an image's shorter side: what nobody sees so is not painted; None paints all.
    """
    shown = [explanation for explanation in explanations if explanation.map is not None]
    colored = [explanation for explanation in shown if LINEAR_MAP in explanation.extra]
    count = 1 + len(shown) + len(colored)
    columns = min(_MOST_COLUMNS, count)
    lines = -(-count // columns)
    figure = PlainFigure(figsize=(2.1 * columns, 2.3 * lines * len(images) + 0.25), layout="constrained")
    axes = figure.subplots(lines * len(images), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, image in enumerate(images):
        cells = axes[row * lines : (row + 1) * lines].flatten()
        cells[0].imshow(pixels_of(image), interpolation="nearest")
        cells[0].set_title(shorten(titles[row], 32), fontsize=9)
        for cell, explanation in zip(cells[1:], shown, strict=False):
            assert explanation.map is not None
            painted = overlay(image, explanation.map[row], normalization="percentile", degrees=degrees)
            cell.imshow(painted, interpolation="nearest")
            cell.set_title(shorten(explanation.method, 24), fontsize=9)
        for cell, explanation in zip(cells[1 + len(shown) :], colored, strict=False):
            assert explanation.map is not None
            cell.imshow(own_colors(explanation.extra[LINEAR_MAP][row], explanation.map[row]), interpolation="nearest")
            cell.set_title(f"{shorten(explanation.method, 14)}, in colors", fontsize=9)
    caption = f"{_CAPTION} {_COLORS}" if colored else _CAPTION
    caption += "" if degrees is None else f" {_SEEN.format(degrees)}"
    figure.supxlabel(textwrap.fill(caption, 28 * columns), fontsize=8, color="#495057")
    return figure


def cost_table(explanations: Sequence[Explanation]) -> str:
    """Return what each explanation took, as text: passes of one image through the model and back, and seconds."""
    width = max(6, *(len(explanation.method) for explanation in explanations))
    lines = [f"{'method':<{width}}  {'forwards':>9}  {'backwards':>9}  {'seconds':>8}"]
    lines += [
        f"{e.method:<{width}}  {e.cost.forwards:>9g}  {e.cost.backwards:>9g}  {e.cost.seconds:>8.3f}"
        for e in explanations
    ]
    return "\n".join(lines)
