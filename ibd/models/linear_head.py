"""A linear head as plain numbers: what turns the units of a network into logits, by hand or with sliders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.types import Quantity


@dataclass(frozen=True)
class LinearHead:
    """What turns U values into C logits: ``logits = values @ weights + bias``.

    Probabilities are the softmax of the logits; where `squared`, those of PIP-Net: ``1 + o^2`` of the logits o above 0,
    normalized.

    Attributes:
        names: names of the U units.
        classes: names of the C classes.
        weights: (U, C) float64.
        bias: (C,) float64.
        low: lowest value that a unit takes.
        high: highest value that a unit takes.
        squared: whether probabilities are those of PIP-Net.
        ends: name of a unit -> its own lowest and highest value, where these are others.
    """

    names: list[str]
    classes: list[str]
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    low: float
    high: float
    squared: bool = False
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)

    def in_units(self, quantities: Mapping[int, Quantity]) -> LinearHead:
        """Return the head of the same logits that takes quantities in their units, and not standardized.

        They go three standard deviations to either side of their means.
        """
        weights, bias, ends = self.weights.copy(), self.bias.copy(), dict(self.ends)
        for unit, quantity in quantities.items():
            weights[unit] /= quantity.deviation
            bias -= quantity.mean * weights[unit]
            reach = 3 * quantity.deviation
            ends[self.names[unit]] = (quantity.mean - reach, quantity.mean + reach)
        return replace(self, weights=weights, bias=bias, ends=ends)

    def bounds(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a unit."""
        return self.ends.get(name, (self.low, self.high))

    @classmethod
    def of_tensors(
        cls, names: Sequence[str], classes: Sequence[str], weight: Tensor, bias: Tensor, bounds: tuple[float, float]
    ) -> LinearHead:
        """Return the head with a (C, U) weight and a (C,) bias, of values within bounds."""
        return cls(
            names=list(names),
            classes=list(classes),
            weights=weight.detach().cpu().double().t().numpy(),
            bias=bias.detach().cpu().double().numpy(),
            low=bounds[0],
            high=bounds[1],
        )


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
