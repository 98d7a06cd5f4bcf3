"""The part of a score that passes certain units, or certain channels of a layer: conditions of a target.

Concept relevance propagation (Achtibat et al. 2023, "From attribution maps to human-understandable explanations through
concept relevance propagation") asks for the relevance of a class that passes a concept. Of a network whose logits are a
sum over its units that part is what the units contribute, a number that any explainer can be asked for; of the channels
of any layer it is a relevance, for which LRP alone is asked.
"""

from __future__ import annotations

import fnmatch
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.activations import network_of
from ibd.explain.names import require_names

Chosen = tuple[int | str, ...]
"""Units by position, name or pattern."""


@dataclass(frozen=True)
class Gate:
    """Channels of a layer that relevance passes, in place of all.

    Attributes:
        layer: name of the layer.
        channels: their numbers; None are all of them.
    """

    layer: str
    channels: tuple[int, ...] | None = None

    def __str__(self) -> str:
        """Return it in words."""
        if self.channels is None:
            return f"'{self.layer}'"
        listed = ", ".join(map(str, self.channels[:4])) + (", ..." if len(self.channels) > 4 else "")
        return f"channel{'' if len(self.channels) == 1 else 's'} {listed} of '{self.layer}'"


def chosen_units(given: int | str | Sequence[int | str]) -> Chosen:
    """Return units as they were given, one or several.

    Raises:
        ConfigError: none.
    """
    several = (given,) if isinstance(given, int | str) else tuple(given)
    if not several:
        raise ConfigError("target: through: at least one unit is needed")
    return several


def chosen_channels(given: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """Return channels as they were given, one or several; None for all.

    Raises:
        ConfigError: none, or what is no number.
    """
    if given is None:
        return None
    try:
        several = tuple(map(operator.index, given if isinstance(given, Iterable) else (given,)))
    except TypeError:
        raise ConfigError(f"target: through: channels by number are needed, not {given!r:.60}") from None
    if not several:
        raise ConfigError("target: through: at least one channel is needed")
    return several


def positions(model: nn.Module, chosen: Chosen) -> tuple[int, ...]:
    """Return the positions of units, each once.

    Raises:
        ConfigError: a name or number that there is not, or a pattern that fits none.
        UnsupportedError: the model has no units, or its logits are no sum over them.
    """
    network: Any = network_of(model)
    names = require_names(model, "unit")
    if not hasattr(network, "contributions") or not getattr(network, "additive", False):
        raise UnsupportedError(
            f"target: the logits of {type(network).__name__} are no sum over its units: ask for a unit itself, or by "
            "lrp for what passes the channels of a layer, through(layer=..., channels=[...])"
        )
    found: dict[int, None] = {}
    for item in chosen:
        if isinstance(item, str):
            fitting = [names[item]] if item in names else [i for n, i in names.items() if fnmatch.fnmatchcase(n, item)]
            if not fitting:
                raise ConfigError(f"target: unknown unit '{item}'.{did_you_mean(item, list(names))}")
        elif 0 <= item < len(network.unit_names):
            fitting = [item]
        else:
            raise ConfigError(f"target: no unit {item}: there are {len(network.unit_names)}, counted from 0")
        found |= dict.fromkeys(fitting)
    return tuple(found)


def passing(model: nn.Module, output: Any, units: Sequence[int]) -> Tensor:
    """Return what units contribute to all logits, (B, C), as a function of the images.

    Args:
        model: one of ours whose logits are a sum over its units.
        output: what it returned.
        units: their positions.
    """
    network: Any = network_of(model)
    contributions: Tensor = network.contributions(output.units)
    wanted = torch.zeros(contributions.shape[1], 1, dtype=contributions.dtype, device=contributions.device)
    wanted[list(units)] = 1.0
    return (contributions * wanted).sum(1)
