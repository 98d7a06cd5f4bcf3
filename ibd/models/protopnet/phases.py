"""The phases of a prototype network's training, as options of a config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ibd.errors import ConfigError, check_range
from ibd.models.phase import check_phase, rate

Schedule = Literal["constant", "cosine", "onecycle", "step"]
GROUPS = ("backbone", "add_on", "prototypes", "head")


@dataclass(frozen=True)
class Warm:
    """The first epochs, in which the new layers learn on top of a fixed backbone.

    Args:
        epochs: number of epochs; 0 leaves the phase out.
        rates: group ("backbone", "add_on", "prototypes", "head") -> factor of ``optimizer.lr``; a group that is not
            named is fixed.
        schedule: schedule of the rates within this phase; null takes that of the optimizer.
    """

    key: ClassVar[str] = "model.warm.epochs"
    epochs: int = 5
    schedule: Schedule | None = None
    rates: dict[str, float] = field(default_factory=lambda: {"add_on": 1.0, "prototypes": 1.0})

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_phase("model.warm", self.epochs, self.rates, GROUPS)


@dataclass(frozen=True)
class Joint:
    """The epochs in which everything before the last layer learns.

    Args:
        epochs: number of epochs; 0 leaves the phase out.
        rates: group ("backbone", "add_on", "prototypes", "head") -> factor of ``optimizer.lr``; a group that is not
            named is fixed.
        schedule: schedule of the rates within this phase; null takes that of the optimizer.
    """

    key: ClassVar[str] = "model.joint.epochs"
    epochs: int = 21
    schedule: Schedule | None = None
    rates: dict[str, float] = field(default_factory=lambda: {"backbone": 1 / 30, "add_on": 1.0, "prototypes": 1.0})

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_phase("model.joint", self.epochs, self.rates, GROUPS)


@dataclass(frozen=True)
class Push:
    """When prototypes are projected on training patches, each followed by the last layer.

    There always is one after the last epoch.

    Args:
        start: the first epoch after which there is one, counted from 0 over all epochs.
        every: number of epochs between them from there on; 0 leaves only the one at the end.
        distinct: whether the prototypes of a class get patches that differ, in place of the nearest of each.
    """

    start: int = 10
    every: int = 10
    distinct: bool = False

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("model.push.start", self.start, least=0)
        check_range("model.push.every", self.every, least=0)

    def due(self, epoch: int) -> bool:
        """Return whether prototypes are projected after an epoch, counted from 0."""
        return self.every > 0 and epoch >= self.start and (epoch - self.start) % self.every == 0


@dataclass(frozen=True)
class LastLayer:
    """How the last layer is fitted to the similarities of the projected prototypes.

    Args:
        l1: weight of the absolute connections between prototypes and other classes than their own.
        ridge: weight of half the squared distance to the initial last layer, without which a last layer that separates
            the training images has no optimum.
        tolerance: largest proven distance of the objective from its minimum at which to stop.
        max_steps: largest number of steps.
    """

    l1: float = 1e-4
    ridge: float = 1e-3
    tolerance: float = 1e-4
    max_steps: int = 2000

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("model.last_layer.l1", self.l1, least=0)
        check_range("model.last_layer.ridge", self.ridge, least=0)
        check_range("model.last_layer.tolerance", self.tolerance, above=0)
        check_range("model.last_layer.max_steps", self.max_steps, least=1)


@dataclass(frozen=True)
class Prune:
    """Which prototypes are switched off after a projection: those whose nearest training patches are of other classes.

    Args:
        k: number of nearest patches that are looked at, one of each image.
        threshold: number of them that must be of the prototype's class.
    """

    k: int = 6
    threshold: int = 3

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("model.prune.k", self.k, least=1)
        check_range("model.prune.threshold", self.threshold, least=0)
        if self.threshold > self.k:
            raise ConfigError(f"model.prune.threshold: {self.threshold} given, at most k = {self.k} is needed")


__all__ = ["GROUPS", "Joint", "LastLayer", "Prune", "Push", "Warm", "rate"]
