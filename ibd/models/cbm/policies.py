"""In which order to correct concept groups. A policy only supplies ranks; nesting follows from them.

Shapes: N images, K concepts, G groups, C classes, R numbers that the head reads. Sources:
Shin et al. 2023 (RAND, UCP, ECTP), Koh et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import UnsupportedError

Classify = Callable[[Tensor], Tensor]
_MOST_VALUES = 2**24
"""Values of the largest tensor of logits that is made at a time: 64 MiB in float32."""


@dataclass(frozen=True)
class Bottleneck:
    """Everything an intervention on a split needs, after the one pass of the backbone.

    Attributes:
        predicted: (N, R) what the head reads.
        corrected: (N, R) what it would read if every known concept were corrected.
        probability: (N, K) predicted concept probabilities, NaN for quantities.
        absent, present: (N, R) what the head reads for a concept that is certainly absent, present; of no meaning for
            quantities.
        columns: (K, r) which of the R numbers are each concept's; others stay as predicted.
        labels: (N,) true classes.
        groups: indices of the concepts of each of G groups, which are corrected together.
        exclusive: (G,) whether at most one concept of the group holds.
        classify: the head, (..., R) -> (..., C).
        weight: (C, R) where the head is linear; only for speed.
        error: (K,) how far what the head reads of a quantity is off in the mean; NaN for truth values. None where all
            concepts are.
    """

    predicted: Tensor
    corrected: Tensor
    probability: Tensor
    absent: Tensor
    present: Tensor
    columns: Tensor
    labels: Tensor
    groups: Sequence[Sequence[int]]
    exclusive: Sequence[bool]
    classify: Classify
    weight: Tensor | None = None
    error: Tensor | None = None

    @property
    def group_of(self) -> Tensor:
        """The group of each of the R numbers, (R,); -1 where none is corrected with it."""
        result = torch.full((self.predicted.shape[1],), -1, device=self.predicted.device)
        for index, group in enumerate(self.groups):
            result[self.of(group)] = index
        return result

    def of(self, concepts: Sequence[int]) -> Tensor:
        """Return which of the R numbers are those of some concepts."""
        return self.columns[list(concepts)].flatten()

    def gains(self, images: slice = slice(None)) -> Tensor:
        """Return what correcting each group adds to the logits of some images, (n, G, C); the head must be linear."""
        assert self.weight is not None
        change = self.corrected[images] - self.predicted[images]
        parts = [change[:, self.of(group)] @ self.weight[:, self.of(group)].t() for group in self.groups]
        return torch.stack(parts, 1)


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
                score[left, index] = expected_change(bottleneck, current[left], now[left], left, index)
        chosen = score.argmax(1, keepdim=True)
        ranks.scatter_(1, chosen, step)
        current = torch.where(bottleneck.group_of == chosen, bottleneck.corrected, current)
    return ranks


def expected_change(bottleneck: Bottleneck, current: Tensor, now: Tensor, images: Tensor, index: int) -> Tensor:
    """Return how much correcting a group is expected to change the prediction, (n,).

    It is the expected Kullback-Leibler divergence KL(after || now) of the class probabilities (ECTP of Shin et al.
    2023), over what the correction may turn out to be, by the predicted probabilities: for an exclusive group, which of
    its concepts holds, or that none does; else the mean over its concepts of being present or absent. A quantity may
    turn out to be as much higher or lower as it is off in the validation images, both equally likely.

    Args:
        bottleneck: bottleneck for its head, groups and predicted probabilities.
        current: (n, R) what the head reads now.
        now: (n, C) its logits.
        images: (n,) which of the N images these are.
        index: index of the group.
    """
    before = now.log_softmax(1)
    total = torch.zeros(len(current), device=current.device, dtype=current.dtype)
    for columns, values, weight in _outcomes(bottleneck, images, index):
        if bottleneck.weight is None:
            edited = current.clone()
            edited[:, columns] = values
            then = bottleneck.classify(edited)
        else:
            then = before + (values - current[:, columns]) @ bottleneck.weight[:, columns].t()
        total += weight * F.kl_div(before, then.log_softmax(1), log_target=True, reduction="none").sum(1)
    return total


def _outcomes(bottleneck: Bottleneck, images: Tensor, index: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what a correction may turn out to be: columns, what the head then reads of them, and the (n,) weight."""
    group = list(bottleneck.groups[index])
    every, probability = bottleneck.of(group), bottleneck.probability[images]
    absent, present = (values[:, every][images] for values in (bottleneck.absent, bottleneck.present))
    width = bottleneck.columns.shape[1]
    if bottleneck.exclusive[index]:
        total = probability[:, group].sum(1)
        for place, k in enumerate(group):
            holds = torch.arange(len(every), device=absent.device) // width == place
            yield every, torch.where(holds, present, absent), probability[:, k] / total.clamp(min=1)
        yield every, absent, (1 - total).clamp(min=0)
        return
    for place, k in enumerate(group):
        own = slice(place * width, (place + 1) * width)
        if bottleneck.error is not None and not bool(bottleneck.error[k].isnan()):
            half = torch.full_like(probability[:, k], 0.5 / len(group))
            for sign in (1, -1):
                yield every[own], bottleneck.predicted[images][:, every[own]] + sign * bottleneck.error[k], half
            continue
        yield every[own], present[:, own], probability[:, k] / len(group)
        yield every[own], absent[:, own], (1 - probability[:, k]) / len(group)


