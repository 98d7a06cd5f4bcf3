"""What a test has come to, in the W&B run of the training, where that had one."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ibd import config as configuration
from ibd.errors import told
from ibd.training.loggers import WANDB_ID, TableLogger, loggers_of, wandb_mode
from ibd.training.settings import LoggerSettings
from ibd.training.tested.scored import Scored
from ibd.training.tested.tables import tables

_MOST_ROWS = 10_000
"""Of a table; W&B keeps no more of it."""


def log_tested(scored: Scored, folder: Path, pictures: Path) -> None:
    """Log the figures, tables and pictures of a test to the W&B run of a training, online or offline as that was.

    Nothing is done where the training had no such logger, or it is switched off now. Whatever W&B or the network
    raises is a warning: the files are there all the same.

    Args:
        scored: what the test has come to.
        folder: the run folder.
        pictures: folder of the pictures.
    """
    off = os.environ.get("WANDB_MODE") == "disabled"
    if off or not (folder / WANDB_ID).is_file() or find_spec("wandb") is None:
        return
    settings = configuration.to_plain(configuration.load_saved_config(folder / "config.yaml"))
    logger_settings = LoggerSettings(**settings["logger"])
    if logger_settings.mode == "online":  # where there is no account any more, that is no reason to stop
        logger_settings = replace(logger_settings, mode="auto")
    if logger_settings.name != "wandb" or wandb_mode(logger_settings) == "disabled":
        return
    try:
        _log(scored, folder, pictures, logger_settings, settings)
    except Exception as error:  # whatever W&B, or the network, raises
        warnings.warn(f"W&B has not logged the test: {told(error)}", stacklevel=2)


def _log(
    scored: Scored, folder: Path, pictures: Path, logger_settings: LoggerSettings, settings: dict[str, Any]
) -> None:
    import wandb

    own = (folder / WANDB_ID).read_text(encoding="utf-8").strip()
    if wandb.run is not None and wandb.run.id != own:
        raise RuntimeError("another W&B run is active in this process")
    with loggers_of(logger_settings, folder, settings, resume_step=sys.maxsize) as loggers:
        for logger in loggers:
            if not isinstance(logger, TableLogger):  # metrics.csv is of the training
                _log_to(logger, scored, pictures)


def _log_to(logger: Any, scored: Scored, pictures: Path) -> None:
    if scored.split == "test":  # those of the others would add to the curves of the training
        logger.log_metrics(scored.own_figures())
    for name, table in tables(scored).items():
        logger.log_table(f"{scored.split}/{name}", list(table.columns), [list(row) for row in table.rows[:_MOST_ROWS]])
    for path in sorted(pictures.glob("*.png")):
        logger.log_image(f"{scored.split}/{path.stem}_picture", [str(path)])
