"""What happens during a training beside the training itself."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from tqdm.auto import tqdm

from ibd.data.base import ImageDataModule
from ibd.errors import IbdError
from ibd.explain.figures import prediction_figure
from ibd.models.lightning import InterpretableModule
from ibd.training.loggers import TableLogger
from ibd.training.settings import CheckpointSettings, EarlyStoppingSettings, LoggerSettings
from ibd.types import stack_samples


class NanLossError(IbdError):
    """The loss is no longer a number; the message says where it happened and what to try."""


class SeedEpochs(Callback):
    """Seed torch anew at every epoch, so that dropout too is the same in a resumed run as in an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed by (seed, epoch, process)."""
        torch.manual_seed(self.seed + 1_000_003 * trainer.current_epoch + 7919 * trainer.global_rank)


class StopOnNan(Callback):
    """Stop as soon as the loss is not finite, saying where.

    On a GPU the loss is looked at every `every` steps only, since looking waits for the device.
    """

    def __init__(self, every: int = 20) -> None:
        self.every = every
        self.last_finite = math.nan

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of this step."""
        loss = outputs["loss"]
        if loss.is_cuda and batch_idx % self.every and batch_idx + 1 < trainer.num_training_batches:
            return
        value = float(loss)
        if math.isfinite(value):
            self.last_finite = value
            return
        terms = {
            name.removeprefix("train/"): float(v)
            for name, v in trainer.callback_metrics.items()
            if name.startswith("train/") and not math.isfinite(float(v))
        }
        bad = [name for name, p in pl_module.named_parameters() if not bool(p.isfinite().all())]
        raise NanLossError(
            f"the loss became {value} at epoch {trainer.current_epoch}, step {trainer.global_step} (last finite: "
            f"{self.last_finite:.4g})"
            + (f", first in {', '.join(terms)}" if terms else "")
            + (f"; parameters no longer finite: {', '.join(bad[:3])}" if bad else "; all parameters are still finite")
            + ". Try a lower optimizer.lr or trainer.gradient_clip_val=1; the last finished epoch is kept"
        )


class ValidationFigures(Callback):
    """Draw a few fixed validation images with their units and maps, into ``figures/`` and to W&B.

    Args:
        folder: where the pictures go.
        every: epochs between figures; the last epoch always has one.
        count: how many images, of as many classes as possible.
    """

    def __init__(self, folder: Path, every: int, count: int) -> None:
        self.folder, self.every, self.count = folder, every, count

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, on the first process only and without any collective."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = (trainer.current_epoch + 1) % self.every == 0 or last
        if trainer.sanity_checking or not due or not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, InterpretableModule) or not isinstance(data, ImageDataModule):
            return
        chosen = first_of_each_class(data.dataset("val").labels, self.count)
        dataset = data.dataset("val")
        batch = stack_samples([dataset[index] for index in chosen])
        figure = prediction_figure(pl_module.predict(batch.image), batch.image, batch.label, batch.concepts)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"validation_epoch_{trainer.current_epoch:03d}.png"
        figure.savefig(path, dpi=100)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("validation/predictions", [str(path)])


def first_of_each_class(labels: torch.Tensor, count: int) -> list[int]:
    """Return up to `count` indices: the first image of each class, then the second, and so on."""
    seen: dict[int, int] = {}
    rank = []
    for index, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        rank.append((seen[label], index))
    return [index for _, index in sorted(rank)[:count]]


class EpochLines(Callback):
    """Say in one line how each epoch went: what stays on the screen, and all that a log file gets."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the line, above the progress bar where there is one."""
        if not trainer.is_global_zero:
            return
        shown = ("train/loss", "val/loss", "val/accuracy", "val/concept_auroc")
        figures = "  ".join(
            f"{k} {float(trainer.callback_metrics[k]):.4f}" for k in shown if k in trainer.callback_metrics
        )
        total = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        tqdm.write(
            f"epoch {trainer.current_epoch + 1}{total}  {figures}  ({time.monotonic() - self.started:.1f} s)",
            file=sys.stderr,
        )


class Bar(TQDMProgressBar):
    """Lightning's bar without the version number of the run."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar."""
        shown = super().get_metrics(trainer, pl_module)
        return {key: value for key, value in shown.items() if key in ("loss", "val/accuracy", "val/concept_auroc")}


class ResumeTable(Callback):
    """Let the CSV continue from where the checkpoint was taken."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the earlier rows."""
        for logger in trainer.loggers:
            if isinstance(logger, TableLogger) and trainer.global_step:
                logger.resume(trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table, so that a killed run keeps it."""
        for logger in trainer.loggers:
            if isinstance(logger, TableLogger):
                logger.save()


def build_callbacks(
    folder: Path,
    model: InterpretableModule,
    logger: LoggerSettings,
    checkpoint: CheckpointSettings,
    early_stopping: EarlyStoppingSettings | None,
    seed: int,
) -> list[Callback]:
    """Return the callbacks of a run."""
    monitor, mode = model.monitor
    if checkpoint.monitor is not None and checkpoint.mode is not None:
        monitor, mode = checkpoint.monitor, checkpoint.mode
    callbacks: list[Callback] = [
        SeedEpochs(seed),
        StopOnNan(),
        ResumeTable(),
        # In a log file a bar would be a line for each refresh.
        Bar(leave=False, refresh_rate=5 if sys.stderr.isatty() else 0),
        EpochLines(),
        ModelCheckpoint(
            folder / "checkpoints",
            "best",
            monitor=monitor,
            mode=mode,
            save_last=True,
            every_n_epochs=checkpoint.every_n_epochs,
            enable_version_counter=False,
        ),
    ]
    if logger.figures_every > 0 and logger.figure_images > 0:
        callbacks.append(ValidationFigures(folder / "figures", logger.figures_every, logger.figure_images))
    if early_stopping is not None:
        watched, direction = early_stopping.monitor or monitor, early_stopping.mode or mode
        callbacks.append(
            EarlyStopping(watched, patience=early_stopping.patience, min_delta=early_stopping.min_delta, mode=direction)
        )
    return callbacks
