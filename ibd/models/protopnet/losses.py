"""What pulls patches to the prototypes of their class and pushes them from the others (Chen et al. 2019, section 2.2).

In the published code the minimum over some prototypes is ``m - max((m - d) * mask)`` with a bound m on the distance,
which is right only while there is such a bound. Here classes are a dimension of the
tensor, and a minimum is a minimum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def class_distances(distance: Tensor, active: Tensor) -> Tensor:
    """Return (B, C, K) distances to the prototypes of each class; infinite where a prototype is pruned.

    Args:
        distance: (B, C * K), smallest over positions; the prototypes of a class lie together.
        active: (C, K) bool.
    """
    by_class = distance.view(len(distance), *active.shape)
    return by_class.masked_fill(~active, torch.inf) if not bool(active.all()) else by_class


def cluster_loss(by_class: Tensor, labels: Tensor) -> Tensor:
    """Return the mean distance of an image to the nearest prototype of its own class.

    Args:
        by_class: (B, C, K), as of `class_distances`.
        labels: (B,) int64.
    """
    own = by_class[torch.arange(len(labels), device=labels.device), labels].amin(1)
    return _finite_mean(own)


def separation_loss(by_class: Tensor, labels: Tensor) -> Tensor:
    """Return the mean distance of an image to the nearest prototype of any other class: to be made large."""
    nearest = by_class.amin(2)
    own = F.one_hot(labels, by_class.shape[1]).bool()
    return _finite_mean(nearest.masked_fill(own, torch.inf).amin(1))


def orthogonality_loss(prototypes: Tensor, active: Tensor) -> Tensor:
    """Return the mean over classes of ``|P P^T - I|_F^2`` over the directions of a class's prototypes.

    Per class, as TesNet has it (Wang et al. 2021): it keeps the prototypes of a class apart from each
    other, and says nothing of other classes.

    Args:
        prototypes: (C * K, D).
        active: (C, K) bool; pruned ones count for nothing.
    """
    directions = F.normalize(prototypes.float(), dim=1).view(*active.shape, -1) * active.unsqueeze(2)
    gram = directions @ directions.transpose(1, 2)
    return (gram - torch.diag_embed(active.to(gram.dtype))).square().sum((1, 2)).mean()


def _finite_mean(values: Tensor) -> Tensor:
    """Return the mean without the classes whose prototypes are all pruned; 0 where that leaves none."""
    finite = values.isfinite()
    return torch.where(finite, values, 0.0).sum() / finite.sum().clamp(min=1)
