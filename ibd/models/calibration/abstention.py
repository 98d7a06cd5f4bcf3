"""When a model should rather not answer: a threshold of its confidence for a wanted accuracy of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import DataError
from ibd.metrics.functional.student import at_least

_SHARES = 10
"""Shares of the images that are tried where the accuracy is to be certain."""


@dataclass(frozen=True)
class Abstention:
    """Below which confidence there is no answer.

    Attributes:
        threshold: lowest probability of the predicted class with which it is answered; 0 answers always.
        accuracy: wanted accuracy of the answers.
        certainty: probability with which new images, drawn alike, have that accuracy; None where only the images that
            the threshold was chosen on are known to have it.
        images: images that it was chosen on.
        kept: number of these that are answered.
        right: number of these that are answered right.
    """

    threshold: float
    accuracy: float
    certainty: float | None
    images: int
    kept: int
    right: int


def choose_threshold(confidence: Tensor, right: Tensor, accuracy: float, certainty: float | None = None) -> Abstention:
    """Return the lowest threshold of confidence at which the answers are as accurate as wanted.

    Without `certainty` on these images, of which a choice by them is likely to flatter: on new ones it may be a little
    less. With it, each of ten thresholds that leave a tenth, two tenths, ... of the images is tested: it is taken if
    that many right answers would come with a probability of at most ``(1 - certainty) / 10`` from a lower accuracy
    (binomial; by Bonferroni the probability that any is taken wrongly is at most ``1 - certainty``).

    Args:
        confidence: (N,) probability of the predicted class; negative where there is no answer at all.
        right: (N,) bool.
        accuracy: wanted accuracy, in (0, 1].
        certainty: see `Abstention`.

    Raises:
        DataError: no threshold has it.
    """
    ranked, order = confidence.sort(descending=True, stable=True)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(ranked[:1], dtype=torch.bool)])  # of equal ones
    kept = torch.arange(1, len(ranked) + 1, device=ranked.device, dtype=torch.float64)
    hits = right[order].double().cumsum(0)
    enough = hits >= accuracy * kept - 1e-9
    if certainty is not None:
        enough = _certain(hits, kept, last, accuracy, (1 - certainty) / _SHARES)
    fits = (enough & last & (ranked >= 0)).nonzero().flatten()
    if not len(fits):
        raise DataError(_why_none(ranked, hits, kept, last, accuracy, certainty))
    place = int(fits[-1])
    threshold = float(ranked[place]) if bool((ranked[place + 1 :] >= 0).any()) else 0.0
    return Abstention(threshold, accuracy, certainty, len(ranked), place + 1, int(hits[place]))


def _certain(hits: Tensor, kept: Tensor, last: Tensor, accuracy: float, level: float) -> Tensor:
    """Return at which of ten places so many hits come with a probability of at most `level` from a lower accuracy.

    The places are the ends of a tenth, two tenths, ... of the images, or of those as confident as the last of them.
    """
    found = torch.zeros_like(last)
    ends = last.nonzero().flatten()
    for tenth in range(1, _SHARES + 1):
        end = ends[ends >= max(0, len(last) * tenth // _SHARES - 1)][0]
        found[end] = at_least(int(hits[end]), int(kept[end]), accuracy) <= level
    return found


def _why_none(
    ranked: Tensor, hits: Tensor, kept: Tensor, last: Tensor, accuracy: float, certainty: float | None
) -> str:
    """Return the line that says that no threshold has the accuracy, and what the best has."""
    answered = (last & (ranked >= 0)).nonzero().flatten()
    if not len(answered):
        return f"accuracy: {accuracy:g} given, but the model answers for none of the {len(ranked)} images"
    best = int(answered[(hits / kept)[answered].argmax()])
    certain = "" if certainty is None else f" with certainty {certainty:g}"
    return (
        f"accuracy: {accuracy:g} given, which no threshold reaches{certain} on {len(ranked)} images: at best "
        f"{int(hits[best])} of the {int(kept[best])} most confident ones are right; ask for less"
        f"{', take more images, or certainty=null' if certain else ', or take more images'}"
    )
