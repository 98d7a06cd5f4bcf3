"""In which order to correct concept groups. A policy only supplies ranks; nesting follows from them.

Shapes: N images, K concepts, G groups, C classes, R numbers that the head reads. Sources: Shin et al. 2023 (RAND, UCP,
LCP, CCTP, ECTP, EUDTP), Koh et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.models.cbm.bottleneck import Bottleneck
from ibd.models.cbm.group_scores import (
    Score,
    certainty,
    concept_error,
    contribution,
    expected_gains,
    uncertainty,
    variance,
)

_MOST_VALUES = 2**21
"""Values of the largest tensor of logits that is made at a time: 8 MiB in float32, which caches hold."""


def ranks_of(order_score: Tensor) -> Tensor:
    """Return (N, G) ranks, 0 for the highest score; ties by group order."""
    return order_score.sort(dim=1, descending=True, stable=True).indices.argsort(1)


def random_ranks(bottleneck: Bottleneck, seed: int) -> Tensor:
    """Return a random order of the groups for each image, (N, G)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(bottleneck.labels), len(bottleneck.groups), generator=generator)
    return ranks_of(noise).to(bottleneck.predicted.device)


def step_by_step_ranks(bottleneck: Bottleneck, score: Score) -> Tensor:
    """Return the group of the highest score first, (N, G), the scores computed anew after each correction."""
    count = len(bottleneck.groups)
    ranks = torch.full((len(bottleneck.labels), count), -1, device=bottleneck.predicted.device)
    told, group_of = bottleneck.untold(), bottleneck.group_of_concept
    for step in range(count):
        left = ranks < 0
        scores = score(bottleneck, bottleneck.beliefs(told), told, left).double()
        chosen = scores.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
        ranks.scatter_(1, chosen, step)
        told = told | (group_of == chosen)
    return ranks


def once_ranks(bottleneck: Bottleneck, score: Score) -> Tensor:
    """Return the group of the highest score first, (N, G), by scores that corrections do not change."""
    told = bottleneck.untold()
    left = torch.ones(len(told), len(bottleneck.groups), dtype=torch.bool, device=told.device)
    return ranks_of(score(bottleneck, bottleneck.beliefs(told), told, left))


def uncertainty_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the most uncertain group first, (N, G): by `uncertainty` (UCP)."""
    return (
        once_ranks(bottleneck, uncertainty) if bottleneck.given is None else step_by_step_ranks(bottleneck, uncertainty)
    )


def concept_error_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the group first that is predicted worst, (N, G): by `concept_error` (LCP)."""
    if bottleneck.given is None:
        return once_ranks(bottleneck, concept_error)
    return step_by_step_ranks(bottleneck, concept_error)


def contribution_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the group first that the classes rest on most, (N, G): by `contribution` (CCTP)."""
    return step_by_step_ranks(bottleneck, contribution)


def expected_change_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the group first whose correction is expected to change the prediction most, (N, G) (ECTP)."""
    return step_by_step_ranks(bottleneck, expected_gains)


def expected_certainty_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the group first whose correction is expected to make the class most certain, (N, G) (EUDTP)."""
    return step_by_step_ranks(bottleneck, partial(expected_gains, gain=certainty))


def variance_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the group first that takes most of the variance away, (N, G): by `variance`."""
    return step_by_step_ranks(bottleneck, variance)


def learned_order(validation: Bottleneck) -> list[int]:
    """Return the order of groups, the same for all images, that is best on validation data.

    Greedy: next comes the group whose correction gives the highest accuracy, and among equals the lowest loss.
    """
    order: list[int] = []
    left = list(range(len(validation.groups)))
    now = validation.classify(validation.predicted)
    gains = validation.gains() if validation.additive else None
    while left:
        tried = []
        for group in left:
            logits = _logits_with(validation, [*order, group]) if gains is None else now + gains[:, group]
            accuracy = float((logits.argmax(1) == validation.labels).double().mean())
            tried.append((-accuracy, float(F.cross_entropy(logits, validation.labels)), group))
        chosen = min(tried)[2]
        order.append(chosen)
        left.remove(chosen)
        now = now if gains is None else now + gains[:, chosen]
    return order


def _logits_with(bottleneck: Bottleneck, groups: Sequence[int]) -> Tensor:
    """Return the (N, C) logits with some groups corrected in all images."""
    told = torch.isin(bottleneck.group_of_concept, torch.tensor(groups, device=bottleneck.predicted.device))
    return bottleneck.classify(bottleneck.beliefs(told.expand_as(bottleneck.probability)).reads)


def fixed_ranks(bottleneck: Bottleneck, order: Sequence[int]) -> Tensor:
    """Return the ranks of one order for all images, (N, G)."""
    rank = torch.empty(len(order), dtype=torch.long, device=bottleneck.predicted.device)
    rank[list(order)] = torch.arange(len(order), device=rank.device)
    return rank.expand(len(bottleneck.labels), -1)


def right_by_budget(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return which images are right with the first n groups corrected, for n = 0 .. G: (G + 1, N) bool."""
    if bottleneck.additive and bottleneck.columns.shape[1] > 1:
        return _right_by_gains(bottleneck, ranks)
    rank = ranks[:, bottleneck.group_of_concept]
    right = []
    for budget in range(len(bottleneck.groups) + 1):
        logits = bottleneck.classify(bottleneck.beliefs(rank < budget).reads)
        right.append(logits.argmax(1) == bottleneck.labels)
    return torch.stack(right).cpu()


def _right_by_gains(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the same for a linear head that reads many numbers of a concept: by sums of what each group adds.

    The head reads all of them twice, and not once for each budget; some images at a time.
    """
    count, groups = ranks.shape
    right = torch.zeros(groups + 1, count, dtype=torch.bool, device=ranks.device)
    at_once = max(1, _MOST_VALUES // ((groups + 1) * len(bottleneck.classify(bottleneck.predicted[:1])[0])))
    for start in range(0, count, at_once):
        images = slice(start, start + at_once)
        gains, order = bottleneck.gains(images), ranks[images].argsort(1)
        logits, labels = bottleneck.classify(bottleneck.predicted[images]), bottleneck.labels[images]
        rows = torch.arange(len(labels), device=labels.device)
        right[0, images] = logits.argmax(1) == labels
        for step in range(groups):
            logits = logits + gains[rows, order[:, step]]
            right[step + 1, images] = logits.argmax(1) == labels
    return right.cpu()


def accuracy_by_budget(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the accuracy with the first n groups corrected, for n = 0 .. G: (G + 1,) float64 in [0, 1]."""
    return right_by_budget(bottleneck, ranks).double().mean(1)
