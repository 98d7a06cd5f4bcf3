"""``ibd.fit`` and ``ibd test``: from a config to a run folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from ibd import config as configuration
from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError, ConfigError
from ibd.io import build_data, find_checkpoint, find_run, load_model, load_run, read_checkpoint
from ibd.models.lightning import UNFINISHED_KEY, InterpretableModule
from ibd.training.callbacks import build_callbacks
from ibd.training.loggers import build_loggers
from ibd.training.settings import CheckpointSettings, EarlyStoppingSettings, LoggerSettings

RUN_DIR = "IBD_RUN_DIR"
"""Environment variable through which the processes of one training agree on the run folder."""

FINISHED = "finished.json"


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) training.

    Attributes:
        folder: the run folder.
        checkpoint: its best checkpoint.
        metrics: the last validation figures, and those of finishing the model.
        interrupted: whether Ctrl-C ended it early.
    """

    folder: Path
    checkpoint: Path
    metrics: dict[str, float]
    interrupted: bool = False


def fit(config: str | Path | DictConfig | dict[str, Any] | None = None, *overrides: str, resume: Any = None) -> Run:
    """Train a model from a config and return its run.

    Args:
        config: a YAML file, or a loaded config; may be left out where a run is resumed.
        overrides: ``key=value`` changes, such as ``"model.regime=sequential"``.
        resume: a run folder to continue exactly where its last finished epoch left it.

    Raises:
        ConfigError, DataError, CheckpointError: the user's mistakes, each in one line.
        NanLossError: the loss is no longer a number.
    """
    quieten()
    resumed = find_run(getattr(resume, "folder", resume)) if resume is not None else None
    if resumed is not None:
        os.environ.pop(RUN_DIR, None)
        config = resumed / "config.yaml" if config is None else config
        if not (resumed / "config.yaml").exists():
            raise CheckpointError(f"'{resumed}' cannot be resumed: it has no config.yaml")
    if config is None:
        raise ConfigError("a config file is needed, or resume=RUN")
    settings = configuration.load_config(config, *overrides)
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    data = build_data(settings.data)
    model = build_model(settings, data)
    folder = resumed or new_folder(settings)
    checkpoint = find_checkpoint(resumed, "last") if resumed is not None else None
    if checkpoint is not None:
        read_checkpoint(checkpoint)  # a corrupt one is found before anything starts
    trainer = build_trainer(settings, model, folder, resume=resumed is not None)
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        configuration.save_config(settings, folder / "config.yaml")
    interrupted = _run(trainer, model, data, checkpoint)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    if trainer.is_global_zero:
        figures |= finish(folder, data, model.device)
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in figures.items() if k.startswith("head/")}, trainer.global_step)
            logger.save()
            logger.finalize("success")
    os.environ.pop(RUN_DIR, None)
    return Run(folder, find_checkpoint(folder), figures, interrupted)


def build_model(config: DictConfig, data: ImageDataModule) -> InterpretableModule:
    """Return the model of a config, made for `data`."""
    optimizer = dict(configuration.to_plain(config)["optimizer"])
    model = configuration.build("models", config.model, spec=data.spec, optimizer=optimizer)
    if not isinstance(model, InterpretableModule):
        raise ConfigError(f"model.name: {type(model).__name__} is no InterpretableModule")
    return model


def new_folder(config: DictConfig) -> Path:
    """Return the folder of a new run, ``OUTPUT/NAME/TIME``: chosen once, by the first process."""
    if RUN_DIR not in os.environ:
        parent = Path(config.output) / config.name
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        folder, count = parent / stamp, 1
        while folder.exists():
            count += 1
            folder = parent / f"{stamp}_{count}"
        os.environ[RUN_DIR] = str(folder)
    return Path(os.environ[RUN_DIR])


