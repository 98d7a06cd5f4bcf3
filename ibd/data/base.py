"""What every source of images is to the rest of the package: a dataset of `Sample`s and a data module around it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ibd.data.overview import save_overview
from ibd.errors import ConfigError, DataError, check_range
from ibd.types import Batch, DataSpec, Sample, stack_samples

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_MOST_WORKERS = 1024


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
        concepts: (N, K) float32, NaN where unknown.
    """

    labels: Tensor
    concepts: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @abc.abstractmethod
    def load(self, index: int) -> Sample:
        """Return image `index`, transformed; random transforms draw from torch's global generator."""

    @abc.abstractmethod
    def sample_id(self, index: int) -> str:
        """Return what names image `index` for a person: its path, or how it was made."""

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


class TrainSampler(Sampler[Key]):
    """A shuffle and augmentation seeds that depend on (seed, epoch, index) alone.

    So a resumed run sees what an uninterrupted one would have seen, and the number of workers changes nothing.
    Every process gets the same number of images; the shuffle is wrapped around where the set does not divide.
    """

    def __init__(self, size: int, seed: int, epoch: Callable[[], int], rank: int = 0, world_size: int = 1) -> None:
        self.size, self.seed, self.epoch = size, seed, epoch
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Return the number of images of this process."""
        return -(-self.size // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        """Yield this process's share of the epoch's shuffle."""
        epoch = self.epoch()
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
        order = torch.randperm(self.size, generator=generator)
        order = order.repeat(2)[: len(self) * self.world_size] if self.size else order
        for index in order[self.rank :: self.world_size].tolist():
            yield Key(index, _mix(self.seed, epoch, index))


class EvalSampler(Sampler[Key]):
    """Every image once, in order; the shares of several processes are filled up with marked padding."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.rank, self.world_size = size, rank, world_size

    def __len__(self) -> int:
        """Return the number of items of this process, padding included."""
        return -(-self.size // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        """Yield this process's images, then padding."""
        for index in range(self.rank, len(self) * self.world_size, self.world_size):
            yield Key(min(index, self.size - 1), padding=index >= self.size)


def _mix(*values: int) -> int:
    """Hash integers to a 63-bit seed (splitmix64), so that neighbouring epochs and images are unrelated."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


class ImageDataModule(pl.LightningDataModule, abc.ABC):
    """A source of images with its three splits.

    A subclass sets `spec` in its constructor (after it has checked its files: a mistake in the data is one clear
    error before training starts) and builds datasets in `dataset`.

    Args:
        batch_size: images per step and process.
        num_workers: loader processes; 0 loads in the training process.
        seed: of the shuffle and the augmentation.

    Attributes:
        start_epoch: the first epoch that is trained, not 0 where a training is resumed: loader processes fetch their
            first images before Lightning has read in the checkpoint which epoch it is.
    """

    spec: DataSpec
    start_epoch: int = 0

    def __init__(self, batch_size: int = 64, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__()
        check_range("data.batch_size", batch_size, least=1)
        check_range("data.num_workers", num_workers, least=0)
        if num_workers > _MOST_WORKERS:
            raise ConfigError(f"data.num_workers: {num_workers} given, {_MOST_WORKERS} processes are the most")
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    @abc.abstractmethod
    def dataset(self, split: Split, augment: bool = False) -> ImageDataset:
        """Return one split, with the training augmentation or without; the same object when asked again."""

    def save_overview(self, path: str | Path) -> None:
        """Write a PNG with training images of some classes and what is known of them."""
        save_overview(self.dataset("train"), self.spec, path)

    def loader(self, split: Split, augment: bool = False, shuffle: bool = False) -> DataLoader[Batch]:
        """Return a loader over `split`.

        Args:
            split: "train", "val" or "test".
            augment: apply the random training augmentation.
            shuffle: shuffle by (seed, epoch); without it every image comes once and in order.
        """
        dataset = self.dataset(split, augment)
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        if len(dataset) < world:
            raise DataError(f"there are {len(dataset)} images for '{split}', fewer than the {world} processes")
        sampler: Sampler[Any]
        if shuffle:
            sampler = TrainSampler(len(dataset), self.seed, self._epoch, rank, world)
        else:
            sampler = EvalSampler(len(dataset), rank, world)
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # our samples are collated into a Batch
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=stack_samples,
            pin_memory=torch.cuda.is_available(),
            # A last batch of one image would break batch statistics.
            drop_last=shuffle and len(sampler) % self.batch_size == 1 and len(sampler) > 1,
        )

    def _epoch(self) -> int:
        return self.start_epoch if self.trainer is None else max(self.start_epoch, self.trainer.current_epoch)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the shuffled, augmented training images."""
        return self.loader("train", augment=True, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation images in order."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images in order."""
        return self.loader("test")
