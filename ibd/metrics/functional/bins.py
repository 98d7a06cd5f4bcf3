"""How often what is stated with a probability comes true: bins of equal width, and the calibration error over them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.checks import double
from ibd.metrics.functional.shares import share_interval

BINS = 15
"""Of equal width, as is usual for the calibration error."""


@dataclass(frozen=True)
class Bin:
    """What was stated with a probability from `low` to below `high`; 1 belongs to the last bin.

    Attributes:
        low: lower end.
        high: upper end.
        count: how many statements fall into it.
        stated: their mean probability; NaN without any.
        share: share of them that is true, with its score interval of 95 %.
    """

    low: float
    high: float
    count: int
    stated: float
    share: Interval


@dataclass(frozen=True)
class Reliability:
    """How far stated probabilities can be believed.

    Attributes:
        bins: the bins from 0 to 1, empty ones too.
        error: expected calibration error (Guo et al. 2017), in [0, 1], 0 is best; NaN without any statement. Few
            statements make it larger, so it has no interval.
        count: number of statements.
    """

    bins: tuple[Bin, ...]
    error: float
    count: int


def reliability(stated: Tensor, true: Tensor, bins: int = BINS) -> Reliability:
    """Return how often what is stated with a probability comes true.

    Args:
        stated: (M,) probabilities in [0, 1].
        true: (M,) bool, whether that has come.
        bins: number of bins of equal width.
    """
    count, total, hits = _sums(stated, true, bins)
    rows = [
        Bin(index / bins, (index + 1) / bins, n, mass / n if n else math.nan, share_interval(hit, n))
        for index, (n, mass, hit) in enumerate(zip(count.tolist(), total.tolist(), hits.tolist(), strict=True))
    ]
    return Reliability(tuple(rows), calibration_error(stated, true, bins), len(stated))


def calibration_error(stated: Tensor, true: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al. 2017), in [0, 1]; NaN without any statement.

    As torchmetrics' ``binary_calibration_error``, but that a probability of 1 belongs to the last bin, as in the
    paper, and makes none of its own.

    Args:
        stated: (M,) probabilities in [0, 1].
        true: (M,) bool, whether that has come.
        bins: number of bins of equal width.
    """
    _, total, hits = _sums(stated, true, bins)
    return float((total - hits).abs().sum()) / len(stated) if len(stated) else math.nan


def _sums(stated: Tensor, true: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return by bin how many statements there are, the sum of their probabilities, and how many are true."""
    stated = double(stated)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=stated.device)
    place = torch.bucketize(stated, edges[1:-1], right=True)
    empty = stated.new_zeros(bins)
    total = empty.scatter_add(0, place, stated)
    hits = torch.bincount(place[true.to(place.device)], minlength=bins)
    return torch.bincount(place, minlength=bins), total, hits
