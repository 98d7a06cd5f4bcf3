"""What happens during a training beside the training itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from ibd.errors import IbdError
from ibd.models.lightning import InterpretableModule
from ibd.training.compiling import CompileSteps
from ibd.training.display import Bar, EpochLines, ValidationFigures
from ibd.training.keeping import CheckMonitors, ContinueSchedule, KeepRun
from ibd.training.lengths import TellLength
from ibd.training.settings import CheckpointSettings, EarlyStoppingSettings, LoggerSettings
from ibd.training.stopping import StopEarly


class NanLossError(IbdError):
    """The loss is no longer a number; the message says where it happened and what to try."""


def advice(module: pl.LightningModule) -> str:
    """Return what to try where the loss of a module is no number."""
    return (module if isinstance(module, InterpretableModule) else InterpretableModule).nan_advice


class SeedEpochs(Callback):
    """Seed torch anew at every epoch, so that dropout too is the same in a resumed run as in an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed by (seed, epoch, process), after the loader has drawn from torch's generator, too."""
        if batch_idx == 0:
            torch.manual_seed(self.seed + 1_000_003 * trainer.current_epoch + 7919 * trainer.global_rank)


class StopOnNan(Callback):
    """Stop as soon as the loss of any process is not finite, saying where.

    On a GPU the loss is looked at every 20 steps only, since looking waits for the device.
    """

    every = 20

    def __init__(self) -> None:
        self.last_finite = math.nan

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of this step."""
        loss = outputs["loss"]
        if loss.is_cuda and batch_idx % self.every and batch_idx + 1 < trainer.num_training_batches:
            return
        value = float(loss)
        if trainer.strategy.reduce_boolean_decision(math.isfinite(value), all=True):
            self.last_finite = value
            return
        if not trainer.is_global_zero:
            raise SystemExit(0)  # the first process tells
        bad = [name for name, p in pl_module.named_parameters() if not bool(p.isfinite().all())]
        parameters = f"parameters no longer finite: {', '.join(bad[:3])}" if bad else "all parameters are still finite"
        where = "" if not math.isfinite(value) else " in another process"
        raise NanLossError(
            f"the loss is no longer finite{where} at epoch {trainer.current_epoch + 1}, step {trainer.global_step} "
            f"({value:.4g}, the last finite one was {self.last_finite:.4g}; {parameters}). {advice(pl_module)}"
        )


def build_callbacks(
    folder: Path,
    model: InterpretableModule,
    logger: LoggerSettings,
    checkpoint: CheckpointSettings,
    early_stopping: EarlyStoppingSettings | None,
    seed: int,
    bar: bool = True,
    compiled: bool = False,
) -> list[Callback]:
    """Return the callbacks of a run, with a progress bar or without, its steps compiled or not."""
    monitor, mode = model.monitor
    if checkpoint.monitor is not None and checkpoint.mode is not None:
        monitor, mode = checkpoint.monitor, checkpoint.mode
    monitors = {"checkpoint.monitor": monitor}
    callbacks: list[Callback] = [
        SeedEpochs(seed),
        StopOnNan(),
        ContinueSchedule(),
        *([Bar()] if bar else []),
        *([CompileSteps()] if compiled else []),
    ]
    if logger.figures_every > 0 and logger.figure_images > 0:
        figures = folder / "figures"
        callbacks.append(ValidationFigures(figures, logger.figures_every, logger.figure_images, logger.explainers))
    if early_stopping is not None:
        watched, direction = early_stopping.monitor or monitor, early_stopping.mode or mode
        monitors["early_stopping.monitor"] = watched
        callbacks.append(
            StopEarly(
                watched,
                patience=early_stopping.patience,
                min_delta=early_stopping.min_delta,
                mode=direction,
                strict=False,  # CheckMonitors tells
            )
        )
    keep = KeepRun(folder / "checkpoints", monitor, "min" if mode == "min" else "max", checkpoint.every_n_epochs)
    return [*callbacks, CheckMonitors(monitors), keep, EpochLines(), TellLength(keep)]
