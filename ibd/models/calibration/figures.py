"""The reliability diagram: how often what is stated with a probability comes true."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure
from ibd.metrics.functional.bins import Bin, Reliability, reliability
from ibd.models.calibration.measuring import Reading

_BINS = 10


def reliability_figure(readings: Mapping[str, Reading], title: str) -> Figure:
    """Return reliability diagrams, one for each kind, before and after in one, with how many fall where below.

    Args:
        readings: as of `ibd.models.calibration.measuring.readings`.
        title: what it is of.
    """
    curves = {name: reliability(one.stated, one.true, _BINS) for name, one in readings.items()}
    kinds = [name for name in curves if "," not in name]
    return curves_figure(
        {kind: {"as trained": curves[kind], "calibrated": curves[f"{kind}, calibrated"]} for kind in kinds}, title
    )


def curves_figure(kinds: Mapping[str, Mapping[str, Reliability]], title: str) -> Figure:
    """Return reliability diagrams side by side, with how many statements fall where below.

    Args:
        kinds: what is stated, such as "classes" -> name of a curve -> the curve; at most two of each kind.
        title: what it is of.
    """
    figure = PlainFigure(figsize=(4.2 * len(kinds) + 0.4, 5.2), layout="constrained")
    grid = figure.subplots(2, len(kinds), squeeze=False, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    for column, (kind, curves) in enumerate(kinds.items()):
        upper, lower = grid[0, column], grid[1, column]
        upper.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="as stated")
        for number, (name, curve) in enumerate(curves.items()):
            _draw(upper, lower, curve, name, (number, len(curves)))
        count = next(iter(curves.values())).count
        upper.set_title(f"{kind} ({count} {_COUNTED.get(kind, kind)})", fontsize=10)
        upper.set_ylabel("share that is true" if kind == "concepts" else "share that is right")
        lower.set_xlabel("stated probability")
        lower.set_ylabel("count")
        upper.grid(alpha=0.25)
        upper.legend(fontsize=8, loc="best")
    figure.suptitle(title, fontsize=10)
    return figure


_COUNTED = {"classes": "images", "concepts": "known pairs of image and concept"}


def _draw(upper: Axes, lower: Axes, curve: Reliability, label: str, place: tuple[int, int]) -> None:
    """Draw one curve of some, with score intervals of 95 %, and how many fall into each bin."""
    number, beside = place[0], place[0] - (place[1] - 1) / 2  # so that curves do not lie upon each other
    points = [_point(one) for one in curve.bins if one.count]
    if points:
        stated, share, low, high = zip(*points, strict=True)
        shifted = [x + 0.016 * beside for x in stated]
        upper.errorbar(shifted, share, [low, high], marker="os"[number], ms=5, lw=1.2, color=f"C{number}", label=label)
    width = 0.8 / place[1] / len(curve.bins)
    centers = [(one.low + one.high) / 2 + beside * width for one in curve.bins]
    lower.bar(centers, [one.count for one in curve.bins], width, color=f"C{number}")


def _point(one: Bin) -> tuple[float, float, float, float]:
    """Return the mean stated probability of a bin, the share that is true, and how far its interval reaches."""
    share = one.share
    return one.stated, share.mean, max(0.0, share.mean - share.low), max(0.0, share.high - share.mean)
