"""The charts: curves with bands, differences with intervals, matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ibd.comparison.methods import ORACLE
from ibd.comparison.report.numbers import number
from ibd.comparison.report.svg import FAINT, GRAY, INK, PALETTE, STYLE
from ibd.comparison.results import Floats
from ibd.drawing import PlainFigure, shorten

_DASHES = ("-", (0, (5, 1.2, 1.2, 1.2)), (0, (2.2, 1)))
_FONT = 8.5
_LEGEND, _TITLE = 1.6, 0.25
"""Inches that a chart's own file is wider and higher than the chart of the page."""


@dataclass(frozen=True)
class Style:
    """How an explainer's lines look, in every chart of a family.

    Attributes:
        color: color of the palette, or gray, or ink.
        dash: dash of matplotlib.
        width: width in points.
        css: class of its lines, "" where it has none of its own.
    """

    color: str
    dash: Any
    width: float
    css: str

    @property
    def variable(self) -> str:
        """The color as the page calls it."""
        if self.color in PALETTE:
            return f"var(--c{PALETTE.index(self.color)})"
        return "var(--gray)" if self.color == GRAY else "currentColor"

    @property
    def dasharray(self) -> str:
        """The dashes as the page's legend draws them."""
        if isinstance(self.dash, str):
            return {"-": "", "--": "4 2.5", ":": "1.6 2.4", "-.": "5 2 1.6 2"}[self.dash]
        return " ".join(f"{1.6 * length:g}" for length in self.dash[1])


@dataclass(frozen=True)
class Line:
    """A line with its band; NaN is left out."""

    label: str
    style: Style
    x: Floats
    y: Floats
    low: Floats
    high: Floats


