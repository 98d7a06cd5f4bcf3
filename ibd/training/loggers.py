"""Where figures go: ``metrics.csv`` always, Weights & Biases unless switched off."""

from __future__ import annotations

import csv
import netrc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from tqdm.auto import tqdm

from ibd.errors import ConfigError
from ibd.training.settings import LoggerSettings

WANDB_ID = "wandb_id.txt"
"""The file of a run folder with the name of its W&B run."""


class TableLogger(Logger):
    """One CSV file with one row per step at which something was logged, in order.

    Unlike Lightning's own it continues the table of a resumed run: the rows of the epochs that are trained again are
    dropped, so that the file becomes what it would have been without the interruption.

    Args:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, float]] = {}

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
        """Take over the rows of an earlier process up to `step` optimizer steps."""
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            kept = [row for row in rows if int(row["step"]) < step]
            self.rows = {int(row["step"]): {k: float(v) for k, v in row.items() if v != ""} for row in kept}

    def cut(self, step: int) -> None:
        """Drop what was logged at `step` optimizer steps and later, which no checkpoint goes with."""
        self.rows = {at: row for at, row in self.rows.items() if at < step}

    @rank_zero_only
    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
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
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", "step", *columns])
            writer.writeheader()
            for step, row in sorted(self.rows.items()):
                epoch = {"epoch": int(row["epoch"])} if "epoch" in row else {}
                writer.writerow({**row, **epoch, "step": step})
        temporary.replace(self.path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        if self.rows:
            self.save()


def wandb_mode(settings: LoggerSettings) -> str:
    """Return "online", "offline" or "disabled"; never a mode in which W&B would ask for an account.

    Raises:
        ConfigError: "online" is asked for, and there is no account.
    """
    given = settings.mode if settings.mode != "auto" else os.environ.get("WANDB_MODE", "")
    if given in ("offline", "disabled", "off"):
        return "disabled" if given == "off" else given
    account = _has_account()
    if settings.mode == "online" and not account:
        raise ConfigError("logger.mode: 'online' needs a W&B account: run `wandb login`, or take 'auto' or 'offline'")
    return "online" if account else "offline"


def _has_account() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@contextmanager
def loggers_of(
    settings: LoggerSettings, folder: Path, config: dict[str, Any], resume_step: int | None = None
) -> Iterator[list[Logger]]:
    """Yield the loggers of a run.

    A W&B run that begins here ends here too, or the next training of this process would go on with it. One that its
    caller has begun, such as the agent of a sweep, is joined and stays open.

    Args:
        settings: the ``logger:`` block.
        folder: the run folder, which exists.
        config: the resolved config, for W&B.
        resume_step: optimizer step from which the table and the W&B run that are in the folder are continued.
    """
    table = TableLogger(folder / "metrics.csv")
    if resume_step is not None:
        table.resume(resume_step)
    mode = wandb_mode(settings) if settings.name == "wandb" else "disabled"
    if mode == "disabled":
        yield [table]
        return
    import wandb  # which takes seconds

    joined, code = wandb.run is not None, 1
    try:
        yield [table, _wandb_logger(settings, folder, config, mode, resume_step)]
        code = 0
    finally:
        if not joined and wandb.run is not None:
            wandb.finish(exit_code=code)


def _wandb_logger(
    settings: LoggerSettings, folder: Path, config: Mapping[str, object], mode: str, resume_step: int | None
) -> Logger:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    remembered = folder / WANDB_ID
    run_id = (
        remembered.read_text(encoding="utf-8").strip() if resume_step is not None and remembered.is_file() else None
    )
    logger = WandbLogger(
        name=f"{folder.parent.name}/{folder.name}",
        project=settings.project,
        entity=settings.entity,
        tags=settings.tags,
        save_dir=str(folder),
        offline=mode == "offline",
        log_model=False,  # upload_model does it, once the model is finished
        id=run_id,
        resume="allow" if run_id else None,
        config=config,
        settings=wandb.Settings(silent=True),  # it says eight lines, in colors, into files too
    )
    logger._wandb_init.pop("anonymous", None)  # W&B warns of this option, also of None
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        try:
            remembered.write_text(str(logger.experiment.id), encoding="utf-8")
        except Exception as error:  # whatever W&B, or the network, raises
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"logger: W&B cannot start a run ({reason}); logger.mode=offline avoids this") from error
        folder = Path(logger.experiment.dir).parent
        where = f"offline; to upload it: wandb sync {folder}" if mode == "offline" else logger.experiment.url
        tqdm.write(f"W&B: {where}", file=sys.stderr)
    return logger


def upload_model(loggers: Sequence[Any], checkpoint: Path) -> None:
    """Upload a checkpoint to the W&B runs among `loggers`."""
    for logger in loggers:
        if not isinstance(logger, TableLogger):
            import wandb

            artifact = wandb.Artifact(f"model-{logger.version}", type="model")
            artifact.add_file(str(checkpoint))
            logger.experiment.log_artifact(artifact)
