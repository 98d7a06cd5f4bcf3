"""Lightning's trainer, with our callbacks, and with its errors as ours."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from ibd import config as configuration
from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError, ConfigError, IbdError, lacks_memory
from ibd.models.lightning import InterpretableModule
from ibd.training.callbacks import NanLossError, advice, build_callbacks
from ibd.training.hints import command
from ibd.training.lengths import check_length
from ibd.training.settings import CheckpointSettings, EarlyStoppingSettings, LoggerSettings

_NOISE = (
    ".*isinstance.treespec, LeafSpec.*",
    ".*does not have many workers.*",
    ".*self.log_dict.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*sync_dist=True.*",  # torchmetrics sums up by itself
    ".*Grad strides do not match.*",
    ".*all_reduce is deprecated.*",  # its successor is private
    ".*module.s. in eval mode at the start of training.*",  # a backbone that is frozen
    ".*smaller than the logging interval.*",  # what is logged is logged once in an epoch
)


_CHATTER = (
    "litlogger",
    "litmodels",
    "💡",
    "TPU available",
    "GPU available: False",
    "Loading `train_dataloader`",
    "`Trainer.fit` stopped",
)

_LEAST = {
    "max_epochs": -1,  # which means without end
    "max_steps": -1,
    "limit_train_batches": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
}
"""Options of the trainer that must not be 0, nor less than this."""


def build_trainer(config: DictConfig, model: InterpretableModule, folder: Path) -> pl.Trainer:
    """Return Lightning's trainer with our callbacks, and no logger yet."""
    plain = configuration.to_plain(config)
    logger = LoggerSettings(**plain["logger"])
    checkpoint = CheckpointSettings(**plain["checkpoint"])
    stopping = EarlyStoppingSettings(**plain["early_stopping"]) if plain.get("early_stopping") else None
    options = {key: value for key, value in plain["trainer"].items() if value is not None}
    options.setdefault("enable_model_summary", False)  # the runner says it in a line
    if model.epochs:
        options.setdefault("max_epochs", model.epochs)
    check_length(model, options)
    if options.get("fast_dev_run"):
        raise ConfigError(
            "trainer.fast_dev_run: it leaves no model behind; to try out a config: trainer.max_epochs=1 "
            "trainer.limit_train_batches=2 trainer.limit_val_batches=2"
        )
    for key, least in _LEAST.items():
        value = options.get(key, 1)
        if value == 0 or not least <= value < math.inf:
            raise ConfigError(f"trainer.{key}: {value} given, {'more than 0' if least < 1 else 'at least 1'} is needed")
    if "spawn" in str(options.get("strategy")) or "fork" in str(options.get("strategy")):
        raise ConfigError(f"trainer.strategy: '{options['strategy']}' counts images twice on the CPU; 'ddp' does not")
    bar = options.get("enable_progress_bar", True)
    callbacks = build_callbacks(folder, model, logger, checkpoint, stopping, config.seed, bar, config.compile)
    try:
        return pl.Trainer(
            **options,
            use_distributed_sampler=False,  # our samplers know of processes, and count no image twice
            default_root_dir=str(folder),
            logger=False,
            callbacks=callbacks,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ConfigError(f"trainer: {_first_sentence(error)}") from error


def train(trainer: pl.Trainer, model: InterpretableModule, data: ImageDataModule, checkpoint: Path | None) -> bool:
    """Train, from a checkpoint where one is given.

    Returns:
        Whether Ctrl-C ended it. The epochs that were finished by then are on disk.

    Raises:
        ConfigError: Lightning finds an option of the trainer wrong.
        CheckpointError: Lightning cannot make use of what the checkpoint says of the training.
    """
    if trainer.precision == "64-true":  # which Lightning does only after it has read the checkpoint's weights
        model.double()
    handler, parent = signal.getsignal(signal.SIGINT), os.getppid()
    try:
        _run(trainer, model, data, checkpoint)
    except SystemExit:  # Lightning's answer to Ctrl-C, after it has shut everything down
        if not trainer.interrupted:
            raise
    except (MisconfigurationException, ValueError, TypeError) as error:
        if not _is_lightnings(error):
            raise
        raise ConfigError(f"trainer: {_first_sentence(error)}") from error
    except (RuntimeError, MemoryError) as error:
        _explain(error, trainer, model, parent)
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        _leave_processes(trainer)
    return bool(trainer.interrupted)


_LOST = ("closed by peer", "Connection reset", "Broken pipe", "Timed out waiting", "NCCL")
"""What the errors of collectives say where another process is no more."""


_DYING = 0.5
"""Seconds that a process which is killed has its children for, after its connections are closed."""


def _explain(error: RuntimeError | MemoryError, trainer: pl.Trainer, model: InterpretableModule, parent: int) -> None:
    """Raise in one line what torch has found while training, where that is known."""
    if "returned nan values in its" in str(error):  # what trainer.detect_anomaly stops at
        raise NanLossError(
            f"a gradient is no longer finite at epoch {trainer.current_epoch + 1}, step {trainer.global_step + 1} "
            f"({_first_sentence(error)} trainer.detect_anomaly has shown its forward pass above). {advice(model)}"
        ) from None
    if lacks_memory(error):
        batch = getattr(trainer.datamodule, "batch_size", 1)  # type: ignore[attr-defined]
        raise IbdError(
            f"memory ran out at epoch {trainer.current_epoch + 1}, step {trainer.global_step + 1} "
            f"({_first_sentence(error)[:200]}): data.batch_size is {batch}, use a smaller one or smaller images"
        ) from None
    if trainer.world_size > 1 and any(part in str(error) for part in _LOST):
        if not trainer.is_global_zero and not left_alone(parent):
            raise SystemExit(1) from None  # the first process tells, unless it is the one that is gone
        raise IbdError(
            f"another process of this training has ended in epoch {trainer.current_epoch + 1}, perhaps because it ran "
            f"out of memory; `{command('fit', trainer.default_root_dir)}` continues from the last finished epoch"
        ) from None


def left_alone(parent: int) -> bool:
    """Return whether the process that has begun this one is gone, or just going.

    Args:
        parent: its number, from before.
    """
    end = time.monotonic() + _DYING
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.02)
    return os.getppid() != parent