def styles(names: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """Return a style for each (name, kind): the intrinsic one in front, references dashed, oracles dotted."""
    drawn, used = {}, 1
    for place, (name, kind) in enumerate(names):
        css = f"ibd-line-{place}"
        if kind == "reference":
            drawn[name] = Style(GRAY, "--", 1.0, "ibd-line-reference")
        elif kind == "oracle":
            drawn[name] = Style(INK, ":" if name == ORACLE else "-.", 1.6, css)
        elif kind == "intrinsic" and PALETTE[0] not in {style.color for style in drawn.values()}:
            drawn[name] = Style(PALETTE[0], "-", 2.6, css)
        else:
            dash = _DASHES[(used - 1) // (len(PALETTE) - 1) % len(_DASHES)]
            drawn[name] = Style(PALETTE[1 + (used - 1) % (len(PALETTE) - 1)], dash, 1.5, css)
            used += 1
    return drawn


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, ticks: Sequence[str] = (), level: float | None = None
) -> Figure:
    """Return lines with bands.

    Args:
        lines: the important ones first: they are drawn last.
        x_label: label of the x axis.
        y_label: label of the y axis.
        ticks: names of the places 0, 1, ... of the x axis, where they have names.
        level: height of a gray line across.
    """
    with rc_context(STYLE):
        figure = PlainFigure(figsize=(4.3, 2.9 if not ticks else 3.5))
        axis = figure.subplots()
        left, bottom = (0.22, 0.36) if ticks else (0.15, 0.165)  # names of places are long, and lie aslant
        figure.subplots_adjust(left=left, right=0.975, top=0.965, bottom=bottom)
        if level is not None:
            axis.axhline(level, color=GRAY, linewidth=1, linestyle=(0, (1, 1.5)))
        for depth, line in enumerate(reversed(lines)):
            if line.style.color != GRAY:
                axis.fill_between(
                    line.x, line.low, line.high, color=line.style.color, alpha=0.16, linewidth=0,
                    gid=f"{line.style.css} band", zorder=1 + depth / 100,
                )  # fmt: skip
            axis.plot(
                line.x, line.y, color=line.style.color, linestyle=line.style.dash, linewidth=line.style.width,
                gid=line.style.css or None, zorder=2 + depth / 100,
            )  # fmt: skip
        if ticks:
            axis.set_xticks(range(len(ticks)), [shorten(tick, 16) for tick in ticks], rotation=30, ha="right")
        _plain(axis, x_label, y_label)
    return figure


def with_legend(figure: Figure, lines: Sequence[Line], title: str) -> Figure:
    """Return a chart with what the page says beside it, for a file of its own: wider, with names and a title."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width + _LEGEND, height + _TITLE)
    shape = figure.subplotpars
    figure.subplots_adjust(
        left=shape.left * width / (width + _LEGEND),
        right=shape.right * width / (width + _LEGEND),
        bottom=shape.bottom * height / (height + _TITLE),
        top=shape.top * height / (height + _TITLE),
    )
    handles = {
        line.label: Line2D([], [], color=line.style.color, linestyle=line.style.dash, linewidth=line.style.width)
        for line in lines
    }
    place = ((width - 0.02) / (width + _LEGEND), 0.5)
    with rc_context(STYLE):
        figure.legend(
            [*handles.values()], [*handles], loc="center left", bbox_to_anchor=place, fontsize=7.5, frameon=False
        )
        figure.suptitle(title, fontsize=9, y=1 - 0.05 / (height + _TITLE), color=INK)
    return figure


def difference_chart(rows: Sequence[tuple[str, float, float, float, str]], x_label: str) -> Figure:
    """Return differences with their intervals beside each other, 0 marked.

    Args:
        rows: (label, mean, low, high, outcome), from the top.
        x_label: label of the x axis.
    """
    colors = {"better": PALETTE[2], "worse": PALETTE[1], "no clear difference": GRAY}
    markers = {"better": "^", "worse": "v", "no clear difference": "o"}
    with rc_context(STYLE):
        height = 0.27 * len(rows) + 0.62
        figure = PlainFigure(figsize=(4.3, height))
        axis = figure.subplots()
        figure.subplots_adjust(left=0.33, right=0.97, top=1 - 0.06 / height, bottom=0.48 / height)
        axis.axvline(0, color=INK, linewidth=0.9)
        for place, (_, mean, low, high, outcome) in enumerate(rows):
            color = colors.get(outcome, GRAY)
            axis.plot([low, high], [place, place], color=color, linewidth=2.4, solid_capstyle="butt")
            axis.plot([mean], [place], marker=markers.get(outcome, "o"), color=color, markersize=6)
        axis.set_yticks(range(len(rows)), [shorten(row[0], 22) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        _plain(axis, x_label, "")
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
    return figure


def matrix_chart(
    values: Floats, rows: Sequence[str], columns: Sequence[str], ends: tuple[float, float], title: str
) -> Figure:
    """Return a matrix with its numbers, for a file of its own; NaN is left white."""
    height, width = values.shape
    colors = colormaps["RdBu_r" if ends[0] < 0 else "Blues"]
    with rc_context(STYLE):
        size = 0.5 * width + 1.6, 0.36 * height + 1.6
        figure = PlainFigure(figsize=size)
        axis = figure.subplots()
        figure.subplots_adjust(
            left=1.45 / size[0], right=1 - 0.15 / size[0], bottom=1.25 / size[1], top=1 - 0.35 / size[1]
        )
        drawn = axis.imshow(values, cmap=colors, vmin=ends[0], vmax=ends[1], aspect="auto")
        for i, j in np.argwhere(np.isfinite(values)):
            red, green, blue, _ = drawn.to_rgba(values[i, j])
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            text = number(float(values[i, j]), 2)
            axis.text(j, i, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK)
        axis.set_xticks(
            range(width), [shorten(column, 20) for column in columns], rotation=60, ha="right", fontsize=7.5
        )
        axis.set_yticks(range(height), [shorten(row, 20) for row in rows], fontsize=7.5)
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=9)
        for side in axis.spines.values():
            side.set_visible(False)
    return figure


def _plain(axis: Axes, x_label: str, y_label: str) -> None:
    axis.set_xlabel(x_label, fontsize=_FONT)
    axis.set_ylabel(y_label, fontsize=_FONT)
    axis.tick_params(labelsize=_FONT - 0.5, length=2.5)
    axis.grid(visible=True, color=FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.margins(x=0.01)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_linewidth(0.7)
