"""Where figures go: ``metrics.csv`` always, Weights & Biases unless switched off."""

from __future__ import annotations

import csv
import netrc
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from ibd.training.settings import LoggerSettings


class TableLogger(Logger):
    """One CSV file with one row per step at which something was logged, in order.

    Unlike Lightning's own it continues the table of a resumed run: the rows of the epochs that are trained again are
    dropped, so that the file becomes what it would have been without the interruption.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """Time of the run."""
        return self.path.parent.name

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def resume(self, step: int) -> None:
        """Take over the rows of an earlier process up to `step` optimiser steps."""
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            kept = [row for row in rows if int(row["step"]) < step]
            self.rows = {int(row["step"]): {k: v for k, v in row.items() if v != ""} for row in kept}

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add to the row of `step`."""
        self.rows.setdefault(int(step or 0), {}).update({key: float(value) for key, value in metrics.items()})

    @rank_zero_only
    def save(self) -> None:
        """Write the file, whole, in one move."""
        columns = sorted({key for row in self.rows.values() for key in row} - {"epoch", "step"})
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "step", *columns])
            writer.writeheader()
            for step in sorted(self.rows):
                row = {"step": step, **self.rows[step]}
                writer.writerow({**row, "epoch": int(float(row["epoch"]))} if "epoch" in row else row)
        temporary.replace(self.path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        if self.rows:
            self.save()


def wandb_mode(settings: LoggerSettings) -> str:
    """Return "online", "offline" or "disabled"; never a mode in which W&B would ask for an account."""
    if settings.mode != "auto":
        return settings.mode
    given = os.environ.get("WANDB_MODE", "")
    if given in ("online", "offline", "disabled"):
        return given
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return "online" if netrc.netrc().authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"


def build_loggers(settings: LoggerSettings, folder: Path, config: dict[str, Any], resume: bool) -> list[Logger]:
    """Return the loggers of a run.

    Args:
        settings: the ``logger:`` block.
        folder: the run folder.
        config: the resolved config, for W&B.
        resume: continue the W&B run that is in the folder.
    """
    loggers: list[Logger] = [TableLogger(folder / "metrics.csv")]
    mode = wandb_mode(settings) if settings.name == "wandb" else "disabled"
    if mode != "disabled":
        from pytorch_lightning.loggers import WandbLogger  # W&B takes seconds to import

        remembered = folder / "wandb_id.txt"
        run_id = remembered.read_text().strip() if resume and remembered.exists() else None
        logger = WandbLogger(
            name=f"{folder.parent.name}/{folder.name}",
            project=settings.project,
            entity=settings.entity,
            tags=settings.tags,
            save_dir=str(folder),
            offline=mode == "offline",
            log_model=settings.log_model and mode == "online",
            id=run_id,
            resume="allow" if run_id else None,
            config=config,
        )
        if getattr(rank_zero_only, "rank", 0) == 0:
            remembered.write_text(str(logger.experiment.id))
        loggers.append(logger)
    return loggers
