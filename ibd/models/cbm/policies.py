"""In which order to correct concept groups. A policy only supplies ranks; nesting follows from them.

Shapes: N images, K concepts, G groups, C classes. Sources: Shin et al. 2023 (RAND, UCP, LCP, CCTP, ECTP, EUDTP), Koh et
al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Classify = Callable[[Tensor], Tensor]


class Beliefs(NamedTuple):
    """What stands in a bottleneck of which some concepts are corrected."""

    reads: Tensor
    """(N, K) what the head reads."""
    probability: Tensor
    """(N, K) concept probabilities."""
    variance: Tensor | None = None
    """(N, K) variance of the concept logits, where concepts depend on each other."""


Given = Callable[[Tensor, Tensor], Beliefs]
"""(n, K) truth, NaN where it was not told, and (n,) which images these are -> what stands in the bottleneck then."""


@dataclass(frozen=True)
class Bottleneck:
    """Everything an intervention on a split needs, after the one pass of the backbone.

    Attributes:
        predicted: (N, K) what the head reads.
        corrected: (N, K) what it would read if every known concept were corrected.
        probability: (N, K) predicted concept probabilities.
        absent, present: (K,) what the head reads for a concept that is certainly absent, present.
        labels: (N,) true classes.
        groups: indices of the concepts of each of G groups, which are corrected together.
        exclusive: (G,) whether at most one concept of the group holds.
        classify: the head, (..., K) -> (..., C).
        weight: (C, K) where the head is linear; only for speed.
        truth: (N, K) true concepts, NaN where unknown: what is told of a concept that is corrected.
        given: where correcting concepts moves others: how; None where it does not.
    """

    predicted: Tensor
    corrected: Tensor
    probability: Tensor
    absent: Tensor
    present: Tensor
    labels: Tensor
    groups: Sequence[Sequence[int]]
    exclusive: Sequence[bool]
    classify: Classify
    truth: Tensor
    weight: Tensor | None = None
    given: Given | None = None

    @property
    def group_of(self) -> Tensor:
        """The group of each concept, (K,)."""
        result = torch.empty(self.predicted.shape[1], dtype=torch.long, device=self.predicted.device)
        for index, group in enumerate(self.groups):
            result[list(group)] = index
        return result

    @property
    def images(self) -> Tensor:
        """The numbers of the images, (N,)."""
        return torch.arange(len(self.labels), device=self.predicted.device)

    def beliefs(self, told: Tensor) -> Beliefs:
        """Return what stands in the bottleneck once the concepts where `told`, (N, K) bool, are corrected."""
        if self.given is None:
            return Beliefs(torch.where(told, self.corrected, self.predicted), self.probability)
        return self.given(self.truth.masked_fill(~told, torch.nan), self.images)


def ranks_of(order_score: Tensor) -> Tensor:
    """Return (N, G) ranks, 0 for the highest score; ties by group order."""
    return order_score.sort(dim=1, descending=True, stable=True).indices.argsort(1)


def random_ranks(bottleneck: Bottleneck, seed: int) -> Tensor:
    """Return a random order of the groups for each image, (N, G)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(bottleneck.labels), len(bottleneck.groups), generator=generator)
    return ranks_of(noise).to(bottleneck.predicted.device)


Score = Callable[[Bottleneck, Beliefs, Tensor, Tensor], Tensor]
"""(bottleneck, what stands in it, (N, K) bool what was told, (N, G) bool which groups were not) -> (N, G) scores."""


def step_by_step_ranks(bottleneck: Bottleneck, score: Score) -> Tensor:
    """Return the group of the highest score first, (N, G), the scores computed anew after each correction."""
    count = len(bottleneck.groups)
    ranks = torch.full((len(bottleneck.labels), count), -1, device=bottleneck.predicted.device)
    told = torch.zeros_like(bottleneck.predicted, dtype=torch.bool)
    for step in range(count):
        left = ranks < 0
        scores = score(bottleneck, bottleneck.beliefs(told), told, left).double()
        chosen = scores.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)
        ranks.scatter_(1, chosen, step)
        told = told | (bottleneck.group_of == chosen)
    return ranks


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


