"""The picture of a class's clusters of maps: the spectrum that tells how many there are, and what each looks like."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.figures import GRAY, ORANGE
from ibd.explain.pixels import pixels_of
from ibd.explain.relevance_clusters import Clustering
from ibd.explain.render import overlay, upsample
from ibd.explain.strategies import MapCluster, Spray

_NOTE = "#495057"
_SIDE = 1.25
_WIDTH = 2.6
"""Inches of what is said of a cluster, beside its pictures."""
_CAPTION = (
    "First picture of a row: the mean image, and on it where the relevance of the cluster lies on average; then the "
    "images nearest to that, each with its map. Red speaks for the class, blue against. Strangeness 1: under the "
    "relevance lie the same pixels in every image of the cluster; 0: as different ones as anywhere."
)


def spray_figure(found: Spray, title: str, examples: Sequence[Tensor], notes: Sequence[str]) -> Figure:
    """Return the clusters of a class's maps, the strangest on top, below the spectrum that tells their number.

    Args:
        found: what `ibd.explain.spray` returned.
        title: name of the class.
        examples: for each cluster (n, 3, H, W) images in [0, 1] of its first n members.
        notes: for each cluster what else is known of it, such as on what its relevance lies.
    """
    rows, columns = len(found.clusters), 1 + 2 * max(len(images) for images in examples)
    width = _WIDTH + _SIDE * columns
    figure = PlainFigure(figsize=(width, 2.3 + (_SIDE + 0.1) * rows + 0.5), layout="constrained", dpi=110)
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.1, (_SIDE + 0.1) * rows])  # two of them
    top, below = parts
    images = f"{len(found.given)} images"
    figure.suptitle(f"{shorten(title, 40)}: {_kinds(found.clustering.count)} of maps of {images}", fontsize=10)
    _spectrum(top.subplots(), found.clustering)
    ratios = [_WIDTH, *[_SIDE] * columns]
    axes = below.subplots(rows, 1 + columns, squeeze=False, gridspec_kw={"width_ratios": ratios})
    for row, (cluster, shown, note) in enumerate(zip(found.clusters, examples, notes, strict=True)):
        for axis in axes[row]:
            axis.set_axis_off()
        _say(axes[row, 0], row, cluster, note)
        _draw(axes[row, 1:], found, cluster, shown)
    _note(below, textwrap.fill(_CAPTION, int(14 * width)))
    return figure


def _kinds(count: int) -> str:
    return "one kind" if count == 1 else f"{count} kinds"


def _spectrum(axis: Axes, clustering: Clustering) -> None:
    """Draw the eigenvalues, and the gap by which the clusters were counted."""
    values = clustering.eigenvalues.tolist()
    count = clustering.count
    colors = [ORANGE if place < count else GRAY for place in range(len(values))]
    axis.bar(range(1, len(values) + 1), values, color=colors, width=0.6)
    said = f"largest relative gap {clustering.gap:.2f}; without clusters up to {clustering.chance:.2f}"
    if 1 < count < len(values):
        ends = {"arrowstyle": "<->", "color": ORANGE}
        axis.annotate("", (count + 0.5, values[count]), (count + 0.5, values[count - 1]), arrowprops=ends)
        axis.text(count + 0.45, values[count], "gap", ha="right", va="center", fontsize=8, color=ORANGE)
    axis.set_title(said, fontsize=8, color=_NOTE)
    axis.set_xticks(range(1, len(values) + 1))
    axis.set_xlabel("eigenvalue of the graph of maps", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _say(axis: Axes, row: int, cluster: MapCluster, note: str) -> None:
    said = [
        f"cluster {row + 1}: {len(cluster)} images",
        f"strangeness {cluster.strangeness:.2f}",
        f"half of its relevance on {cluster.half:.1%}",
    ]
    lines = [*said, *textwrap.wrap(note, 34)]
    axis.text(0, 0.5, "\n".join(lines), fontsize=8, va="center", transform=axis.transAxes)


def _draw(axes: Sequence[Axes], found: Spray, cluster: MapCluster, shown: Tensor) -> None:
    mean = found.given.small[cluster.members].mean(0)
    size = (cluster.relevance.shape[0], cluster.relevance.shape[1])
    axes[0].imshow(overlay(upsample(mean[None], size)[0], cluster.relevance, normalization="percentile"))
    for place, (member, image) in enumerate(zip(cluster.members.tolist(), shown, strict=False)):
        heat = overlay(image, found.given.maps[member], normalization="percentile")
        axes[1 + 2 * place].imshow(pixels_of(image), interpolation="nearest")
        axes[2 + 2 * place].imshow(heat, interpolation="nearest")


def _note(figure: SubFigure, text: str) -> None:
    figure.supxlabel(text, fontsize=7.5, color=_NOTE)
