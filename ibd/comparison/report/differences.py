"""Means and paired differences of many explainers at once, and which of them are clear."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.multiple import holm
from ibd.metrics.functional.random_effects import two_level, two_level_intervals

LEAST_IMAGES = 10
"""With fewer images no difference is called clear: neither normality nor the pick of images can be relied on."""
LEVEL = 0.05
_SMALLEST = 0.01  # of the spread of scores over images: what is less is nothing that anybody would choose by
_ROUNDING = 1e-5  # of the scores' size


@dataclass(frozen=True)
class Difference:
    """A paired difference of two explainers under a metric.

    Attributes:
        interval: interval of one minus other, over trainings and images, by itself.
        p: p value of no difference, corrected for the comparisons that were made with it; NaN where it cannot be told.
        compared: number of those comparisons.
        images: number of images for which both have a score.
        small: whether the mean is below 1 % of the spread of the scores, which counts for nothing.
    """

    interval: Interval
    p: float
    compared: int
    images: int
    small: bool

    @property
    def enough(self) -> bool:
        """Whether there are images enough to tell."""
        return self.images >= LEAST_IMAGES

    @property
    def apart(self) -> bool:
        """Whether the two differ clearly."""
        return self.enough and not self.small and self.p < LEVEL


def many_intervals(values: list[Tensor]) -> list[Interval]:
    """Return the 95 % interval of each of several (M, N), those of one shape computed at once."""
    intervals: dict[int, Interval] = {}
    for places in _alike(values):
        intervals.update(zip(places, two_level_intervals(torch.stack([values[i] for i in places])), strict=True))
    return [intervals[i] for i in range(len(values))]


def differences(
    pairs: Sequence[tuple[Tensor, Tensor]], families: Sequence[Hashable], totals: Mapping[Any, int] | None = None
) -> list[Difference]:
    """Return the differences of pairs of (M, N) scores, p-values corrected within each family of comparisons.

    Args:
        pairs: pairs of scores of the same trainings and images.
        families: family of each pair, such as the metric.
        totals: family -> number of comparisons that its pairs were chosen from, where that is more; see `holm`.
    """
    values = [one - other for one, other in pairs]
    made: dict[int, tuple[Interval, float, int]] = {}
    for places in _alike(values):
        estimates = two_level(torch.stack([values[i] for i in places]))
        made.update(
            zip(
                places,
                zip(estimates.intervals(), estimates.p_values(), estimates.images.tolist(), strict=True),
                strict=True,
            )
        )
    corrected = _corrected([made[i][1] for i in range(len(pairs))], families, totals or {})
    return [
        Difference(made[i][0], *corrected[i], made[i][2], _small(made[i][0].mean, *pair))
        for i, pair in enumerate(pairs)
    ]


def _corrected(
    p_values: Sequence[float], families: Sequence[Hashable], totals: Mapping[Any, int]
) -> list[tuple[float, int]]:
    """Return p-values corrected within families, each with the number of comparisons that it was corrected for."""
    corrected: dict[int, tuple[float, int]] = {}
    for family in dict.fromkeys(families):
        places = [i for i, other in enumerate(families) if other == family]
        some = [p_values[i] for i in places]
        total = totals.get(family, sum(p == p for p in some))
        corrected.update((i, (p, total)) for i, p in zip(places, holm(some, total), strict=True))
    return [corrected[i] for i in range(len(p_values))]


def _small(mean: float, one: Tensor, other: Tensor) -> bool:
    """Return whether a difference is too small to matter beside what scores differ by from image to image."""
    known = [values[~values.isnan()] for values in (one, other)]
    if min(len(values) for values in known) == 0:
        return False
    spread = max(float(values.std(correction=0)) for values in known)
    size = max(float(values.abs().max()) for values in known)
    return abs(mean) < max(_SMALLEST * spread, _ROUNDING * size)


def _alike(values: list[Tensor]) -> list[list[int]]:
    """Return the places of values of one shape, for each shape."""
    shapes = dict.fromkeys(value.shape for value in values)
    return [[i for i, other in enumerate(values) if other.shape == shape] for shape in shapes]