def build_trainer(config: DictConfig, model: InterpretableModule, folder: Path, resume: bool = False) -> pl.Trainer:
    """Return Lightning's trainer with our loggers and callbacks."""
    plain = configuration.to_plain(config)
    logger = LoggerSettings(**plain["logger"])
    checkpoint = CheckpointSettings(**plain["checkpoint"])
    stopping = EarlyStoppingSettings(**plain["early_stopping"]) if plain.get("early_stopping") else None
    options = {key: value for key, value in plain["trainer"].items() if value is not None}
    callbacks = build_callbacks(folder, model, logger, checkpoint, stopping, config.seed)
    try:
        return pl.Trainer(
            **options,
            use_distributed_sampler=False,  # our samplers know of processes, and count no image twice
            default_root_dir=str(folder),
            logger=build_loggers(logger, folder, plain, resume),
            callbacks=callbacks,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ConfigError(f"trainer: {str(error).strip().splitlines()[0]}") from error


def _run(trainer: pl.Trainer, model: InterpretableModule, data: ImageDataModule, checkpoint: Path | None) -> bool:
    """Train; return whether Ctrl-C ended it. What was finished by then is on disk."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint))
    except SystemExit:  # Lightning's answer to Ctrl-C, after it has shut everything down
        if not trainer.interrupted:
            raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    return bool(trainer.interrupted)


def finish(folder: Path, data: ImageDataModule, device: torch.device) -> dict[str, float]:
    """Complete the best and the last checkpoint of a run (``InterpretableModule.finish``), in place.

    Returns:
        The figures of the best one.
    """
    data.trainer = None  # from here on this process is alone
    figures: dict[str, dict[str, float]] = {}
    last, best = (folder / "checkpoints" / f"{which}.ckpt" for which in ("last", "best"))
    for which, path in (("last", last), ("best", best)):
        if not path.exists():
            continue
        content = read_checkpoint(path)
        if which == "best" and "last" in figures and content["global_step"] == read_checkpoint(last)["global_step"]:
            shutil.copyfile(last, best)  # the last epoch was the best one
            continue
        model = load_model(path).to(device)
        figures[which] = model.finish(data)
        finished = {name: value.cpu() for name, value in model.state_dict().items()}
        before = content["state_dict"] | content.get(UNFINISHED_KEY, {})
        changed = {name: value for name, value in before.items() if not torch.equal(value, finished[name])}
        content |= {"state_dict": finished, UNFINISHED_KEY: changed}
        temporary = path.with_suffix(".tmp")
        torch.save(content, temporary)
        temporary.replace(path)
    if not figures:
        raise CheckpointError(f"'{folder}' stopped before its first epoch had ended: there is no model to keep")
    (folder / FINISHED).write_text(json.dumps(figures, indent=1))
    return figures.get("best", figures.get("last", {}))


def evaluate(run: str | Path | Run, *overrides: str, which: str = "best") -> dict[str, float]:
    """Score a trained model on the test split, in one process; write ``test.json`` into the run folder.

    Args:
        run: a run folder, a checkpoint in one, or what `fit` returned.
        overrides: changes to the run's config, such as ``"data.tag_test=absent"``.
        which: "best" or "last".

    Returns:
        The test metrics, by name.
    """
    quieten()
    place: str | Path = run.folder if isinstance(run, Run) else run
    model, data = load_run(place, *overrides, which=which)
    trainer = pl.Trainer(
        devices=1, accelerator="auto", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    model.use_fast_layout()
    metrics = trainer.test(model, datamodule=data, verbose=False)[0]
    result = {name: float(value) for name, value in metrics.items()}
    (find_run(place) / "test.json").write_text(json.dumps(result, indent=1))
    return result


def quieten() -> None:
    """Silence what Lightning says on every run and nobody can act on."""
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero"):
        logger = logging.getLogger(name)
        if not any(isinstance(f, _NoTips) for f in logger.filters):
            logger.addFilter(_NoTips())
    for message in (".*isinstance.treespec, LeafSpec.*", ".*does not have many workers.*", ".*self.log_dict.*"):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*The dirpath has changed from.*")


class _NoTips(logging.Filter):
    """Drop Lightning's advertisements."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record that is no tip."""
        return "litlogger" not in (text := record.getMessage()) and "litmodels" not in text and "💡" not in text
