"""When a model should rather not answer: a threshold of its confidence for a wanted accuracy of the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.errors import DataError
from ibd.metrics.functional.student import at_least
from ibd.models.calibration.calibration import Abstention

_SHARES = 10
"""Shares of the images that are tried where the accuracy is to be certain."""


def choose_threshold(
    confidence: Tensor, right: Tensor, accuracy: float, certainty: float | None = None, key: str = "accuracy"
) -> Abstention:
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
        key: what the wanted accuracy is called, for the line where none has it.

    Raises:
        DataError: no threshold has it.
    """
    ranked, order = confidence.sort(descending=True, stable=True)
    kept = torch.arange(1, len(ranked) + 1, device=ranked.device, dtype=torch.float64)
    hits = right[order].double().cumsum(0)
    places = _ends(ranked, tried=None if certainty is None else _SHARES)
    enough = hits[places] >= accuracy * kept[places] - 1e-9
    if certainty is not None:
        level = (1 - certainty) / _SHARES
        enough = torch.tensor([at_least(int(hits[p]), int(kept[p]), accuracy) <= level for p in places.tolist()])
    fits = places[enough.to(places.device)]
    if not len(fits):
        raise DataError(_why_none(len(ranked), hits, kept, places, accuracy, certainty, key))
    place = int(fits[-1])
    threshold = float(ranked[place]) if bool((ranked[place + 1 :] >= 0).any()) else 0.0
    return Abstention(threshold, accuracy, certainty, len(ranked), place + 1, int(hits[place]))


def _ends(ranked: Tensor, tried: int | None) -> Tensor:
    """Return the places of (N,) falling confidences at which a threshold may lie: the last of equal ones.

    Args:
        ranked: confidences, negative where there is no answer.
        tried: number of thresholds, at a tenth, two tenths, ... of the images for 10; None takes all that there are.
    """
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones_like(ranked[:1], dtype=torch.bool)])
    ends = last.nonzero().flatten()
    if tried is not None and len(ranked):
        wanted = [max(0, len(ranked) * share // tried - 1) for share in range(1, tried + 1)]
        ends = torch.tensor(sorted({int(ends[ends >= place][0]) for place in wanted}), device=ranked.device)
    return ends[ranked[ends] >= 0]


def _why_none(
    images: int, hits: Tensor, kept: Tensor, places: Tensor, accuracy: float, certainty: float | None, key: str
) -> str:
    """Return the line that says that no threshold has the accuracy, and how far the thresholds come."""
    if not len(places):
        return f"{key}: {accuracy:g} given, but the model answers for none of the {images} images to choose by"
    places = places.flip(0)  # of equal accuracies that of the most images
    best = places[(hits / kept)[places].argmax()]
    certain = "" if certainty is None else f" with certainty {certainty:g}"
    more = f"more images are needed, less {key.split()[0]}" + (" or certainty, or certainty=null" if certain else "")
    return (
        f"{key}: {accuracy:g} given, which no threshold reaches{certain} on the {images} images to choose by (at "
        f"best {int(hits[best])} of the {int(kept[best])} most confident ones are right): {more}"
    )
