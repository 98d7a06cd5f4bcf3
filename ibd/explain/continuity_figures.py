"""The picture of the continuity example: the moved image, the maps below it, and how much each of them jumps."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.explain.continuity import Continuity
from ibd.explain.pixels import pixels_of
from ibd.explain.render import color_map

_MOST = 9
"""Columns: of more steps some are drawn."""


def continuity_figure(found: Continuity, title: str = "") -> Figure:
    """Return a column for each step with the image and the maps, each in its method's scale, and curves of the change.

    Args:
        found: what was measured.
        title: what is explained.
    """
    count = len(found.images)
    columns = sorted({round(place * (count - 1) / (min(count, _MOST) - 1)) for place in range(min(count, _MOST))})
    rows = 1 + len(found.maps)
    figure = PlainFigure(figsize=(1.15 * len(columns) + 5.2, 1.2 * rows + 0.9), layout="constrained", dpi=130)
    parts: Any = figure.subfigures(1, 2, width_ratios=[1.15 * len(columns) + 0.8, 4.2])
    left, right = parts
    axes = left.subplots(rows, len(columns), squeeze=False)
    pictures = {name: color_map(maps[columns], normalization="shared") for name, maps in found.maps.items()}
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for place, step in enumerate(columns):
        axes[0][place].imshow(pixels_of(found.images[step]), interpolation="nearest")
        other = "" if bool(found.kept[step]) else ", other class"
        axes[0][place].set_title(f"{step * found.pixels} px{other}", fontsize=7)
        for row, name in enumerate(found.maps, 1):
            axes[row][place].imshow(pictures[name][place], interpolation="nearest")
    for row, name in enumerate(found.maps, 1):
        axes[row][0].set_ylabel(shorten(name, 18), fontsize=7)
    axis = right.subplots()
    for name, values in found.change.items():
        steps = [found.pixels * (step + 1) for step in range(len(values))]
        axis.plot(steps, values.tolist(), "o-", ms=3, label=f"{shorten(name, 24)}: {found.largest()[name]:.2f}")
    axis.set_xlabel("pixels to the right", fontsize=8)
    axis.set_ylabel("change of the map by that of the image", fontsize=8)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, title="largest", title_fontsize=7)
    note = f"{title}. Maps: red speaks for, blue against; one scale for each row."
    figure.supxlabel(note, fontsize=8, color="#495057")
    return figure
