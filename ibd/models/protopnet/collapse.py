"""Signs that prototypes collapse: several that are the same, some that nothing resembles most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric


def similar_pairs(prototypes: Tensor, active: Tensor) -> Tensor:
    """Return the cosine of every pair of prototypes of the same class, (n,), without the pruned ones.

    Args:
        prototypes: (C * K, D).
        active: (C, K) bool.
    """
    directions = F.normalize(prototypes.detach().float(), dim=1).view(*active.shape, -1)
    cosine = directions @ directions.transpose(1, 2)
    pair = torch.ones(active.shape[1], active.shape[1], device=active.device).triu(1).bool()
    return cosine[pair & active.unsqueeze(2) & active.unsqueeze(1)]


def duplicates(prototypes: Tensor, active: Tensor) -> Tensor:
    """Return the share of pairs of a class whose cosine is above 0.99, in [0, 1]; 0 where there are no pairs."""
    pairs = similar_pairs(prototypes, active)
    return (pairs > 0.99).float().mean() if len(pairs) else pairs.new_zeros(())


def diversity(prototypes: Tensor, active: Tensor) -> Tensor:
    """Return the mean of 1 - cosine over pairs of the same class: 0 if they are all alike; NaN where there are none."""
    return (1 - similar_pairs(prototypes, active)).mean()


class DeadPrototypes(Metric):
    """Share of prototypes that are nearest of their class to no image of it, in [0, 1]; NaN before any image.

    Over the prototypes that are not pruned, of the classes that were seen.

    Args:
        classes: number of classes C.
        per_class: number of prototypes K of each class.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    used: Tensor
    there: Tensor

    def __init__(self, classes: int, per_class: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("used", torch.zeros(classes, per_class), dist_reduce_fx="sum")
        self.add_state("there", torch.zeros(classes, per_class), dist_reduce_fx="max")

    def update(self, by_class: Tensor, labels: Tensor) -> None:
        """Count the nearest prototypes.

        Args:
            by_class: (B, C, K) distances; infinite for a pruned prototype.
            labels: (B,) int64.
        """
        self.there.copy_(torch.maximum(self.there, by_class[:1].isfinite()[0].to(self.there.dtype)))
        nearest = by_class[torch.arange(len(labels), device=labels.device), labels].argmin(1)
        self.used.index_put_((labels, nearest), self.used.new_ones(()), accumulate=True)

    def compute(self) -> Tensor:
        """Return the share, over the classes that were seen."""
        counted = (self.used.sum(1, keepdim=True) > 0) & (self.there > 0)
        return (self.used[counted] == 0).float().mean()
