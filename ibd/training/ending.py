"""The end of a run: its model is finished, and its figures are those of the checkpoint that everything else uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError
from ibd.io import find_checkpoint, load_model, read_checkpoint
from ibd.training.finishing import finish
from ibd.training.hints import command
from ibd.training.keeping import KeepRun
from ibd.training.loggers import TableLogger, upload_model
from ibd.training.reporting import report
from ibd.training.settings import LoggerSettings


@dataclass(frozen=True)
class End:
    """What came out.

    Attributes:
        epoch: epoch of the best checkpoint, or of the last where there is no best one; counted from 1.
        metrics: validation figures of that epoch, and those of finishing its model.
        monitor: metric that picked it.
    """

    epoch: int
    metrics: dict[str, float]
    monitor: str


def complete(
    trainer: pl.Trainer, data: ImageDataModule, folder: Path, settings: LoggerSettings, interrupted: bool
) -> End:
    """Finish the model of a run, and log that.

    Args:
        trainer: trainer that trained it.
        data: data that it was trained on.
        folder: the run folder.
        settings: the ``logger:`` block.
        interrupted: whether the training ended amid an epoch, whose figures are dropped then: no checkpoint has them.

    Raises:
        CheckpointError: there is no checkpoint.
        KeyboardInterrupt: Ctrl-C; the message says what is kept.
    """
    if interrupted:
        _drop_what_is_not_kept(trainer, folder)
    try:
        finished = finish(folder, data, trainer.strategy.root_device)
        if settings.figures_every > 0:
            report(load_model(folder).to(trainer.strategy.root_device), data, folder, trainer.loggers)
    except CheckpointError as error:
        if interrupted:
            raise KeyboardInterrupt(str(error)) from None
        raise
    except KeyboardInterrupt:
        kept = f"'{folder}' keeps its checkpoints; `{command('fit', folder)}` completes it"
        raise KeyboardInterrupt(kept) from None
    best = read_checkpoint(find_checkpoint(folder))
    figures: dict[str, float] = {}
    for logger in trainer.loggers:
        if isinstance(logger, TableLogger):
            figures = logger.rows.get(best["global_step"] - 1, {})
        if finished:
            logger.log_metrics(finished, trainer.global_step)
        logger.save()
        logger.finalize("success")
    if settings.log_model:
        upload_model(trainer.loggers, find_checkpoint(folder))
    figures = {name: value for name, value in figures.items() if name.startswith("val/")}
    monitor = next(callback.monitor for callback in trainer.callbacks if isinstance(callback, KeepRun))  # type: ignore[attr-defined]
    return End(int(best["epoch"]) + 1, figures | finished, monitor)


def _drop_what_is_not_kept(trainer: pl.Trainer, folder: Path) -> None:
    """Let the table end where the last checkpoint does: an epoch that was validated may not have come to its own."""
    last = folder / "checkpoints" / "last.ckpt"
    step = read_checkpoint(last)["global_step"] if last.exists() else 0
    for logger in trainer.loggers:
        if isinstance(logger, TableLogger):
            logger.cut(step)
            logger.save()
