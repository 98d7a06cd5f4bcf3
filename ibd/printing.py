"""Texts for a terminal: names that somebody else has chosen can hold codes that it would obey."""

from __future__ import annotations

import unicodedata

_KINDS = frozenset({"Cc", "Zl", "Zp"})
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Invisible characters that turn the direction of what follows, so that a name reads as another one."""


def shown(text: str, keep: str = "") -> str:
    r"""Return a line as it can be printed: each control character as its code, such as ``\x1b`` or ``\u202e``.

    Letters of any language stay as they are, from right to left, too.

    Args:
        text: a line, or a name.
        keep: control characters that stay; the ``\n`` of a text of several lines of ours.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_obeyed(character) and character not in keep else character
        for character in text
    )


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in _KINDS or character in _TURNING
