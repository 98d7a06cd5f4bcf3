"""The optimizer and its schedule, from plain settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import lr_scheduler

from ibd.errors import ConfigError, check_range


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights are stepped.

    Args:
        name: "adamw", "adam" or "sgd".
        lr: learning rate (the peak of the "onecycle" schedule).
        weight_decay: weight decay, decoupled for "adamw", added to the gradient for the others.
        momentum: momentum of "sgd"; "onecycle" moves it by 0.05 around this, down while the rate rises, and the beta of
            the others around 0.9.
        nesterov: Nesterov momentum for "sgd".
        decay_all: whether to decay biases and normalization weights too, as older published settings do.
        schedule: "constant"; "cosine" down to zero; "onecycle" up and down over the whole training (Smith 2018);
            "step" multiplies by `gamma` every `step_epochs`.
        warmup: share of the training that "onecycle" rises for.
        step_epochs: epochs between the falls of "step".
        gamma: factor of each fall of "step".
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    nesterov: bool = True
    decay_all: bool = False
    schedule: Literal["constant", "cosine", "onecycle", "step"] = "onecycle"
    warmup: float = 0.25
    step_epochs: int = 20
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("optimizer.lr", self.lr, above=0)
        if not 0 < self.warmup < 1:
            raise ConfigError(f"optimizer.warmup: {self.warmup} given, a share between 0 and 1 is needed")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"optimizer.momentum: {self.momentum} given, from 0 to less than 1 is needed")
        check_range("optimizer.weight_decay", self.weight_decay, least=0)
        check_range("optimizer.gamma", self.gamma, above=0)
        check_range("optimizer.step_epochs", self.step_epochs, least=1)


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return an optimizer of all parameters of `module` that learn."""
    decayed, plain = split_by_decay(module.parameters(), settings)
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": settings.weight_decay}]
    if plain:
        groups.append({"params": plain, "weight_decay": 0.0})
    return optimizer_of(groups, settings, settings.lr)


def split_by_decay(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that learn with weight decay, and without: biases and normalization weights, by default."""
    known = [parameter for parameter in parameters if parameter.requires_grad]
    decays = [settings.decay_all or parameter.ndim > 1 for parameter in known]
    return list(compress(known, decays)), list(compress(known, map(not_, decays)))


def optimizer_of(groups: list[dict[str, Any]], settings: OptimizerSettings, lr: float) -> torch.optim.Optimizer:
    """Return an optimizer of groups of parameters, each with a weight decay of its own.

    Args:
        groups: parameter groups as torch takes them.
        settings: settings of the optimizer.
        lr: learning rate to begin with.
    """
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=nesterov)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=lr)


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, total_steps: float, steps_per_epoch: int
) -> lr_scheduler.LRScheduler | None:
    """Return the schedule to call after every optimizer step, or None for a constant rate.

    Args:
        optimizer: optimizer whose rate is scheduled.
        settings: settings of the schedule.
        total_steps: total steps of the whole training; may be infinite for "constant" and "step".
        steps_per_epoch: number of optimizer steps in an epoch.
    """
    if settings.schedule == "constant":
        return None
    if settings.schedule == "step":
        return lr_scheduler.StepLR(optimizer, max(1, steps_per_epoch) * settings.step_epochs, settings.gamma)
    if settings.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, max(1, int(total_steps)))
    return _one_cycle(optimizer, settings, total_steps)


def _one_cycle(optimizer: torch.optim.Optimizer, settings: OptimizerSettings, steps: float) -> lr_scheduler.OneCycleLR:
    """Return the schedule of a training of so many steps; a single one has the full rate, and could be resumed."""
    momentum = settings.momentum if settings.name == "sgd" else 0.9
    total_steps = max(2, int(steps))
    schedule = lr_scheduler.OneCycleLR(
        optimizer,
        settings.lr,
        total_steps=total_steps,
        pct_start=min(max(settings.warmup * total_steps, 1.5), total_steps - 0.5) / total_steps,  # neither part empty
        cycle_momentum=momentum > 0,
        base_momentum=max(momentum - 0.05, 0.0),
        max_momentum=min(momentum + 0.05, 0.99),
    )
    if steps < 2:
        for group in optimizer.param_groups:
            group["lr"] = settings.lr
    return schedule
