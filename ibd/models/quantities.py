"""Units that are quantities, numbers with a unit: standardized inside of a network, shown and set in their unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ibd.types import Quantity


def deviations(quantities: Mapping[int, Quantity], count: int) -> Tensor:
    """Return what changes of units are measured in, (U,): 1 for truth values, the standard deviation of quantities.

    Args:
        quantities: number of the unit -> quantity.
        count: U.
    """
    return torch.tensor([quantities[unit].deviation if unit in quantities else 1.0 for unit in range(count)])


class Measured(nn.Module):
    """Which of K units are quantities, and their standardized values.

    A standardized value is ``(value - mean) / deviation``, with mean and standard deviation of the training images.
    Truth values are left as they are.

    Args:
        quantities: number of the unit -> quantity.
        count: K.

    Attributes:
        quantities: number of the unit -> quantity, as given.
        flags: (K,) bool: whether a unit is a quantity.
    """

    flags: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, quantities: Mapping[int, Quantity], count: int) -> None:
        super().__init__()
        self.quantities, self.count = dict(quantities), count
        self.register_buffer("flags", torch.tensor([unit in quantities for unit in range(count)]), persistent=False)
        means = [quantities[unit].mean if unit in quantities else 0.0 for unit in range(count)]
        self.register_buffer("mean", torch.tensor(means), persistent=False)
        self.register_buffer("deviation", deviations(quantities, count), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device, but not to half precision, in which the year 2019 is 2016."""
        kept = self.mean, self.deviation
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if torch.finfo(self.mean.dtype).bits < 32:
            self.mean, self.deviation = (value.to(self.mean.device) for value in kept)
        return self

    def standardized(self, values: Tensor) -> Tensor:
        """Return (..., K) concepts in their units with the quantities standardized."""
        return (values - self.mean) / self.deviation if self.quantities else values

    def in_units(self, values: Tensor) -> Tensor:
        """Return (..., K) values, the quantities of which are standardized, with these in their units."""
        return values * self.deviation + self.mean if self.quantities else values

    def numbers(self, numbers: Tensor, values: Tensor) -> Tensor:
        """Return (..., K) `numbers` of the quantities, and `values` of the rest."""
        return torch.where(self.flags, numbers, values) if self.quantities else values

    def truth(self, values: Tensor) -> Tensor:
        """Return (..., K) values, NaN for quantities: these have no probability and are neither true nor false."""
        return values.masked_fill(self.flags, torch.nan) if self.quantities else values

    def names(self, names: Sequence[str]) -> list[str]:
        """Return the names of the quantities, of the K names."""
        return [names[unit] for unit in self.quantities]
