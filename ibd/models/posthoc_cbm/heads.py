"""The heads of a post-hoc bottleneck: one of a path of sparse ones, and what the features say beyond the concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ibd.explain.elastic_net import SparseHead, accuracy, at_effective, elastic_net_path

RIDGES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
"""Penalties of a rest, of which the validation images choose."""


class Heads(NamedTuple):
    """What came out of a path.

    Attributes:
        head: the one that the network gets.
        few: effective concepts a class -> the one with so many; numbers that none of the path has are not there.
    """

    head: SparseHead
    few: dict[int, SparseHead]


def fit_heads(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    classes: int,
    budgets: Sequence[int],
    effective: float | None,
    share: float,
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
    """
    path = elastic_net_path(*train, classes, share=share, tolerance=1e-3)
    few = {budget: head for budget in budgets if (head := at_effective(path, budget)) is not None}
    allowed = path if effective is None else [point.cut(effective) for point in path]
    return Heads(min(allowed, key=lambda point: accuracy(point, *val)[1]), few)


def fit_rest(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], logits: Tensor, val_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the features say for each class beyond the concepts, whose head stays as it is.

    The residual of Yuksekgonul et al. 2023, section 2.3: a linear classifier whose logits are added, with a ridge of
    which the validation images choose the penalty.

    Args:
        train: (N, D) features and (N,) classes of the training images.
        val: the same of the validation images.
        logits: (N, C) of the training images without it.
        val_logits: the same of the validation images.

    Returns:
        (C, D) weights and (C,) bias.
    """
    path = elastic_net_path(*train, logits.shape[1], share=0.0, penalties=RIDGES, tolerance=1e-3, offset=logits)
    best = min(path, key=lambda point: accuracy(point, *val, val_logits.double())[1])
    return best.weight, best.bias


def spread(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the deviation, the 5th and the 95th percentile of (N, U) scores, (U,) each."""
    import numpy as np

    low, high = np.percentile(scores.numpy(), [5, 95], axis=0)  # torch.quantile refuses large sets
    return scores.std(0, correction=0), torch.from_numpy(low), torch.from_numpy(high)
