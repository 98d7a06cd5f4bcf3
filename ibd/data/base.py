"""What every source of images is to the rest of the package: a data module with three splits."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from ibd.data.dataset import ImageDataset
from ibd.data.features import FeatureDataset, FeatureFile
from ibd.data.overview import save_overview
from ibd.data.sampling import EvalSampler, TrainSampler
from ibd.errors import ConfigError, DataError, check_range
from ibd.types import Batch, DataSpec, stack_samples

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_MOST_WORKERS = 1024


class ImageDataModule(pl.LightningDataModule, abc.ABC):
    """A source of images with its three splits.

    A subclass sets `spec` in its constructor (after it has checked its files: a mistake in the data is one clear
    error before training starts) and builds datasets in `dataset`.

    Args:
        batch_size: images per step and process.
        num_workers: loader processes; 0 loads in the training process.
        seed: seed of the shuffle and the augmentation.

    Attributes:
        start_epoch: the first epoch that is trained, not 0 where a training is resumed: loader processes fetch their
            first images before Lightning has read in the checkpoint which epoch it is.
        features: split -> features of a frozen backbone, which a training reads in the place of images.
    """

    spec: DataSpec
    start_epoch: int = 0

    def __init__(self, batch_size: int = 64, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__()
        check_range("data.batch_size", batch_size, least=1)
        check_range("data.num_workers", num_workers, least=0)
        if num_workers > _MOST_WORKERS:
            raise ConfigError(f"data.num_workers: {num_workers} given, at most {_MOST_WORKERS} processes are allowed")
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.features: dict[Split, FeatureFile] = {}

    @abc.abstractmethod
    def dataset(self, split: Split, augment: bool = False) -> ImageDataset:
        """Return one split, with the training augmentation or without.

        It is the same object when asked again, and where there is no augmentation.
        """

    @property
    def augments(self) -> bool:
        """Whether a training reads other training images than an evaluation, changed at random."""
        return self.dataset("train", augment=True) is not self.dataset("train")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the data: whether it was trained on features."""
        return {"features": bool(self.features)}

    def inputs(self, split: Split, augment: bool = False) -> ImageDataset:
        """Return one split as a training reads it: where there are `features`, these, which know no augmentation."""
        if split not in self.features:
            return self.dataset(split, augment)
        return FeatureDataset(self.dataset(split), self.features[split])

    def save_overview(self, path: str | Path) -> None:
        """Write a PNG with training images of some classes and what is known of them."""
        save_overview(self.dataset("train"), self.spec, path)

    def loader(
        self, split: Split, augment: bool = False, shuffle: bool = False, features: bool = False
    ) -> DataLoader[Batch]:
        """Return a loader over `split`.

        Args:
            split: "train", "val" or "test".
            augment: whether to apply the random training augmentation.
            shuffle: whether to shuffle by (seed, epoch); without it every image comes once and in order.
            features: whether to read the features of a frozen backbone where there are some, see `inputs`.
        """
        dataset = self.inputs(split, augment) if features else self.dataset(split, augment)
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
        return self.loader("train", augment=True, shuffle=True, features=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation images in order."""
        return self.loader("val", features=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images in order."""
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the test images in order, for ``Trainer.predict``."""
        return self.loader("test")
