"""In which order to correct concept groups. A policy only supplies ranks; nesting follows from them.

Shapes: N images, K concepts, G groups, C classes. Sources: Shin et al. 2023 (RAND, UCP, ECTP), Koh et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import UnsupportedError

Classify = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Bottleneck:
    """Everything an intervention on a split needs, after the one pass of the backbone.

    Attributes:
        predicted: (N, K) what the head reads.
        corrected: (N, K) what it would read if every known concept were corrected.
        probability: (N, K) predicted concept probabilities, NaN for quantities.
        absent, present: (K,) what the head reads for a concept that is certainly absent, present; of no meaning for
            quantities.
        labels: (N,) true classes.
        groups: indices of the concepts of each of G groups, which are corrected together.
        exclusive: (G,) whether at most one concept of the group holds.
        classify: the head, (..., K) -> (..., C).
        weight: (C, K) where the head is linear; only for speed.
        error: (K,) how far what the head reads of a quantity is off in the mean; NaN for truth values. None where all
            concepts are.
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
    weight: Tensor | None = None
    error: Tensor | None = None

    @property
    def group_of(self) -> Tensor:
        """The group of each concept, (K,)."""
        result = torch.empty(self.predicted.shape[1], dtype=torch.long, device=self.predicted.device)
        for index, group in enumerate(self.groups):
            result[list(group)] = index
        return result


def ranks_of(order_score: Tensor) -> Tensor:
    """Return (N, G) ranks, 0 for the highest score; ties by group order."""
    return order_score.sort(dim=1, descending=True, stable=True).indices.argsort(1)


def random_ranks(bottleneck: Bottleneck, seed: int) -> Tensor:
    """Return a random order of the groups for each image, (N, G)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(bottleneck.labels), len(bottleneck.groups), generator=generator)
    return ranks_of(noise).to(bottleneck.predicted.device)


def uncertainty_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the most uncertain group first, (N, G): by the sum of its concepts' entropies (UCP).

    Nothing is predicted of how uncertain a quantity is: quantities come last.
    """
    p = bottleneck.probability.double().clamp(1e-12, 1 - 1e-12)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).nan_to_num(0.0)
    return ranks_of(torch.stack([entropy[:, list(group)].sum(1) for group in bottleneck.groups], 1))


def expected_change_ranks(bottleneck: Bottleneck) -> Tensor:
    """Return the group first whose correction is expected to change the prediction most, (N, G) (ECTP).

    The score of a group is its `expected_change`, computed anew after each correction, for all images at once.

    Raises:
        UnsupportedError: nobody knows how far a quantity is off.
    """
    if bottleneck.error is not None and bool((bottleneck.error.isnan() & bottleneck.probability.isnan().any(0)).any()):
        raise UnsupportedError(
            "expected_change: this checkpoint does not know how far its quantities are off: its run was killed before "
            "the end; continue it with `ibd fit resume=RUN`"
        )
    current = bottleneck.predicted
    ranks = torch.full((len(current), len(bottleneck.groups)), -1, device=current.device)
    for step in range(len(bottleneck.groups)):
        score = torch.full_like(ranks, -torch.inf, dtype=current.dtype)
        now = bottleneck.classify(current)
        for index in range(len(bottleneck.groups)):
            left = (ranks[:, index] < 0).nonzero().flatten()
            if len(left):
                score[left, index] = expected_change(
                    bottleneck, current[left], now[left], bottleneck.probability[left], index
                )
        chosen = score.argmax(1, keepdim=True)
        ranks.scatter_(1, chosen, step)
        current = torch.where(bottleneck.group_of == chosen, bottleneck.corrected, current)
    return ranks


def expected_change(bottleneck: Bottleneck, current: Tensor, now: Tensor, probability: Tensor, index: int) -> Tensor:
    """Return how much correcting a group is expected to change the prediction, (N,).

    It is the expected Kullback-Leibler divergence KL(after || now) of the class probabilities (ECTP of Shin et al.
    2023), over what the correction may turn out to be, by the predicted probabilities: for an exclusive group, which of
    its concepts holds, or that none does; else the mean over its concepts of being present or absent. A quantity may
    turn out to be as much higher or lower as it is off in the validation images, both equally likely.

    Args:
        bottleneck: bottleneck for its head and groups.
        current: (N, K) what the head reads now.
        now: (N, C) its logits.
        probability: (N, K) predicted concept probabilities.
        index: index of the group.
    """
    before = now.log_softmax(1)
    total = torch.zeros(len(current), device=current.device, dtype=current.dtype)
    for columns, values, weight in _outcomes(bottleneck, current, probability, index):
        if bottleneck.weight is None:
            edited = current.clone()
            edited[:, columns] = values
            then = bottleneck.classify(edited)
        else:
            then = before + (values - current[:, columns]) @ bottleneck.weight[:, columns].t()
        total += weight * F.kl_div(before, then.log_softmax(1), log_target=True, reduction="none").sum(1)
    return total


def _outcomes(
    bottleneck: Bottleneck, current: Tensor, probability: Tensor, index: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield what a correction may turn out to be: concepts, what the head then reads of them, and the (N,) weight."""
    group = list(bottleneck.groups[index])
    absent, present = bottleneck.absent, bottleneck.present
    if bottleneck.exclusive[index]:
        total = probability[:, group].sum(1)
        for k in group:
            holds = torch.tensor([other == k for other in group], device=absent.device)
            yield group, torch.where(holds, present[group], absent[group]), probability[:, k] / total.clamp(min=1)
        yield group, absent[group], (1 - total).clamp(min=0)
        return
    for k in group:
        if bottleneck.error is not None and not bool(bottleneck.error[k].isnan()):
            half = torch.full_like(probability[:, k], 0.5 / len(group))
            for sign in (1, -1):
                yield [k], current[:, [k]] + sign * bottleneck.error[k], half
            continue
        yield [k], present[k], probability[:, k] / len(group)
        yield [k], absent[k], (1 - probability[:, k]) / len(group)


def learned_order(validation: Bottleneck) -> list[int]:
    """Return the order of groups, the same for all images, that is best on validation data.

    Greedy: next comes the group whose correction gives the highest accuracy, and among equals the lowest loss.
    """
    current, order = validation.predicted, []
    left = list(range(len(validation.groups)))
    while left:
        tried = []
        for group in left:
            logits = validation.classify(torch.where(validation.group_of == group, validation.corrected, current))
            accuracy = float((logits.argmax(1) == validation.labels).double().mean())
            tried.append((-accuracy, float(F.cross_entropy(logits, validation.labels)), group))
        chosen = min(tried)[2]
        order.append(chosen)
        left.remove(chosen)
        current = torch.where(validation.group_of == chosen, validation.corrected, current)
    return order


def fixed_ranks(bottleneck: Bottleneck, order: Sequence[int]) -> Tensor:
    """Return the ranks of one order for all images, (N, G)."""
    rank = torch.empty(len(order), dtype=torch.long, device=bottleneck.predicted.device)
    rank[list(order)] = torch.arange(len(order), device=rank.device)
    return rank.expand(len(bottleneck.labels), -1)


def accuracy_by_budget(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the accuracy with the first n groups corrected, for n = 0 .. G: (G + 1,) float64 in [0, 1]."""
    rank = ranks[:, bottleneck.group_of]
    accuracies = []
    for budget in range(len(bottleneck.groups) + 1):
        read = torch.where(rank < budget, bottleneck.corrected, bottleneck.predicted)
        accuracies.append((bottleneck.classify(read).argmax(1) == bottleneck.labels).double().mean())
    return torch.stack(accuracies).cpu()
