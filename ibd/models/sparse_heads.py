"""Heads with few concepts, which every bottleneck can have: fitted to their end, along a path of elastic nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ibd.backbones.precision import full_precision

if TYPE_CHECKING:
    from ibd.explain.elastic_net import SparseHead

BUDGETS = (5, 10, 15, 20, 25, 30)
"""Effective concepts a class at which accuracy is reported (VLG-CBM, Srivastava et al. 2024, section 4.2)."""


def possible_budgets(count: int) -> list[int]:
    """Return those of `BUDGETS` that are no more than a number of concepts."""
    return [budget for budget in BUDGETS if budget <= count]


class Heads(NamedTuple):
    """What came out of a path.

    Attributes:
        head: the one that the network gets.
        few: effective concepts a class -> the one with so many; numbers that none of the path has are not there.
        last: the last of the path, with the most.
    """

    head: SparseHead
    few: dict[int, SparseHead]
    last: SparseHead


def fit_heads(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    classes: int,
    budgets: Sequence[int],
    effective: float | None,
    share: float,
    smallest: float = 1e-3,
) -> Heads:
    """Return the head of the path with the least validation loss, and those with few concepts that are compared by.

    With a number of effective concepts it is the best of the path after all but the largest weights were taken from
    each; the compared ones are what `at_effective` makes, as published, whose weights are smaller than they might be.

    Args:
        train: (N, K) scores and (N,) classes of the training images.
        val: the same of the validation images.
        classes: C.
        budgets: numbers of effective concepts of the others.
        effective: effective concepts a class; None leaves it to the validation images.
        share: share of the absolute values in the penalty.
        smallest: last penalty of the path, as a share of the first.
    """
    from ibd.explain.elastic_net import accuracy, at_effective, elastic_net_path  # a prediction needs none of it

    path = elastic_net_path(*train, classes, share=share, smallest=smallest, tolerance=1e-3)
    few = {budget: head for budget in budgets if (head := at_effective(path, budget)) is not None}
    allowed = path if effective is None else [point.cut(effective) for point in path]
    return Heads(min(allowed, key=lambda point: accuracy(point, *val)[1]), few, path[-1])


class FewHeads(nn.Module):
    """Heads with so many effective concepts a class, beside the one that predicts: what models are compared by.

    Where a whole path has fewer, its last head stands for the number.

    Args:
        inputs: K, what the heads read.
        classes: C.

    Attributes:
        weight: (M, C, K) of the heads of `possible_budgets`; NaN until they are fitted.
        bias: (M, C).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.budgets = possible_budgets(inputs)
        self.register_buffer("weight", torch.full((len(self.budgets), classes, inputs), torch.nan))
        self.register_buffer("bias", torch.full((len(self.budgets), classes), torch.nan))

    @property
    def fitted(self) -> bool:
        """Whether there are any, and a training has ended with them."""
        return bool(self.budgets) and not bool(self.bias.isnan().any())

    def set(self, heads: Heads) -> None:
        """Take over the heads of a path."""
        for place, budget in enumerate(self.budgets):
            head = heads.few.get(budget, heads.last)
            self.weight[place], self.bias[place] = head.weight, head.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the (M, N, C) logits of (N, K) inputs, in float32 also under autocast."""
        with full_precision(inputs):
            return inputs.to(self.weight.dtype) @ self.weight.transpose(1, 2) + self.bias.unsqueeze(1)
