"""The picture of accuracy and calibration by group."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.by_group import ByGroup

_BLUE, _ORANGE, _GRAY = "#1971c2", "#e8590c", "#868e96"


def groups_figure(found: ByGroup, title: str) -> Figure:
    """Return the accuracy of each group with its interval, the worst on top, and beside it what it is too sure by.

    Args:
        found: the groups.
        title: what images they are of.
    """
    count = len(found.groups)
    figure = PlainFigure(figsize=(8.0, 1.7 + 0.32 * count), layout="constrained", dpi=130)
    left, right = figure.subplots(1, 2, sharey=True)
    draw_intervals(left, [group.accuracy for group in found.groups])
    total = sum(group.images for group in found.groups)
    mean = sum(group.right for group in found.groups) / total
    left.axvline(mean, color=_GRAY, lw=1, ls="--")
    left.set_xlabel(f"accuracy (dashed: {mean:.3f} of all {total} images)", fontsize=9)
    left.set_yticks(range(count), [f"{shorten(g.name, 30)} ({g.images})" for g in found.groups], fontsize=8)
    left.invert_yaxis()
    draw_intervals(right, [group.surplus for group in found.groups])
    right.axvline(0, color=_GRAY, lw=1)
    right.set_xlabel("confidence less accuracy (right of 0: too sure)", fontsize=9)
    figure.suptitle(f"By {shorten(found.column, 40)}, {title}", fontsize=10)
    figure.supxlabel(textwrap.fill(found.verdict(), 120), fontsize=8, color="#495057")
    return figure


def file_name(found: ByGroup) -> str:
    """Return what the files of some groups are called, ``by_COLUMN``, in letters that any file system has."""
    return f"by_{re.sub(r'[^0-9A-Za-z_+-]+', '_', found.column)[:100]}"


def save_groups(found: ByGroup, title: str, folder: Path) -> Path:
    """Write the picture as ``by_COLUMN.png`` into a folder; return where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_name(found)}.png"
    groups_figure(found, title).savefig(path)
    return path


def draw_intervals(axis: Axes, intervals: list[Interval]) -> None:
    """Draw means with their intervals, one above the other, the first in another color."""
    for place, interval in enumerate(intervals):
        color = _ORANGE if place == 0 else _BLUE
        reach = [[max(0.0, interval.mean - interval.low)], [max(0.0, interval.high - interval.mean)]]
        axis.errorbar([interval.mean], [place], xerr=reach, fmt="o", ms=5, capsize=3, color=color)
    axis.grid(alpha=0.25)
