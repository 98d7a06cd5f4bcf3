"""Pictures of curves over channels of a layer: accuracy without them, and what they cover."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.figures import GRAY, ORANGE
from ibd.explain.layer_ablation import UnitAblation
from ibd.explain.layer_coverage import UnitCoverage

_BLUE, _NOTE = "#1971c2", "#495057"


def unit_ablation_figure(curves: Sequence[UnitAblation]) -> Figure:
    """Return the accuracy without channels of each layer, over the share that is taken out."""
    figure = PlainFigure(figsize=(4.1 * len(curves) + 0.6, 3.9), layout="constrained", dpi=130)
    for axis, found in zip(figure.subplots(1, len(curves), squeeze=False, sharey=True)[0], curves, strict=True):
        low, high = found.interval()
        share = [count / found.channels for count in found.counts]
        _lines(axis, share, found.most, found.least, found.random, (low.tolist(), high.tolist()))
        axis.set_title(f"{shorten(found.layer, 30)}, {found.channels} channels", fontsize=9)
        axis.set_xlabel("share of the channels that is taken out", fontsize=9)
        axis.set_ylim(-0.02, 1.02)
    figure.axes[0].set_ylabel("accuracy", fontsize=9)
    figure.axes[0].legend(fontsize=8)
    first = curves[0]
    note = f"{first.images} images. Band: 95 % interval of the mean of {len(first.random)} random orders."
    if first.by_class:
        note += " Each image goes by the order of its own class: without what speaks against that, more may be right."
    figure.supxlabel(textwrap.fill(note, 64 * len(curves)), fontsize=8, color=_NOTE)
    return figure


def unit_coverage_figure(curves: Sequence[UnitCoverage]) -> Figure:
    """Return the semantic coverage of channels of each layer, over how many are taken."""
    figure = PlainFigure(figsize=(4.1 * len(curves) + 0.6, 3.9), layout="constrained", dpi=130)
    for axis, found in zip(figure.subplots(1, len(curves), squeeze=False, sharey=True)[0], curves, strict=True):
        ends = found.random.amin(0).tolist(), found.random.amax(0).tolist()
        _lines(axis, list(found.counts), found.most, found.least, found.random, ends)
        axis.set_title(f"{shorten(found.layer, 30)}, {len(found.iou)} channels", fontsize=9)
        axis.set_xlabel("channels that are taken", fontsize=9)
        axis.set_xscale("log", base=2)
        axis.set_xticks(found.counts, [str(count) for count in found.counts], fontsize=7)
    figure.axes[0].set_ylabel("IoU of the best, mean by area", fontsize=9)
    figure.axes[0].legend(fontsize=8)
    note = f"Band: from the least to the largest of {len(curves[0].random)} random orders."
    figure.supxlabel(note, fontsize=8, color=_NOTE)
    return figure


def _lines(
    axis: Axes,
    x: Sequence[float],
    most: Tensor,
    least: Tensor,
    random: Tensor,
    ends: tuple[Sequence[float], Sequence[float]],
) -> None:
    axis.fill_between(x, *ends, color=GRAY, alpha=0.25, linewidth=0)
    axis.plot(x, random.mean(0).tolist(), "--", color=GRAY, label="at random")
    axis.plot(x, most.tolist(), "o-", ms=4, color=ORANGE, label="the most relevant first")
    axis.plot(x, least.tolist(), "s-", ms=3, color=_BLUE, label="the least relevant first")
    axis.grid(alpha=0.3)
