"""Charts as SVG within the page: their ink and their colors follow the page's light or dark."""

from __future__ import annotations

import io
import re
from itertools import count
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

INK = "#101214"
"""What charts are drawn with: the page's color of text in SVG, nearly black in PNG."""
FAINT = "#d5d8dc"
GRAY = "#868e96"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colors, which color-blind people tell apart; the page has lighter ones for the dark."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ibd",
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--line)",
    GRAY: "var(--gray)",
    **{color: f"var(--c{i})" for i, color in enumerate(PALETTE)},
}
_CLASS = "ibd-"
_numbers = count()


def inline(figure: Figure, title: str) -> str:
    """Return a figure as an ``<svg>`` element for a page of HTML.

    A part whose gid begins with "ibd-" gets that as its class. All other ids are made unique in the page.

    Args:
        figure: figure to draw; its background is left out.
        title: description of the figure, for those who cannot see it; without markup.
    """
    file = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    text = re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", head) + ">" + rest
    text = re.sub(rf'id="{_CLASS}([^"]*)"', rf'class="{_CLASS}\1"', text)
    prefix = f"s{next(_numbers)}-"
    text = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}\1"', text)
    text = re.sub(r'(?:xlink:)?href="#([^"]*)"', rf'href="#{prefix}\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}\1)", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(title)}" class="chart"', 1)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG on white."""
    file = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(file, format="png", dpi=120, facecolor="white")
    return file.getvalue()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
