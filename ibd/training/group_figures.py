"""The picture of accuracy and calibration by group."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
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


def file_names(groups: Sequence[ByGroup]) -> list[str]:
    """Return what the files of some groups are called, ``by_COLUMN`` in letters and digits; each name once."""
    names = list[str]()
    for found in groups:
        letters = re.sub(r"[^\w+-]+", "_", found.column)
        name = f"by_{letters[:60]}"  # of four bytes each a file's name holds so many
        while name.casefold() in map(str.casefold, names):  # not all file systems tell them apart
            name += "_"
        names.append(name)
    return names


def save_groups(groups: Sequence[ByGroup], title: str, folder: Path) -> list[Path]:
    """Write the pictures of some groups as ``by_COLUMN.png`` into a folder; return where they are."""
    paths = [folder / f"{name}.png" for name in file_names(groups)]
    for found, path in zip(groups, paths, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        groups_figure(found, title).savefig(path)
    return paths


def draw_intervals(axis: Axes, intervals: list[Interval]) -> None:
    """Draw means with their intervals, one above the other, the first in another color."""
    for place, interval in enumerate(intervals):
        color = _ORANGE if place == 0 else _BLUE
        reach = [[max(0.0, interval.mean - interval.low)], [max(0.0, interval.high - interval.mean)]]
        axis.errorbar([interval.mean], [place], xerr=reach, fmt="o", ms=5, capsize=3, color=color)
    axis.grid(alpha=0.25)
