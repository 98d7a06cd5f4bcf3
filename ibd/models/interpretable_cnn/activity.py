"""How much the images of each class activate a filter, by which it is assigned to one (Zhang et al. 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ibd.backbones.precision import full_precision
from ibd.models.painting import spatial_mean


def sums_by_class(maps: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the sums of the mean activation over the images of each class, (C, F), and the number of these, (C,).

    Args:
        maps: (B, F, h, w).
        labels: (B,) int64.
        classes: C.
    """
    activation = spatial_mean(maps)
    with full_precision(activation):
        chosen = F.one_hot(labels, classes).to(activation.dtype)
        return chosen.t() @ activation, chosen.sum(0)
