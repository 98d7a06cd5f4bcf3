"""What a training was: on how many images of each class, for how long, on what, with which versions.

In ``training.json`` of the run, with an entry for each session, as after ``resume=``; what is killed writes none.
"""

from __future__ import annotations

import json
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ibd import __version__
from ibd.data.base import ImageDataModule, Split
from ibd.training.keeping import replace

RECORD = "training.json"


class Session:
    """The clock of a session, started where it is made.

    Args:
        first_epoch: the first epoch that it trains, counted from 1.
    """

    def __init__(self, first_epoch: int) -> None:
        self.first_epoch, self.started, self._clock = first_epoch, datetime.now(UTC), time.monotonic()

    def write(self, folder: Path, trainer: pl.Trainer, data: ImageDataModule, interrupted: bool) -> None:
        """Add what has become of it to the record of a run.

        Args:
            folder: the run folder.
            trainer: trainer that has trained.
            data: data that it was trained on.
            interrupted: whether Ctrl-C ended it.
        """
        path = folder / RECORD
        sessions = [*_earlier(path), self._entry(trainer, interrupted)]
        record = {"images": {split: _count(data, split) for split in ("train", "val")}, "sessions": sessions}
        temporary = path.with_suffix(".json.tmp")
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
        replace(temporary, path)

    def _entry(self, trainer: pl.Trainer, interrupted: bool) -> dict[str, Any]:
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        versions = {"ibd": __version__, "torch": torch.__version__, "lightning": version("pytorch-lightning")}
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 1),
            "first_epoch": self.first_epoch,
            "epochs": trainer.current_epoch,
            "interrupted": interrupted,
            "device": f"{device.type} ({name})",
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
            "versions": {**versions, "python": platform.python_version()},
        }


def _count(data: ImageDataModule, split: Split) -> dict[str, int]:
    """Return class -> number of its images."""
    names = data.spec.class_names
    counts = torch.bincount(data.dataset(split).labels, minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def _earlier(path: Path) -> list[Any]:
    """Return the sessions that a record has; none where it cannot be read."""
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sessions if isinstance(sessions, list) else []
