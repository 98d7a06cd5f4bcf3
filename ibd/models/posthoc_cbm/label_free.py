"""Concepts from texts, without labels: what a scorer says of images is learned from the features (Oikarinen 2023)."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.data.coverage import listed
from ibd.distributed import progress
from ibd.errors import DataError
from ibd.explain.discovery.scorers import Scorer, text_scores
from ibd.models.posthoc_cbm.concepts import Concepts
from ibd.models.posthoc_cbm.reading import Seen

_log = logging.getLogger(__name__)

STEPS, EVERY, RATE = 1000, 50, 1e-3
"""Steps of Adam at most, how often the validation images are asked whether to go on, and the learning rate."""
_TOP = 5
"""Images whose scores say whether a concept is in the data at all."""


class Filters(NamedTuple):
    """Which texts become concepts.

    Attributes:
        cutoff: least mean of the five highest training scores; None takes all.
        similarity: least similarity of what was learned to the scores, on validation images.
    """

    cutoff: float | None
    similarity: float


def scores_of(scorer: Scorer, texts: list[str], data: ImageDataModule, split: Split) -> Tensor:
    """Return what a scorer says of every image of a split, (N, K) float32, in order.

    Raises:
        ConfigError: it fails, or returns something else than (B, K) finite numbers.
    """
    batches = progress(data.loader(split), f"scoring {split} images")
    return torch.cat([text_scores(scorer, batch.image, texts) for batch in batches])


def from_scores(
    train: Seen, val: Seen, scores: Tensor, val_scores: Tensor, texts: list[str], keep: Filters
) -> Concepts:
    """Return linear functions of the features that go with the scores of texts, less those that do not.

    Args:
        train: training images.
        val: validation images, which say when to stop and what was learned (the published code asks the test images).
        scores: (N, K) of the training images.
        val_scores: (N, K) of the validation images.
        texts: K texts.
        keep: filters.

    Raises:
        DataError: no text is left.
    """
    spread = scores.amax(0) - scores.amin(0)
    varies = spread > 1e-6 * scores.abs().amax(0).clamp(min=1e-30)
    _say("score the same on all training images", texts, varies)
    seen = scores.topk(min(_TOP, len(scores)), dim=0).values.mean(0)
    there = varies if keep.cutoff is None else varies & (seen > keep.cutoff)
    _say(f"score at most {keep.cutoff} where they score highest", texts, there | ~varies)
    if not bool(there.any()):
        raise DataError(f"model.concepts: the scorer finds none of the {len(texts)} texts in the training images")
    kept = [text for text, stays in zip(texts, there.tolist(), strict=True) if stays]
    vectors, offsets, similarity = _learned(train.features, scores[:, there], val.features, val_scores[:, there])
    learned = similarity > keep.similarity
    _say(f"are told from the features with a similarity of at most {keep.similarity}", kept, learned)
    if not bool(learned.any()):
        raise DataError(
            f"model.concepts: no text is told from the features: the best similarity is {float(similarity.max()):.2f}, "
            f"more than model.similarity={keep.similarity} is needed"
        )
    return Concepts(kept, vectors, offsets, {"reading": "linear"}).chosen(learned)


def _say(why: str, texts: list[str], stays: Tensor) -> None:
    gone = [text for text, kept in zip(texts, stays.tolist(), strict=True) if not kept]
    if gone:
        _log.warning("without texts that %s: %s", why, listed(gone))


@torch.enable_grad()
def _learned(features: Tensor, scores: Tensor, other: Tensor, other_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (K, D) vectors and (K,) offsets whose activations go with scores, and their similarity on other images.

    Adam on `similarity`, which ends where the other images find it no better.
    """
    mean, deviation = features.double().mean(0), features.double().std(0, correction=0).clamp(min=1e-12)
    x, unseen = ((part.double() - mean) / deviation for part in (features, other))
    target, unseen_target = scores.double(), other_scores.double()
    weight = torch.linalg.lstsq(x, target - target.mean(0), driver="gelsd").solution.t().contiguous()
    weight = (weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-12)).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=RATE)
    best, kept = cubed_similarity(unseen @ weight.detach().t(), unseen_target).mean(), weight.detach().clone()
    for step in progress(range(1, STEPS + 1), "learning concepts from scores"):
        optimizer.zero_grad()
        loss = -cubed_similarity(x @ weight.t(), target).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % EVERY == 0:
            found = cubed_similarity(unseen @ weight.detach().t(), unseen_target).mean()
            if found <= best:
                break
            best, kept = found, weight.detach().clone()
    vectors = kept / deviation
    return vectors, -vectors @ mean, cubed_similarity(unseen @ kept.t(), unseen_target)


def cubed_similarity(activations: Tensor, scores: Tensor) -> Tensor:
    """Return the cosine of two centered and cubed columns, for each of K: (K,) in [-1, 1] (Oikarinen 2023, eq. 2).

    The third power lets the images count where a concept is strong.

    Args:
        activations: (N, K).
        scores: (N, K).
    """
    one, other = ((part - part.mean(0)) ** 3 for part in (activations, scores))
    return torch.nn.functional.cosine_similarity(one, other, dim=0, eps=1e-12)
