"""Training in phases: for some epochs some groups of parameters learn, each at a rate of its own.

What learns is chosen by what the optimizer steps, never by ``requires_grad``: DDP notes at its start which parameters
need gradients, and processes whose parameters change sides later drift apart without a word.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from ibd.distributed import world_size
from ibd.errors import ConfigError
from ibd.models.lightning import InterpretableModule
from ibd.models.optimizer import optimizer_of, split_by_decay
from ibd.models.phase import Phase, rate
from ibd.models.prototypes import LinearPrototypes
from ibd.types import Batch


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
