"""A disk that is full, or read-only, while a run is written: what is said of it, and what is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ibd.errors import CheckpointError, IbdError, disk_trouble
from ibd.io import find_checkpoint, read_checkpoint
from ibd.training.hints import command


@contextmanager
def telling_of_the_disk(folder: Path) -> Iterator[None]:
    """Turn an error of the disk amid writing a run into one that says which epochs are kept.

    Half-written files are removed, which may be what the disk needs.

    Args:
        folder: folder of the run.

    Raises:
        CheckpointError: a file could not be written.
    """
    try:
        yield
    except IbdError:
        raise
    except Exception as error:  # PyTorch's, Lightning's and Python's own differ
        reason = disk_trouble(error)
        if reason is None:
            raise
        for leftover in (*folder.glob("*.tmp"), *folder.glob("checkpoints/*.tmp")):
            with contextlib.suppress(OSError):
                leftover.unlink()
        raise CheckpointError(f"cannot write to '{folder}' ({reason}); {_kept(folder)}") from None


def _kept(folder: Path) -> str:
    """Return what is left of a run, and how to go on with it."""
    try:
        epochs = int(read_checkpoint(find_checkpoint(folder, "last"))["epoch"]) + 1
    except (CheckpointError, KeyError):
        return "it keeps no model: no epoch had been written"
    goes_on = f"`{command('fit', folder)}` continues from there"
    return f"it keeps its first {epochs} epochs (checkpoints/last.ckpt): {goes_on}"
