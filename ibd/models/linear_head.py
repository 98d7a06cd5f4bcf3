"""What linear heads share: what each unit adds to a logit, how far units go, and what takes their place."""

from __future__ import annotations

import torch
from torch import Tensor


def seen_range(values: Tensor | None) -> tuple[float, float]:
    """Return how far values go, 0 included; up to 1 where there are none."""
    if values is None or not values.numel():
        return 0.0, 1.0
    return min(0.0, float(values.min())), max(float(values.max()), 1e-6)


def linear_contributions(activation: Tensor, weight: Tensor) -> Tensor:
    """Return activation (B, U) times weight (C, U) as (B, U, C): what each unit adds to each logit."""
    return activation.unsqueeze(2) * weight.t().unsqueeze(0)


def replaced(values: Tensor, off: Tensor, value: Tensor | float) -> Tensor:
    """Return values in which those that are `off` are replaced, by others that may be of any type and device."""
    return torch.where(off, torch.as_tensor(value, dtype=values.dtype, device=values.device), values)
