"""What a split of a source of images is to the rest of the package."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ibd.types import Sample


class Key(NamedTuple):
    """What a sampler asks of an `ImageDataset`."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    seed: int | None = None
    """Seed of the random augmentation; None leaves torch's generator as it is."""
    padding: bool = False
    """True where the image only fills up a process's share; its ``Sample.index`` becomes -1."""


class ImageDataset(Dataset[Sample], abc.ABC):
    """One split of a source of images.

    Attributes:
        labels: (N,) int64.
        concepts: (N, K) float32, quantities in their units, NaN where unknown.
        groups: column -> the group of each of the N images, "" where unknown: what is no concept, and what a model may
            be scored by (`ibd.data.grouping`).
    """

    labels: Tensor
    concepts: Tensor
    groups: Mapping[str, Sequence[str]] = MappingProxyType({})

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @abc.abstractmethod
    def load(self, index: int) -> Sample:
        """Return image `index`, transformed; random transforms draw from torch's global generator."""

    @abc.abstractmethod
    def sample_id(self, index: int) -> str:
        """Return what names image `index` for a person: its path, or how it was made."""

    def version(self, index: int) -> str:
        """Return what changes where image `index` does.

        By default it is read, and a checksum of its pixels taken; override this where something cheaper tells, such as
        the time at which a file was written.
        """
        return hashlib.sha256(self[index].image.contiguous().numpy().tobytes()).hexdigest()

    def deciding_mask(self, index: int) -> Tensor | None:
        """Return where that is in image `index` which decides its class, (H, W) bool; None where nobody knows."""
        return None

    def __getitem__(self, key: int | Key) -> Sample:
        """Return a sample; by a `Key` with a seed the same augmentation in whatever process asks."""
        if not isinstance(key, Key):
            key = Key(int(key))
        if not 0 <= key.index < len(self):
            raise IndexError(f"image {key.index} of {len(self)}")
        if key.seed is None:
            sample = self.load(key.index)
        else:
            # Not fork_rng and manual_seed: they also visit the GPUs, 80 times slower.
            state = torch.get_rng_state()
            try:
                torch.default_generator.manual_seed(key.seed)
                sample = self.load(key.index)
            finally:
                torch.set_rng_state(state)
        return dataclasses.replace(sample, index=-1) if key.padding else sample
