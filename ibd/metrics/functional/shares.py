"""How sure a share of right answers is."""

from __future__ import annotations

import math

from ibd.metrics.functional.bootstrap import Interval

_Z = 1.959963984540054
"""The normal quantile of 97.5 %."""


def share_interval(hits: int, trials: int) -> Interval:
    """Return a share and its score interval of 95 % (Wilson 1927), which does not vanish where all are hits.

    Args:
        hits: number of hits, 0 to `trials`.
        trials: number of independent trials; without any all is NaN.
    """
    if not trials:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    share, square = hits / trials, _Z**2 / trials
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), trials, 0)
