"""Figures that hold names of a user's: every text is drawn as it is written."""

from __future__ import annotations

import warnings
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text


class PlainFigure(Figure):
    """A figure without mathematics and TeX: of a class called ``$5_a$`` the dollars and the underscore are drawn.

    Matplotlib reads what stands between two dollars as mathematics, which fails on most names, and under
    ``text.usetex`` an underscore or a backslash fails too. A character that the font has not is drawn as a box.
    """

    def draw(self, renderer: Any) -> None:
        """Draw; nearly all layouts and formats of files come by here before they measure a text."""
        for text in self.findobj(Text):
            text.set_usetex(False)
            text.set_parse_math(False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            super().draw(renderer)


def shorten(text: str, width: int) -> str:
    """Return a text of at most `width` characters, its middle left out."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
