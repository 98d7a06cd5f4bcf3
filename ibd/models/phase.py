"""One phase of a training: its length, what learns in it, and the schedule of its rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from ibd.errors import ConfigError, check_range, did_you_mean
from ibd.models.optimizer import OptimizerSettings


class Phase(Protocol):
    """Some epochs and what learns in them.

    Attributes:
        key: option of a config that says how many.
    """

    key: ClassVar[str]

    @property
    def epochs(self) -> int:
        """Number of epochs."""

    @property
    def rates(self) -> Mapping[str, float]:
        """Group -> factor of ``optimizer.lr``; a group that is not named is fixed."""


def rate(settings: OptimizerSettings, step: int, steps: int, epoch: int) -> float:
    """Return the factor of every learning rate at a step of a phase: the schedule.

    Args:
        settings: `schedule` is "constant", "cosine" or "onecycle" over the phase, or "step" by its epochs.
        step: step within the phase.
        steps: steps of the phase.
        epoch: epoch within the phase.
    """
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "step":
        return float(settings.gamma ** (epoch // settings.step_epochs))
    done = step / max(1, steps)
    if settings.schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    rise = settings.warmup
    if done < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * done / rise)) / 2
    return (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


def check_phase(key: str, epochs: int, rates: Mapping[str, float], groups: Sequence[str]) -> None:
    """Check the length and the rates of a phase.

    Args:
        key: place of the phase in the config.
        epochs: number of epochs.
        rates: group -> factor.
        groups: the groups that there are.

    Raises:
        ConfigError: a negative number, an unknown group, or epochs in which nothing learns.
    """
    check_range(f"{key}.epochs", epochs, least=0)
    for name, value in rates.items():
        if name not in groups:
            raise ConfigError(f"{key}.rates: there is no group '{name}'.{did_you_mean(name, groups)}")
        check_range(f"{key}.rates.{name}", value, least=0)
    if epochs and not any(rates.values()):
        raise ConfigError(f"{key}.rates: a rate for at least one of {', '.join(groups)} is needed")
