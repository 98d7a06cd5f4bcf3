"""Numbers as a reader wants them: a real minus sign, as many digits as tell something, nothing where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable

_MOST = 5
"""Decimals; what would still be 0 is written with an exponent."""


def digits_for(values: Iterable[float]) -> int:
    """Return how many decimals a column of these values needs: two or three significant digits of the largest."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=1.0)
    if largest == 0:
        return 2
    tens = math.floor(math.log10(largest))
    return max(0, 2 - tens) if tens >= 0 else min(_MOST, 1 - tens)


def number(value: float | None, digits: int | None = None) -> str:
    """Return a number with so many decimals; an empty text where it is unknown."""
    if value is None or not math.isfinite(value):
        return ""
    digits = digits_for([value]) if digits is None else digits
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-") if value == 0 or digits < _MOST else f"{value:.0e}".replace("e-0", "e-")
    return text.replace("-", "−")  # noqa: RUF001


def signed(value: float | None, digits: int | None = None) -> str:
    """Return a number with its sign, plus included."""
    text = number(value, digits)
    return f"+{text}" if text and value is not None and value > 0 and float(text) != 0 else text


def span(low: float, high: float, digits: int | None = None) -> str:
    """Return an interval in brackets; an empty text where it is unknown."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    digits = digits_for([low, high]) if digits is None else digits
    return f"[{number(low, digits)}, {number(high, digits)}]"


def count(value: float | None) -> str:
    """Return a number of passes: whole where it is."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.0f}" if value == round(value) else number(value, 1)


def percent(value: float | None) -> str:
    """Return a share as per cent; an empty text where it is unknown."""
    return "" if value is None or not math.isfinite(value) else f"{number(100 * value, 1)} %"


def listed(items: Iterable[str]) -> str:
    """Return texts as a list within a sentence."""
    given = list(items)
    return given[0] if len(given) == 1 else ", ".join(given[:-1]) + " and " + given[-1] if given else ""