def once_ranks(bottleneck: Bottleneck, score: Score) -> Tensor:
    """Return the group of the highest score first, (N, G), by scores that corrections do not change."""
    told = torch.zeros_like(bottleneck.predicted, dtype=torch.bool)
    left = torch.ones(len(told), len(bottleneck.groups), dtype=torch.bool, device=told.device)
    return ranks_of(score(bottleneck, bottleneck.beliefs(told), told, left))


def by_group(bottleneck: Bottleneck, values: Tensor) -> Tensor:
    """Return the sum of (N, K) values over the concepts of each group, (N, G)."""
    return torch.stack([values[:, list(group)].sum(1) for group in bottleneck.groups], 1)


def binary_entropy(probability: Tensor) -> Tensor:
    """Return the entropy of each concept, (N, K) float64, in nats."""
    p = probability.double().clamp(1e-12, 1 - 1e-12)
    return -(p * p.log() + (1 - p) * (1 - p).log())


def uncertainty(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return the sum of the entropies of each group's concepts, (N, G) (UCP)."""
    return by_group(bottleneck, binary_entropy(beliefs.probability))


def concept_error(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return the sum of ``|c - p|`` over each group's known concepts, (N, G) (LCP): it looks at the truth."""
    return by_group(bottleneck, (bottleneck.truth - beliefs.probability).abs().double().nan_to_num(0.0))


def contribution(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return the sum of ``|r dy/dr|`` over the class logits y and each group's concepts, (N, G) (CCTP).

    r is what the head reads of a concept.
    """
    if bottleneck.weight is not None:
        slopes = bottleneck.weight.abs().sum(0)
    else:
        with torch.enable_grad():
            reads = beliefs.reads.detach().requires_grad_()
            logits = bottleneck.classify(reads)
            parts = [torch.autograd.grad(logits[:, c].sum(), reads, retain_graph=True) for c in range(logits.shape[1])]
        slopes = torch.stack([part[0].abs() for part in parts]).sum(0)
    return by_group(bottleneck, beliefs.reads.abs() * slopes)


def variance(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return how much variance of the concept probabilities each correction would take away, (N, G).

    Of a concept with probability p it is ``(p (1 - p))^2`` times the variance of its logit, to first order. What is
    left of the latter is that of the Gaussian without the group, whatever the correction would say.
    """
    assert beliefs.variance is not None
    assert bottleneck.given is not None
    slope = (beliefs.probability * (1 - beliefs.probability)).double().square()
    gains = torch.zeros_like(left, dtype=torch.float64)
    for index, group in enumerate(bottleneck.groups):
        rows = left[:, index].nonzero().flatten()
        if not len(rows):
            continue
        truth = bottleneck.truth.masked_fill(~told, torch.nan)[rows]
        truth[:, list(group)] = (beliefs.probability[rows][:, list(group)] > 0.5).to(truth.dtype)
        after = bottleneck.given(truth, rows).variance
        assert after is not None
        gains[rows, index] = (slope[rows] * (beliefs.variance[rows] - after)).sum(1)
    return gains


Gain = Callable[[Tensor, Tensor], Tensor]
"""(n, C) class logits before and after a correction -> (n,) what it was good for."""


def change(before: Tensor, after: Tensor) -> Tensor:
    """Return KL(after || before) of the class probabilities, (n,)."""
    return F.kl_div(before.log_softmax(1), after.log_softmax(1), log_target=True, reduction="none").sum(1)


def certainty(before: Tensor, after: Tensor) -> Tensor:
    """Return by how much the entropy of the class probabilities falls, (n,)."""
    first, then = before.log_softmax(1), after.log_softmax(1)
    return (then.exp() * then).sum(1) - (first.exp() * first).sum(1)


def expected_gains(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor, gain: Gain = change) -> Tensor:
    """Return what correcting each group is expected to be good for, (N, G): of ECTP and EUDTP.

    Args:
        bottleneck: bottleneck for its head and groups.
        beliefs: what stands in it now.
        told: (N, K) bool: what was told.
        left: (N, G) bool: which groups were not.
        gain: what a correction is good for.
    """
    now = bottleneck.classify(beliefs.reads)
    scores = torch.full(left.shape, -torch.inf, dtype=beliefs.reads.dtype, device=left.device)
    for index in range(len(bottleneck.groups)):
        rows = left[:, index].nonzero().flatten()
        if len(rows):
            scores[rows, index] = expected_gain(bottleneck, beliefs, now, told, rows, index, gain)
    return scores


def expected_gain(
    bottleneck: Bottleneck,
    beliefs: Beliefs,
    now: Tensor,
    told: Tensor,
    rows: Tensor,
    index: int,
    gain: Gain = change,
) -> Tensor:
    """Return what correcting a group is expected to be good for, (n,).

    The expectation is over what the correction may turn out to be, by the probabilities of now: for an exclusive group,
    which of its concepts holds, or that none does; else the mean over its concepts of being present or absent.

    Args:
        bottleneck: bottleneck for its head and groups.
        beliefs: what stands in it now.
        now: (N, C) its logits.
        told: (N, K) bool: what was told.
        rows: (n,) the images asked about.
        index: index of the group.
        gain: what a correction is good for.
    """
    current, before, probability = beliefs.reads[rows], now[rows], beliefs.probability[rows]
    total = torch.zeros(len(rows), device=current.device, dtype=current.dtype)
    for columns, holds, weight in _outcomes(bottleneck, probability, index):
        values = torch.where(holds, bottleneck.present[columns], bottleneck.absent[columns])
        if bottleneck.given is not None:
            truth = bottleneck.truth.masked_fill(~told, torch.nan)[rows]
            truth[:, columns] = holds.to(truth.dtype)
            after = bottleneck.classify(bottleneck.given(truth, rows).reads)
        elif bottleneck.weight is not None:
            after = before + (values - current[:, columns]) @ bottleneck.weight[:, columns].t()
        else:
            edited = current.clone()
            edited[:, columns] = values
            after = bottleneck.classify(edited)
        total += weight * gain(before, after)
    return total


def _outcomes(bottleneck: Bottleneck, probability: Tensor, index: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield what a correction may turn out to be: concepts, which of them hold, and the (n,) weight."""
    group = list(bottleneck.groups[index])
    device = probability.device
    if bottleneck.exclusive[index]:
        total = probability[:, group].sum(1)
        for k in group:
            holds = torch.tensor([other == k for other in group], device=device)
            yield group, holds, probability[:, k] / total.clamp(min=1)
        yield group, torch.zeros(len(group), dtype=torch.bool, device=device), (1 - total).clamp(min=0)
        return
    for k in group:
        yield [k], torch.tensor([True], device=device), probability[:, k] / len(group)
        yield [k], torch.tensor([False], device=device), (1 - probability[:, k]) / len(group)


def learned_order(validation: Bottleneck) -> list[int]:
    """Return the order of groups, the same for all images, that is best on validation data.

    Greedy: next comes the group whose correction gives the highest accuracy, and among equals the lowest loss.
    """
    order: list[int] = []
    left = list(range(len(validation.groups)))
    while left:
        tried = []
        for group in left:
            told = torch.isin(validation.group_of, torch.tensor([*order, group], device=validation.predicted.device))
            logits = validation.classify(validation.beliefs(told.expand_as(validation.predicted)).reads)
            accuracy = float((logits.argmax(1) == validation.labels).double().mean())
            tried.append((-accuracy, float(F.cross_entropy(logits, validation.labels)), group))
        chosen = min(tried)[2]
        order.append(chosen)
        left.remove(chosen)
    return order


def fixed_ranks(bottleneck: Bottleneck, order: Sequence[int]) -> Tensor:
    """Return the ranks of one order for all images, (N, G)."""
    rank = torch.empty(len(order), dtype=torch.long, device=bottleneck.predicted.device)
    rank[list(order)] = torch.arange(len(order), device=rank.device)
    return rank.expand(len(bottleneck.labels), -1)


def right_by_budget(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return which images are right with the first n groups corrected, for n = 0 .. G: (G + 1, N) bool."""
    rank = ranks[:, bottleneck.group_of]
    right = []
    for budget in range(len(bottleneck.groups) + 1):
        logits = bottleneck.classify(bottleneck.beliefs(rank < budget).reads)
        right.append(logits.argmax(1) == bottleneck.labels)
    return torch.stack(right).cpu()


def accuracy_by_budget(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the accuracy with the first n groups corrected, for n = 0 .. G: (G + 1,) float64 in [0, 1]."""
    return right_by_budget(bottleneck, ranks).double().mean(1)
