"""What units can be set to by hand."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ibd.errors import ConfigError, did_you_mean


class NamedUnits(Protocol):
    """What must be known of a network to find its units: of `ibd.models.base.InterpretableNetwork`."""

    unit_kind: str
    unit_names: list[str]
    unit_groups: dict[str, list[int]]

    @property
    def article(self) -> str:
        """The article of `unit_kind`."""


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


def unit_index(network: NamedUnits, key: str | int) -> int:
    """Return the index of a unit given by name or index; see `InterpretableNetwork.unit_index`."""
    if not isinstance(key, str):
        try:
            index = operator.index(key)
        except TypeError:
            raise ConfigError(
                f"{network.article} {network.unit_kind} is given by name or number, not {key!r}"
            ) from None
        if not 0 <= index < len(network.unit_names):
            raise ConfigError(f"no {network.unit_kind} {key}: there are {len(network.unit_names)}, counted from 0")
        return index
    if key not in network.unit_names:
        raise ConfigError(f"unknown {network.unit_kind} '{key}'.{did_you_mean(key, network.unit_names)}")
    return network.unit_names.index(key)


def resolved(network: NamedUnits, values: Values) -> dict[int, float | Tensor | Scale]:
    """Return index -> value; see `InterpretableNetwork.resolve_values`."""
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"values by {network.unit_kind} are needed, such as {{{network.unit_names[0]!r}: 1}}, not {values!r:.60}"
        )
    found: dict[int, float | Tensor | Scale] = {}
    for key, value in values.items():
        if isinstance(value, str):
            if key not in network.unit_groups or key in network.unit_names:
                known = did_you_mean(str(key), network.unit_groups)
                raise ConfigError(f"'{key}={value}': a number is needed, or a group and its member.{known}")
            key, value = f"{key}::{value}", 1.0
        index = unit_index(network, key)
        if index in found:
            raise ConfigError(f"{network.unit_kind} '{network.unit_names[index]}' is given twice")
        try:
            found[index] = value if isinstance(value, Tensor | Scale) else float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{network.unit_kind} '{network.unit_names[index]}' is set to {value!r}, which is not a number"
            ) from None
    return found
