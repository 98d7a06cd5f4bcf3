"""Random values in the place of learned ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Normal = Callable[[Sequence[int], torch.dtype], Tensor]
"""Draws standard normal numbers of a shape and type."""


def normal_like(old: Tensor, normal: Normal) -> Tensor:
    """Return normal numbers of the mean and the deviation of a tensor; of its finite values, where some are not."""
    deviation, middle = torch.std_mean(old.flatten(), correction=0)
    if not bool(deviation.isfinite()):
        values = old[old.isfinite()]
        deviation, middle = values.std(correction=0), values.mean()
    mean, spread = float(middle.nan_to_num(0.0)), float(deviation.nan_to_num(0.0))
    if spread <= 1e-6 * abs(mean):
        spread = 0.1 * (abs(mean) or 1.0)
    return normal(old.shape, old.dtype).mul_(spread).add_(mean)


def random_rotation(size: int, normal: Normal) -> Tensor:
    """Return a rotation, (size, size) float64, all alike probable (Stewart 1980)."""
    q, r = torch.linalg.qr(normal((size, size), torch.float64))
    turned: Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0).double()
    return turned
