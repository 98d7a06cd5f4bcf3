"""The picture of what classes rest on: a cell for each concept and class."""

from __future__ import annotations

from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.explain.tcav_results import LEVEL, Tcav

_NOTE = "#495057"
_WIDTH = 28
_LETTERED = 20
"""Classes up to which numbers have room in the cells."""


def tcav_figure(found: Tcav) -> Figure:
    """Return the TCAV scores, a row for each concept; what could be by chance is left white.

    Args:
        found: what `ibd.explain.tcav` returned.
    """
    rows, columns = len(found.concepts), len(found.classes)
    cell = 0.52 if columns <= _LETTERED else 0.22
    figure = PlainFigure(
        figsize=(max(6.4, cell * columns + 3.6), max(3.0, 0.3 * rows + 2.4)), layout="constrained", dpi=130
    )
    axis = figure.subplots()
    shown, counts = found.scores, found.significant
    drawn = axis.imshow(shown.where(counts, float("nan")).numpy(), cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
    axis.set_facecolor("white")
    for k in range(rows if columns <= _LETTERED else 0):
        for c in range(columns):
            value = float(shown[k, c])
            strong = bool(counts[k, c]) and abs(value - 0.5) > 0.35
            color = "white" if strong else "black" if counts[k, c] else "#adb5bd"
            axis.text(c, k, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    axis.set_xticks(range(columns), [shorten(name, _WIDTH) for name in found.classes], fontsize=8, rotation=90)
    labels = [
        f"{shorten(name, _WIDTH)} ({auroc:.2f})"
        for name, auroc in zip(found.concepts, found.auroc.tolist(), strict=True)
    ]
    axis.set_yticks(range(rows), labels, fontsize=8)
    axis.set_title(f"Does more of a concept speak for a class? Layer {found.layer}", fontsize=9)
    bar = figure.colorbar(drawn, ax=axis, shrink=0.8)
    bar.set_label("TCAV score: share of images where it does", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    note = f"Colored: apart from random directions (p < {LEVEL:g}, corrected for {rows * columns} tests).\n"
    note += "In brackets: AUROC of the direction on held-out images; 0.5 is chance."
    figure.supxlabel(note, fontsize=8, color=_NOTE)
    return figure
