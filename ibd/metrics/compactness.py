"""How much there is to read in a prototype network: distinct prototypes, size of explanations, zeros in the head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


def prototype_uniqueness(vectors: Tensor, cosine: bool = False, decimals: int = 8) -> Tensor:
    """Return the share of distinct vectors among the prototypes, in (0, 1]; higher is better.

    Only copies count as equal, such as two prototypes projected onto the same patch.

    Args:
        vectors: (U, D) or (U, D, h, w), the active prototypes.
        cosine: whether to compare directions, for a network that compares by the cosine.
        decimals: number of decimals to which values are rounded first.

    Returns:
        float32; NaN where there are no prototypes.
    """
    flat = vectors.detach().flatten(1).cpu().double()  # float32 has no 8 decimals
    if not len(flat):
        return torch.tensor(torch.nan, device=vectors.device)
    rounded = (F.normalize(flat) if cosine else flat).round(decimals=decimals)
    return torch.tensor(len(torch.unique(rounded, dim=0)) / len(flat), device=vectors.device)


def head_sparsity(weight: Tensor) -> Tensor:
    """Return the share of entries (C, U) of a head that are exactly 0, in [0, 1]; higher is easier to read."""
    return (weight.detach() == 0).float().mean()


def explanation_size(contributions: Tensor, labels: Tensor, share: float = 0.95) -> Tensor:
    """Return how many prototypes carry most of a decision; fewer are easier to read.

    The prototypes of the largest absolute contributions to the predicted class that are needed to reach `share` of the
    total of absolute contributions.

    Args:
        contributions: (B, U, C).
        labels: (B,) the predicted classes.
        share: share in (0, 1].

    Returns:
        (B,) float32 in 1..U; NaN where nothing contributes.
    """
    size = contributions.detach()[torch.arange(len(labels), device=labels.device), :, labels].abs()
    size = size.cpu().double() if size.device.type == "mps" else size.double()  # mps has no float64
    reached = size.sort(1, descending=True).values.cumsum(1)
    total = reached[:, -1:]
    # Without the tolerance, rounding would want 8 of 25 equal contributions for 28 %.
    needed = 1 + (reached < share * total * (1 - 1e-6)).sum(1)
    return needed.float().where(total.squeeze(1) > 0, torch.nan).to(contributions.device)


class ExplanationSize(Metric):
    """Mean number of prototypes that carry `share` of a decision, at least 1; lower is better.

    Images to whose class nothing contributes are left out.

    Args:
        share: share of the total of absolute contributions, in (0, 1].
        **kwargs: arguments of torchmetrics.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    size: Tensor
    images: Tensor

    def __init__(self, share: float = 0.95, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = share
        self.add_state("size", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, contributions: Tensor, labels: Tensor) -> None:
        """Add (B, U, C) contributions and the (B,) predicted classes."""
        size = explanation_size(contributions, labels, self.share)
        self.size += size.nansum().long()
        self.images += (~size.isnan()).sum()

    def compute(self) -> Tensor:
        """Return the mean; NaN where no image has an explanation."""
        return self.size / self.images.where(self.images > 0, torch.nan)
