"""Keeping a run: its table and checkpoints at the end of every epoch, and going on from them."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint

from ibd.errors import ConfigError, did_you_mean
from ibd.training.interrupting import undisturbed
from ibd.training.loggers import TableLogger
from ibd.training.stopping import counts, figure, loss_beside


class KeepRun(Checkpoint):
    """Write ``metrics.csv``, ``best.ckpt`` and ``last.ckpt`` at the end of an epoch.

    Each in one move, and in this order, so that a run killed at any moment can be resumed to the numbers of an
    uninterrupted one. Lightning's ``ModelCheckpoint`` renews the last checkpoint only together with the best one, and
    forgets how good that was when the run folder has been moved. Ctrl-C waits until all are written.

    Of epochs with the same value of the metric the one with the smallest loss is best, and of these the last one. Only
    epochs count in which the classes have been learned (`InterpretableModule.has_learned`).

    Args:
        folder: folder of the checkpoints.
        monitor: logged metric that says which epoch is best.
        mode: "max" or "min" of it.
        every: epochs between checkpoints; the last epoch of a training always has one.
    """

    def __init__(self, folder: Path, monitor: str, mode: Literal["min", "max"], every: int = 1) -> None:
        self.folder, self.monitor, self.mode, self.every = folder, monitor, mode, every
        self.best = self.loss = math.nan

    @property
    def state_key(self) -> str:
        """Under which the state is kept: how good the best was says nothing about another metric."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"best": self.best, "loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self.best, self.loss = state_dict["best"], state_dict.get("loss", math.nan)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what earlier epochs have logged: a resumed run knows nothing of it."""
        trainer.logged_metrics.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table, then the checkpoints."""
        with undisturbed():
            _write_table(trainer)
            if (trainer.current_epoch + 1) % self.every == 0 or _ends(trainer):
                self._write_checkpoints(trainer)

    def _write_checkpoints(self, trainer: pl.Trainer) -> None:
        value, loss = figure(trainer, self.monitor), figure(trainer, loss_beside(self.monitor))
        better = counts(trainer) and self.is_better(value, loss)
        if better:
            self.best, self.loss = value, loss
        last = self.folder / "last.ckpt"
        temporary = last.with_suffix(".tmp")
        trainer.save_checkpoint(temporary, weights_only=False)
        if trainer.is_global_zero:
            if better:  # first: what the last checkpoint says of the best one is true then
                replace(temporary, self.folder / "best.ckpt", keep=True)
            replace(temporary, last)

    def is_better(self, value: float, loss: float) -> bool:
        """Return whether an epoch takes the place of the best one so far."""
        if math.isnan(value):
            return False
        if value == self.best:
            return not loss > self.loss  # the later one, too, where there is no loss to decide
        return math.isnan(self.best) or (value > self.best if self.mode == "max" else value < self.best)


class CheckMonitors(Checkpoint):
    """Find a watched metric that nothing logs after the first batches, not when the first epoch ends.

    Args:
        monitors: key of the config -> the metric it names.
    """

    def __init__(self, monitors: dict[str, str]) -> None:
        self.monitors = monitors

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for the validation metrics in the trial run before the first epoch."""
        if trainer.sanity_checking:
            self._check(trainer, "val/")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for all of them, unless this training does not validate."""
        self._check(trainer, "" if any(name.startswith("val/") for name in trainer.callback_metrics) else "train/")

    def _check(self, trainer: pl.Trainer, prefix: str) -> None:
        logged = sorted(name for name in trainer.callback_metrics if "/" in name)
        for key, name in self.monitors.items():
            if name.startswith(prefix) and name not in trainer.callback_metrics and trainer.is_global_zero:
                raise ConfigError(f"{key}: no metric is called '{name}'.{did_you_mean(name, logged)}")


class ContinueSchedule(Callback):
    """Stretch the learning-rate schedule of a resumed run to where the training ends now."""

    _LENGTHS = ("total_steps", "_schedule_phases", "T_max")
    """What the schedules of torch know of the length of a training."""

    def __init__(self) -> None:
        self.lengths: list[dict[str, Any]] = []

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leave the new schedules their lengths (Lightning restores the rest after this)."""
        self.lengths = [{k: state.pop(k, None) for k in self._LENGTHS} for state in checkpoint["lr_schedulers"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the rates that a schedule of another length has at this step."""
        for config, before in zip(trainer.lr_scheduler_configs, self.lengths, strict=False):
            schedule: Any = config.scheduler
            if any(getattr(schedule, key, None) != before[key] for key in ("total_steps", "T_max")):
                closed = getattr(schedule, "_get_closed_form_lr", schedule.get_lr)
                with warnings.catch_warnings(action="ignore"):  # get_lr would rather be called by the schedule itself
                    rates = closed()
                for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate


def replace(source: Path, target: Path, keep: bool = False) -> None:
    """Put `source` at the place of `target` in one move, or a copy of it: `target` is always whole."""
    if keep:
        copy = target.with_suffix(".tmp")
        shutil.copyfile(source, copy)
        source = copy
    source.replace(target)


def _write_table(trainer: pl.Trainer) -> None:
    """Write the table with the training metrics, which Lightning hands to loggers only after the checkpoint."""
    logged = trainer.logged_metrics  # summed up over all processes
    for logger in trainer.loggers:
        if isinstance(logger, TableLogger):
            row = {name: float(value) for name, value in logged.items() if not name.startswith("val/")}
            logger.log_metrics({**row, "epoch": trainer.current_epoch}, trainer.global_step - 1)
            logger.save()


def _ends(trainer: pl.Trainer) -> bool:
    steps = trainer.max_steps
    return trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs or 0 < steps <= trainer.global_step
