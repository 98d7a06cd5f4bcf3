"""The reliability diagram: how often what is stated with a probability comes true."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure
from ibd.metrics.functional.shares import share_interval
from ibd.models.calibration.measuring import Reading

_BINS = 10


def reliability_figure(readings: Mapping[str, Reading], title: str) -> Figure:
    """Return reliability diagrams, one for each kind, before and after in one, with how many fall where below.

    Args:
        readings: as of `ibd.models.calibration.measuring.readings`.
        title: what it is of.
    """
    kinds = [name for name in readings if "," not in name]
    figure = PlainFigure(figsize=(4.2 * len(kinds) + 0.4, 5.2), layout="constrained")
    grid = figure.subplots(2, len(kinds), squeeze=False, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    for column, kind in enumerate(kinds):
        upper, lower = grid[0, column], grid[1, column]
        upper.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="as stated")
        for number, name in enumerate((kind, f"{kind}, calibrated")):
            _draw(upper, lower, readings[name], ("as trained", "calibrated")[number], number)
        upper.set_title(f"{kind} ({len(readings[kind].true)} {_COUNTED.get(kind, kind)})", fontsize=10)
        upper.set_ylabel("share that is true" if kind == "concepts" else "share that is right")
        lower.set_xlabel("stated probability")
        lower.set_ylabel("count")
        upper.grid(alpha=0.25)
        upper.legend(fontsize=8, loc="lower right")
    figure.suptitle(title, fontsize=10)
    return figure


_COUNTED = {"classes": "images", "concepts": "known pairs of image and concept"}


def _draw(upper: Axes, lower: Axes, reading: Reading, label: str, number: int) -> None:
    """Draw one curve, with score intervals of 95 %, and how many fall into each bin."""
    reading = Reading(reading.stated.cpu(), reading.true.cpu())
    edges = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)
    place = (torch.bucketize(reading.stated.double().clamp(0, 1), edges[1:-1], right=True)).clamp(max=_BINS - 1)
    counts = torch.bincount(place, minlength=_BINS)
    points = [_point(reading, place == index) for index in range(_BINS) if int(counts[index])]
    stated, share, low, high = zip(*points, strict=True)
    color, shift = f"C{number}", 0.008 * (2 * number - 1)
    upper.errorbar(
        [x + shift for x in stated], share, [low, high], marker="os"[number], ms=5, lw=1.2, color=color, label=label
    )
    width = 0.4 / _BINS
    centers = edges[:-1] + 0.5 / _BINS + (number - 0.5) * width
    lower.bar(centers.tolist(), counts.tolist(), width, color=color)


def _point(reading: Reading, inside: Tensor) -> tuple[float, float, float, float]:
    """Return the mean stated probability of a bin, the share that is true, and how far its interval reaches."""
    interval = share_interval(int(reading.true[inside].sum()), int(inside.sum()))
    stated = float(reading.stated[inside].double().mean())
    return stated, interval.mean, max(0.0, interval.mean - interval.low), max(0.0, interval.high - interval.mean)
