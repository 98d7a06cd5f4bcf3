"""Charts of what was measured on axes: which answers to which concept, what is correlated, what the classes rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.figures import GRAY, GREEN, ORANGE
from ibd.metrics.whitening import mean_off_diagonal

_NOTE = "#495057"
_GRAY_NOTE = "gray: no image known to hold it, or none not to"
_WIDTH = 30
"""Characters of a name."""
_CHANNELS = 64
"""Rows of a correlation matrix that can be told apart."""


def auc_figure(auc: Tensor, names: Sequence[str]) -> Figure:
    """Return how well each concept's axis ranks the images by each concept; the diagonal is the concept's own.

    Args:
        auc: (K, U), U >= K, of every axis for every concept; the first K axes are drawn.
        names: names of the K concepts.
    """
    count = len(names)
    cell = 0.46 if count <= 12 else 0.26
    figure = PlainFigure(figsize=(cell * count + 4.0, cell * count + 3.0), layout="constrained")
    axis = figure.subplots()
    values = auc[:, :count]
    drawn = _heat(axis, values, "RdBu_r", 0.0, 1.0, count <= 12)
    for k in range(count):
        axis.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.4))
    labels = [shorten(name, _WIDTH) for name in names]
    axis.set_xticks(range(count), labels, fontsize=8, rotation=90)
    axis.set_yticks(range(count), labels, fontsize=8)
    axis.set_xlabel("axis of", fontsize=9)
    axis.set_ylabel("images with or without", fontsize=9)
    others = f"\n{float(mean_off_diagonal(values)):.3f} for others" if count > 1 else ""
    axis.set_title(f"AUC of an axis: {float(values.diagonal().nanmean()):.3f} for the own concept{others}", fontsize=9)
    figure.colorbar(drawn, ax=axis, shrink=0.6).ax.tick_params(labelsize=8)
    if bool(values.isnan().any()):
        figure.supxlabel(_GRAY_NOTE, fontsize=8, color=_NOTE)
    return figure


def correlation_figure(after: Tensor, before: Tensor | None = None) -> Figure:
    """Return the absolute correlation of axes, and of the channels without whitening before it, on one scale.

    Args:
        after: (D, D), NaN for an axis that does not vary; the first 64 are drawn.
        before: same values of a baseline's channels.
    """
    panels = [("axes, whitened", after)]
    if before is not None:
        panels.insert(0, ("channels of the baseline", before))
    figure = PlainFigure(figsize=(3.9 * len(panels) + 0.9, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, matrix) in zip(axes, panels, strict=True):
        drawn = _heat(axis, matrix[:_CHANNELS, :_CHANNELS].abs(), "magma", 0.0, 1.0, False)
        axis.set_title(f"{title}\nmean beside the diagonal {float(mean_off_diagonal(matrix.abs())):.3f}", fontsize=9)
        axis.tick_params(labelsize=8)
    figure.colorbar(drawn, ax=list(axes), shrink=0.8, label="|correlation|").ax.tick_params(labelsize=8)
    if len(after) > _CHANNELS:
        figure.supxlabel(f"the first {_CHANNELS} of {len(after)}; the means are over all", fontsize=8, color=_NOTE)
    return figure


def importance_figure(accuracy_drop: Tensor, loss_increase: Tensor, names: Sequence[str]) -> Figure:
    """Return how much worse the classes are told without the axis of each concept, the most important first.

    Args:
        accuracy_drop: (K,) of 1.
        loss_increase: (K,) of the mean cross-entropy.
        names: names of the K concepts.
    """
    order = loss_increase.nan_to_num(0.0).argsort(descending=True).tolist()
    figure, axes = _rows(len(names), 2)
    panels = [(100 * accuracy_drop, "accuracy lost, points"), (loss_increase, "cross-entropy gained")]
    for axis, (value, title) in zip(axes, panels, strict=True):
        bars = value[order].nan_to_num(0.0).tolist()
        axis.barh(range(len(order)), bars, color=[GREEN if bar >= 0 else ORANGE for bar in bars], height=0.7)
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_title(f"{title}\nwithout the concept's axis", fontsize=9)
    _name_rows(axes, [names[k] for k in order])
    return figure


def purity_figure(
    own: Tensor, names: Sequence[str], best: Tensor | None = None, hindsight: Tensor | None = None
) -> Figure:
    """Return the AUC of each concept's axis beside that of the baseline's best channel for it.

    Args:
        own: (K,) AUC of the concepts' axes; NaN is left out.
        names: names of the K concepts.
        best: (K,) AUC of channels that were chosen on other images.
        hindsight: (K,) AUC of channels that were chosen on the same images.
    """
    order = own.nan_to_num(-1.0).argsort(descending=True).tolist()
    figure, axes = _rows(len(names), 1)
    axis, places = axes[0], range(len(order))
    points = [(hindsight, "|", GRAY, "best channel in hindsight"), (best, "o", ORANGE, "best channel of the baseline")]
    for value, marker, color, title in [*points, (own, "D", GREEN, "the concept's axis")]:
        if value is not None:
            axis.plot(value[order].tolist(), places, marker, color=color, markersize=6, label=title, alpha=0.9)
    axis.axvline(0.5, color="black", linewidth=0.6, linestyle=":")
    axis.margins(x=0.06)
    axis.set_title("AUC of an axis or channel for the concept", fontsize=9)
    axis.grid(axis="y", alpha=0.25)
    _name_rows(axes, [names[k] for k in order])
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def trajectory_figure(trajectory: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Return the AUC of each concept's axis in every whitened layer, from the first to the last.

    Args:
        trajectory: layer -> (K,) AUC, in the order of execution.
        names: names of the K concepts.
    """
    values = torch.stack(list(trajectory.values()), 1)
    values = torch.cat([values, values.nanmean(0, keepdim=True)])
    labels = [*(shorten(name, _WIDTH) for name in names), "mean"]
    figure = PlainFigure(figsize=(0.62 * len(trajectory) + 4.0, 0.24 * len(labels) + 2.2), layout="constrained")
    axis = figure.subplots()
    drawn = _heat(axis, values, "RdBu_r", 0.0, 1.0, True)
    axis.set_aspect("auto")
    axis.axhline(len(names) - 0.5, color="black", linewidth=1.4)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    layers = [shorten(name, 24) for name in trajectory]
    axis.set_xticks(range(len(layers)), layers, fontsize=8, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_title("AUC of each concept's axis by layer", fontsize=9)
    figure.colorbar(drawn, ax=axis, shrink=0.6).ax.tick_params(labelsize=8)
    if bool(values.isnan().any()):
        figure.supxlabel(_GRAY_NOTE, fontsize=8, color=_NOTE)
    return figure


def _heat(axis: Axes, values: Tensor, colors: str, low: float, high: float, written: bool) -> Any:
    """Draw a matrix, its unknown values in gray, with its values in the cells if wanted."""
    palette = colormaps[colors].with_extremes(bad="#ced4da")
    drawn = axis.imshow(values.float().numpy(), cmap=palette, vmin=low, vmax=high, interpolation="nearest")
    if written:
        middle, reach = (low + high) / 2, 0.3 * (high - low)
        for row, line in enumerate(values.tolist()):
            for column, value in enumerate(line):
                if value == value:
                    color = "white" if abs(value - middle) > reach else "black"
                    axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    return drawn


def _rows(count: int, panels: int) -> tuple[Figure, Any]:
    """Return a figure with a line for each concept, and its panels."""
    figure = PlainFigure(figsize=(2.2 * panels + 4.0, 0.22 * count + 1.5), layout="constrained")
    return figure, figure.subplots(1, panels, sharey=True, squeeze=False)[0]


def _name_rows(axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Name the lines of `_rows`, the first one above."""
    axes[0].set_yticks(range(len(names)), [shorten(name, _WIDTH) for name in names], fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for axis in axes:
        axis.tick_params(axis="x", labelsize=8)
        axis.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
