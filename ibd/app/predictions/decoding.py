"""Images read from files by processes of their own, as batches of bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ibd.data.fitting import fit_image
from ibd.data.images import read_image
from ibd.errors import DataError
from ibd.types import DataSpec

_MOST = 8
"""Processes that are started unless more are asked for: each holds some batches of images."""


class Read(NamedTuple):
    """A batch of files.

    Attributes:
        files: the files that could be read.
        images: (B, 3, H, W) uint8 at the training size, of these.
        damaged: (file, reason) of the others.
    """

    files: list[str]
    images: Tensor
    damaged: list[tuple[str, str]]


class Files(Dataset[tuple[str, Tensor | str]]):
    """Image files, each brought to the training size as the validation images were, or why it cannot be read.

    Args:
        paths: paths of the files.
        spec: description of the data that the model was trained on.
    """

    def __init__(self, paths: Sequence[str], spec: DataSpec) -> None:
        self.paths, self.spec = paths, spec

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Tensor | str]:
        """Return a path and (3, H, W) uint8, or a path and the reason why there is no image."""
        path = self.paths[index]
        try:
            return path, fit_image(read_image(path), self.spec.image_size, self.spec.resize)
        except DataError as error:
            return path, " ".join(str(error).removeprefix(f"{path}: ").split())


def read_in_processes(
    paths: Sequence[str], spec: DataSpec, batch_size: int, workers: int | None, pinned: bool
) -> DataLoader[Read]:
    """Return batches of files in their order; a few of them are in memory at a time.

    Args:
        paths: paths of the files.
        spec: description of the data that the model was trained on.
        batch_size: files of each batch.
        workers: processes that read; 0 reads in this one, None takes as many as fit the machine and the files.
        pinned: whether a device other than the CPU takes them.
    """
    if workers is None:
        workers = 0 if len(paths) <= batch_size else max(1, min(_MOST, _cores() - 1))
    return DataLoader(
        Files(paths, spec),  # type: ignore[arg-type]  # collated into a Read
        batch_size=batch_size,
        num_workers=min(workers, -(-len(paths) // batch_size)),
        collate_fn=_together,
        pin_memory=pinned,
    )


def _cores() -> int:
    """Return the cores that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _together(items: Sequence[tuple[str, Tensor | str]]) -> Read:
    good = [(path, image) for path, image in items if isinstance(image, Tensor)]
    damaged = [(path, reason) for path, reason in items if isinstance(reason, str)]
    images = torch.stack([image for _, image in good]) if good else torch.empty(0, dtype=torch.uint8)
    return Read([path for path, _ in good], images, damaged)
