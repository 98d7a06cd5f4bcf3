"""Many comparisons at once: p-values that hold for all of them together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ibd.errors import ConfigError


def holm(p_values: Sequence[float], total: int | None = None) -> list[float]:
    """Return p-values corrected by Holm's (1979) method: below 0.05 for any that is not so in truth, in 5 % at most.

    Args:
        p_values: p values in [0, 1]; NaN for a comparison that could not be made, which stays so and counts for
            nothing.
        total: number of comparisons that these were chosen from, where there are more: those with the best of k
            explainers are chosen from k (k - 1) / 2.

    Returns:
        As many, never below the given ones, at most 1.

    Raises:
        ConfigError: `total` is smaller than the number of p-values.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    count = len(order) if total is None else total
    if count < len(order):
        raise ConfigError(f"{len(order)} p-values of {count} comparisons: at least as many comparisons are needed")
    corrected, largest = [math.nan] * len(p_values), 0.0
    for place, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (count - place) * p))
        corrected[i] = largest
    return corrected