def _run(trainer: pl.Trainer, model: InterpretableModule, data: ImageDataModule, checkpoint: Path | None) -> None:
    try:
        trainer.fit(model, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint))
    except Exception as error:  # whatever Lightning, and torch, make of a state that they did not write
        if checkpoint is None or isinstance(error, IbdError) or not _restoring(error):
            raise
        reason = f"{type(error).__name__}: {_first_sentence(error)}"
        raise CheckpointError(f"'{checkpoint}' cannot be resumed: its training does not fit ({reason})") from error


def _restoring(error: Exception) -> bool:
    """Return whether an error arose while Lightning took over the state of a checkpoint."""
    trace = error.__traceback__
    while trace is not None:
        module, function = str(trace.tb_frame.f_globals.get("__name__")), trace.tb_frame.f_code.co_name
        if module.endswith(".checkpoint_connector") and "restore" in function:
            return True
        trace = trace.tb_next
    return False


def _leave_processes(trainer: pl.Trainer) -> None:
    """Let this process be alone again, whether training ended well or not."""
    started = getattr(trainer.strategy.launcher, "procs", None)
    if started and trainer.interrupted:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
        started.clear()  # else Lightning's observer, which holds this list, kills this process too
    if dist.is_available() and dist.is_initialized() and (not trainer.interrupted or dist.get_backend() == "gloo"):
        dist.destroy_process_group()


def _is_lightnings(error: Exception) -> bool:
    """Return whether Lightning itself raised an error: then some option of the trainer is wrong."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return module.startswith(("pytorch_lightning.", "lightning_fabric."))


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def quieten() -> None:
    """Silence what Lightning says on every run and nobody can act on."""
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero"):
        logger = logging.getLogger(name)
        if not any(isinstance(f, _NoTips) for f in logger.filters):
            logger.addFilter(_NoTips())
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)


class _NoTips(logging.Filter):
    """Drop Lightning's advertisements."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record that is no tip, and does not tell of a device that is not there."""
        text = record.getMessage()
        return not any(part in text for part in _CHATTER)
