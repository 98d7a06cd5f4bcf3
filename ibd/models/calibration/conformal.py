"""Sets of classes that hold the true one with a stated probability: split conformal prediction.

Whatever the model is, if images are exchangeable with those that a threshold was chosen on (drawn alike, and used for
nothing else), the set of a new image holds its class with at least that probability, on average over such draws
(Vovk et al. 2005; Angelopoulos & Bates 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from ibd.errors import DataError

Score = Literal["lac", "aps", "raps"]
_SLACK = 1e-12
"""What sums of probabilities may be off by; it only makes sets larger."""


@dataclass(frozen=True)
class SetRule:
    """Which classes an image may have: those whose score is at most a threshold.

    The most probable class is always among them, which makes coverage only larger, unless sets are randomized.

    Attributes:
        score: "lac": ``1 - p`` (Sadinle et al. 2019), the smallest sets; "aps": the sum of the probabilities down to
            the class (Romano et al. 2020), larger where an image is hard; "raps": "aps" with a penalty on long sets
            (Angelopoulos et al. 2021).
        coverage: stated probability, in (0, 1).
        thresholds: one number, or one for each class.
        images: images that they were chosen on.
        randomized: whether a class's own probability counts by a random share, so that coverage is met exactly, and
            not exceeded; sets of one image then differ, and may be empty.
        penalty: what "raps" adds for each rank beyond `free`.
        free: ranks without a penalty.
    """

    score: Score
    coverage: float
    thresholds: tuple[float, ...]
    images: int
    randomized: bool = False
    penalty: float = 0.05
    free: int = 2

    @property
    def per_class(self) -> bool:
        """Whether coverage is stated for each class, and not only for all together."""
        return len(self.thresholds) > 1

    def sets(self, probabilities: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return which classes each image may have, (N, C) bool.

        Args:
            probabilities: (N, C) float64.
            draws: (N,) uniform in [0, 1), where sets are randomized.
        """
        scores = class_scores(probabilities, self.score, draws if self.randomized else None, self.penalty, self.free)
        limit = torch.tensor(self.thresholds, dtype=scores.dtype, device=scores.device)
        inside = scores <= limit + _SLACK
        if not self.randomized:
            inside.scatter_(1, probabilities.argmax(1, keepdim=True), True)
        return inside


def class_scores(
    probabilities: Tensor, score: Score, draws: Tensor | None = None, penalty: float = 0.05, free: int = 2
) -> Tensor:
    """Return how little each class fits each image, (N, C).

    Args:
        probabilities: (N, C) float64; of equal ones the first ranks before.
        score: kind of score, see `SetRule`.
        draws: (N,) shares of a class's own probability that count; None counts all.
        penalty: penalty of "raps".
        free: ranks without a penalty.
    """
    if score == "lac":
        return 1 - probabilities
    ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
    above = ranked.cumsum(1) - ranked
    total = above + (ranked if draws is None else ranked * draws.to(ranked.device).unsqueeze(1))
    if score == "raps":
        rank = torch.arange(1, ranked.shape[1] + 1, dtype=ranked.dtype, device=ranked.device)
        total = total + penalty * (rank - free).clamp(min=0)
    return torch.empty_like(total).scatter_(1, order, total)


def choose_sets(
    probabilities: Tensor,
    labels: Tensor,
    coverage: float,
    score: Score = "lac",
    randomized: bool = False,
    per_class: bool = False,
    draws: Tensor | None = None,
    names: tuple[str, ...] = (),
) -> SetRule:
    """Return the rule whose thresholds are quantiles of the true classes' scores.

    Args:
        probabilities: (N, C) float64.
        labels: (N,) true classes.
        coverage: stated probability, in (0, 1).
        score: kind of score, see `SetRule`.
        randomized: whether sets are randomized.
        per_class: whether to state it for each class (Mondrian; Vovk et al. 2005).
        draws: (N,) uniform in [0, 1), where sets are randomized.
        names: C names, for messages.

    Raises:
        DataError: too few images, or too few of a class.
    """
    scores = class_scores(probabilities, score, draws if randomized else None)
    own = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    parts = [own[labels == c] for c in range(probabilities.shape[1])] if per_class else [own]
    fewest = min(range(len(parts)), key=lambda c: len(parts[c]))
    if _rank(len(parts[fewest]), coverage) > len(parts[fewest]):
        each, some = (" of each class", f" of '{names[fewest] if names else fewest}'") if per_class else ("", "")
        raise DataError(
            f"coverage: {coverage:g} given, for which at least {_least(coverage)} images{each} must choose the "
            f"threshold, and there are {len(parts[fewest])}{some}: less coverage is needed, or more images"
        )
    thresholds = tuple(quantile(part, coverage) for part in parts)
    return SetRule(score, coverage, thresholds, len(labels), randomized)


def quantile(scores: Tensor, coverage: float) -> float:
    """Return the ``ceil((n + 1) coverage)``-th smallest of n scores; infinity where there are too few."""
    rank = _rank(len(scores), coverage)
    return math.inf if rank > len(scores) else float(scores.sort().values[rank - 1])


def _rank(count: int, coverage: float) -> int:
    """Return ``ceil((n + 1) coverage)`` of the decimal number that was written: 0.55 in binary is a bit more."""
    return math.ceil((count + 1) * Fraction(str(coverage)))


def _least(coverage: float) -> int:
    """Return the smallest number of images with a finite threshold."""
    exact = Fraction(str(coverage))
    return math.ceil(exact / (1 - exact))
