"""What units can be set to by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Scale:
    """A factor in the place of a value: what is there is multiplied by it.

    Attributes:
        factor: a number, or a (B,) tensor of one for each image.
    """

    factor: float | Tensor


Value = float | Tensor | Scale | str
"""A number for all images, a (B,) tensor of one for each, a factor; or, for a group, the name of its member to set."""
Values = Mapping[str, Value] | Mapping[int, Value] | Mapping[str | int, Value]
"""Unit -> value, by names, by numbers, or by both: a mapping of the one is none of the other to a type checker."""
Factors = Mapping[str, float] | Mapping[int, float] | Mapping[str | int, float]
