"""What interventions on a split work on: everything that the head reads, and would read of corrected concepts.

Shapes: N images, K concepts, G groups, C classes, R numbers that the head reads, r of them of each concept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Classify = Callable[[Tensor], Tensor]


class Beliefs(NamedTuple):
    """What stands in a bottleneck of which some concepts are corrected."""

    reads: Tensor
    """(N, R) what the head reads."""
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
        truth: (N, K) true concepts, NaN where unknown: what is told of a concept that is corrected.
        weight: (C, R) where the head is linear; only for speed.
        given: where correcting concepts moves others: how; None where it does not.
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
    truth: Tensor
    weight: Tensor | None = None
    given: Given | None = None
    error: Tensor | None = None

    @property
    def group_of(self) -> Tensor:
        """The group of each of the R numbers, (R,); -1 where none is corrected with it."""
        result = torch.full((self.predicted.shape[1],), -1, device=self.predicted.device)
        for index, group in enumerate(self.groups):
            result[self.of(group)] = index
        return result

    @property
    def group_of_concept(self) -> Tensor:
        """The group of each concept, (K,)."""
        return self.group_of[self.columns[:, 0]]

    @property
    def additive(self) -> bool:
        """Whether each group adds to the logits what it adds by itself, whatever else is corrected."""
        return self.weight is not None and self.given is None

    @property
    def images(self) -> Tensor:
        """The numbers of the images, (N,)."""
        return torch.arange(len(self.labels), device=self.predicted.device)

    def of(self, concepts: Sequence[int]) -> Tensor:
        """Return which of the R numbers are those of some concepts."""
        return self.columns[list(concepts)].flatten()

    def untold(self) -> Tensor:
        """Return that nothing was told yet, (N, K) bool."""
        return torch.zeros_like(self.probability, dtype=torch.bool)

    def beliefs(self, told: Tensor) -> Beliefs:
        """Return what stands in the bottleneck once the concepts where `told`, (N, K) bool, are corrected."""
        if self.given is not None:
            return self.given(self.truth.masked_fill(~told, torch.nan), self.images)
        read = torch.zeros_like(self.predicted, dtype=torch.bool)
        read[:, self.columns.flatten()] = told.repeat_interleave(self.columns.shape[1], 1)
        return Beliefs(torch.where(read, self.corrected, self.predicted), self.probability)

    def gains(self, images: slice = slice(None)) -> Tensor:
        """Return what correcting each group adds to the logits of some images, (n, G, C), of an `additive` one."""
        assert self.weight is not None
        change = self.corrected[images] - self.predicted[images]
        gains = change.new_empty(len(self.groups), len(change), len(self.weight))
        for index, group in enumerate(self.groups):
            read = _consecutive(self.of(group))
            gains[index] = change[:, read] @ self.weight[:, read].t()
        return gains.transpose(0, 1)

    @property
    def quantities(self) -> Tensor:
        """Which concepts are numbers, and not true or false, (K,) bool."""
        return self.probability.isnan().any(0)

    def turned_out(self, images: Tensor, concepts: Sequence[int], holds: Tensor) -> Tensor:
        """Return what the head reads of some concepts if each turns out to hold, or not, (n, ...).

        A quantity turns out to be as much higher, or lower, as it is off in the mean.

        Args:
            images: (n,) which images.
            concepts: indices of concepts.
            holds: bool for each of these, whether it holds, or is higher.
        """
        columns, width = self.of(concepts), self.columns.shape[1]
        absent, present, predicted = (part[:, columns][images] for part in (self.absent, self.present, self.predicted))
        if self.error is not None:
            off = self.error[list(concepts)].repeat_interleave(width)
            absent = torch.where(off.isnan(), absent, predicted - off)
            present = torch.where(off.isnan(), present, predicted + off)
        return torch.where(holds.repeat_interleave(width), present, absent)


def _consecutive(columns: Tensor) -> slice | Tensor:
    """Return columns as a slice, which takes no copy, where each is the next of the one before."""
    first, count = int(columns[0]), len(columns)
    return slice(first, first + count) if columns.tolist() == list(range(first, first + count)) else columns