def learned_order(validation: Bottleneck) -> list[int]:
    """Return the order of groups, the same for all images, that is best on validation data.

    Greedy: next comes the group whose correction gives the highest accuracy, and among equals the lowest loss.
    """
    current, order = validation.predicted, []
    left = list(range(len(validation.groups)))
    now = validation.classify(current)
    gains = None if validation.weight is None else validation.gains()
    while left:
        tried = []
        for group in left:
            if gains is None:
                logits = validation.classify(torch.where(validation.group_of == group, validation.corrected, current))
            else:
                logits = now + gains[:, group]
            accuracy = float((logits.argmax(1) == validation.labels).double().mean())
            tried.append((-accuracy, float(F.cross_entropy(logits, validation.labels)), group))
        chosen = min(tried)[2]
        order.append(chosen)
        left.remove(chosen)
        if gains is None:
            current = torch.where(validation.group_of == chosen, validation.corrected, current)
        else:
            now = now + gains[:, chosen]
    return order


def fixed_ranks(bottleneck: Bottleneck, order: Sequence[int]) -> Tensor:
    """Return the ranks of one order for all images, (N, G)."""
    rank = torch.empty(len(order), dtype=torch.long, device=bottleneck.predicted.device)
    rank[list(order)] = torch.arange(len(order), device=rank.device)
    return rank.expand(len(bottleneck.labels), -1)


def accuracy_by_budget(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the accuracy with the first n groups corrected, for n = 0 .. G: (G + 1,) float64 in [0, 1]."""
    if bottleneck.weight is not None and bottleneck.columns.shape[1] > 1:
        return _accuracy_by_gains(bottleneck, ranks)
    rank = F.pad(ranks, (0, 1), value=len(bottleneck.groups))[:, bottleneck.group_of]
    accuracies = []
    for budget in range(len(bottleneck.groups) + 1):
        read = torch.where(rank < budget, bottleneck.corrected, bottleneck.predicted)
        accuracies.append((bottleneck.classify(read).argmax(1) == bottleneck.labels).double().mean())
    return torch.stack(accuracies).cpu()


def _accuracy_by_gains(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the same for a linear head that reads many numbers of a concept: by sums of what each group adds.

    The head reads all of them twice, and not once for each budget; some images at a time.
    """
    count, groups = ranks.shape
    right = torch.zeros(groups + 1, dtype=torch.float64, device=ranks.device)
    at_once = max(1, _MOST_VALUES // ((groups + 1) * len(bottleneck.classify(bottleneck.predicted[:1])[0])))
    for start in range(0, count, at_once):
        images = slice(start, start + at_once)
        first = bottleneck.classify(bottleneck.predicted[images]).unsqueeze(1)
        gains = bottleneck.gains(images)
        order = ranks[images].argsort(1)
        ordered = gains.take_along_dim(order.unsqueeze(2), 1)
        logits = torch.cat([first, ordered], 1).cumsum(1)
        right += (logits.argmax(2) == bottleneck.labels[images].unsqueeze(1)).double().sum(0)
    return (right / count).cpu()
