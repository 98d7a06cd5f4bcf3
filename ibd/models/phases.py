"""Training in phases: for some epochs some groups of parameters learn, each at a rate of its own.

What learns is chosen by what the optimizer steps, never by ``requires_grad``: DDP notes at its start which parameters
need gradients, and processes whose parameters change sides later drift apart without a word.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import nn

from ibd.distributed import world_size
from ibd.errors import ConfigError, check_range, did_you_mean
from ibd.models.lightning import InterpretableModule
from ibd.models.optimizer import OptimizerSettings, optimizer_of, split_by_decay
from ibd.models.prototypes import LinearPrototypes
from ibd.types import Batch


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


class PhasedModule(InterpretableModule):
    """A module whose groups of parameters learn in phases. A subclass calls `begin_phases` in its constructor.

    Attributes:
        decayed: the groups with weight decay.
        phase_keys: the options of a config that say how long the phases are.
    """

    network: LinearPrototypes
    decayed: tuple[str, ...] = ("backbone", "add_on")

    @abc.abstractmethod
    def _groups(self) -> dict[str, list[nn.Parameter]]:
        """Return group -> its parameters."""

    @abc.abstractmethod
    def _phases(self) -> Sequence[Phase]:
        """Return the phases in the order in which they run."""

    def begin_phases(self) -> None:
        """Say how long the training is; fix for good what learns in none of its phases.

        Raises:
            ConfigError: a phase in which a frozen backbone alone would learn.
        """
        phases = self._phases()
        for phase in phases:
            if self.frozen and phase.epochs and not any(r for g, r in phase.rates.items() if g != "backbone"):
                raise ConfigError(f"{phase.key}: {phase.epochs} given, but only the backbone would learn: it is frozen")
        self.phase_keys = list(dict.fromkeys(phase.key for phase in phases))
        self.epochs = sum(phase.epochs for phase in phases)
        for group, parameters in self._groups().items():
            if not any(phase.rates.get(group) for phase in phases if phase.epochs):
                for parameter in parameters:  # once and for all, before any process wraps the model
                    parameter.requires_grad_(False)

    def _phase(self, epoch: int) -> tuple[Phase, int]:
        """Return the phase of an epoch, and which epoch of it that is."""
        *earlier, last = self._phases()
        for phase in earlier:
            if epoch < phase.epochs:
                return phase, epoch
            epoch -= phase.epochs
        return last, epoch

    def left_out(self, epochs: int) -> list[str]:
        """Return how much of its phases a training of so many epochs leaves out, by the option that says how long."""
        missing: dict[str, int] = {}
        total: dict[str, int] = {}
        for phase in self._phases():
            done = min(phase.epochs, epochs)
            epochs -= done
            missing[phase.key] = missing.get(phase.key, 0) + phase.epochs - done
            total[phase.key] = total.get(phase.key, 0) + phase.epochs
        return [f"{count} of {key}={total[key]}" for key, count in missing.items() if count]

    @property
    def in_fit(self) -> bool:
        """Whether a trainer is training this module now."""
        return self._trainer is not None and bool(self._trainer.training)

    def _freezes_statistics(self) -> bool:
        """Return whether batch statistics stay as they are: the backbone is fixed."""
        return self.in_fit and not self._phase(self.trainer.current_epoch)[0].rates.get("backbone")

    def train(self, mode: bool = True) -> Self:
        """Go to training or evaluation mode; a fixed backbone stays in evaluation mode."""
        super().train(mode)
        if mode and self._freezes_statistics():
            self.network.backbone.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        phase, _ = self._phase(self.trainer.current_epoch)
        self.train()
        # Several processes need a gradient for every parameter; the optimizer then leaves out what is fixed.
        self.network.fixed_backbone = not phase.rates.get("backbone") and world_size() == 1

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rates, which depend on the step alone, so that a resumed run has those it would have had."""
        super().on_train_batch_start(batch, batch_idx)
        phase, epoch = self._phase(self.trainer.current_epoch)
        batches = int(self.trainer.num_training_batches)
        settings = self.optimizer_settings
        if own := getattr(phase, "schedule", None):
            settings = dataclasses.replace(settings, schedule=own)
        factor = rate(settings, epoch * batches + batch_idx, phase.epochs * batches, epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = factor * self.optimizer_settings.lr * phase.rates.get(group["name"].partition("/")[0], 0.0)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave out what this phase does not train, its momentum and weight decay included."""
        phase, _ = self._phase(self.trainer.current_epoch)
        for group in optimizer.param_groups:
            if not phase.rates.get(group["name"].partition("/")[0]):
                for parameter in group["params"]:
                    parameter.grad = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return one optimizer over named groups, whose rates are set at every step."""
        settings = self.optimizer_settings
        groups: list[dict[str, Any]] = []
        for name, parameters in self._groups().items():
            trained = [p for p in parameters if p.requires_grad]
            decayed, plain = split_by_decay(trained, settings) if name in self.decayed else ([], trained)
            if decayed:
                groups.append({"params": decayed, "name": f"{name}/decayed", "weight_decay": settings.weight_decay})
            if plain:
                groups.append({"params": plain, "name": name, "weight_decay": 0.0})
        return optimizer_of(groups, settings, lr=0.0)

    def log_rates(self) -> None:
        """Log the learning rate of each group."""
        rates = {g["name"].partition("/")[0]: g["lr"] for g in self.trainer.optimizers[0].param_groups}
        self.log_dict({f"lr/{name}": value for name, value in rates.items()})


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
