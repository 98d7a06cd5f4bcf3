"""The images that explanations are asked for, and what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ibd.comparison.probes.scenes import Drawings, draw_scenes
from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.errors import DataError
from ibd.types import Batch, stack_samples


@dataclass(frozen=True)
class ComparedImages:
    """N images of a split.

    Attributes:
        split: split of the data.
        index: (N,) positions in it.
        ids: N names.
        pixels: (N, 3, H, W) in [0, 1].
        labels: (N,) classes.
        masks: (N, P, H, W) bool pixels of the annotated parts, or None; those of drawn parts may overlap.
        truth: (N, H, W) bool: what decides the class, where the data knows that, else all parts; None without masks.
        part_names: the P parts.
        scenes: scenes that the images are drawn from, where there are any.
        fingerprint: fingerprint of all this.
    """

    split: Split
    index: Tensor
    ids: list[str]
    pixels: Tensor
    labels: Tensor
    masks: Tensor | None
    truth: Tensor | None
    part_names: list[str]
    scenes: list[Any] = field(default_factory=list)
    fingerprint: str = ""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    @cached_property
    def drawings(self) -> Drawings:
        """The scenes with and without each of their objects, drawn when first asked for; there must be scenes."""
        return draw_scenes(self.scenes, self.pixels.shape[-1])

    def first(self, count: int) -> ComparedImages:
        """Return the first few images; they are as well mixed as all."""
        some = slice(0, count)
        masks, truth = (None if masks is None else masks[some] for masks in (self.masks, self.truth))
        return ComparedImages(
            self.split,
            self.index[some],
            self.ids[some],
            self.pixels[some],
            self.labels[some],
            masks,
            truth,
            self.part_names,
            self.scenes[some],
            f"{self.fingerprint}/{count}",
        )


def choose_images(data: ImageDataModule, split: Split, count: int, seed: int) -> ComparedImages:
    """Return images of a split, as many of each class as can be, in an order that mixes the classes.

    Args:
        data: data that the images are read from, un-augmented.
        split: split of the data.
        count: number of images; all, if there are fewer.
        seed: seed of the choice.

    Raises:
        DataError: there is no image.
    """
    dataset: Any = data.dataset(split)
    if count < 1 or not len(dataset):
        raise DataError(f"compare: no images: {count} asked for, the {split} split has {len(dataset)}")
    chosen = balanced(torch.as_tensor(dataset.labels), count, seed)
    samples = [dataset[index] for index in chosen]
    images = torch.stack([sample.image for sample in samples])
    labels = torch.tensor([sample.label for sample in samples])
    masks = _masks(dataset, chosen, samples)
    scenes = [dataset.scene(index) for index in chosen] if hasattr(dataset, "scene") else []
    truth = None if masks is None else _truth(dataset, chosen, masks)
    digest = hashlib.sha256()
    for tensor in (images, labels, masks, truth):
        digest.update(b"none" if tensor is None else tensor.contiguous().numpy().data)
    ids = [dataset.sample_id(index) for index in chosen]
    names = list(data.spec.part_names) if masks is not None else []
    index = torch.tensor(chosen)
    return ComparedImages(split, index, ids, images, labels, masks, truth, names, scenes, digest.hexdigest()[:16])


def has_split(data: ImageDataModule, split: Split) -> bool:
    """Return whether there are images of a split."""
    try:
        return len(data.dataset(split)) > 0
    except DataError:
        return False


def some_images(data: ImageDataModule, split: Split, count: int, seed: int = 0) -> DataLoader[Batch]:
    """Return a loader of images of a split, as many of each class as can be; of all, if there are fewer."""
    dataset = data.dataset(split)
    chosen = sorted(balanced(torch.as_tensor(dataset.labels), count, seed))
    some: Subset[Batch] = Subset(dataset, chosen)  # type: ignore[arg-type]  # our samples are collated into a Batch
    return DataLoader(some, batch_size=data.batch_size, collate_fn=stack_samples)


def images_of_class(data: ImageDataModule, split: Split, label: int, count: int, seed: int = 0) -> DataLoader[Batch]:
    """Return a loader of images of one class, drawn at random; of all, if there are fewer.

    Raises:
        DataError: there are none.
    """
    dataset = data.dataset(split)
    there = np.flatnonzero(torch.as_tensor(dataset.labels).numpy() == label)
    if not len(there):
        raise DataError(f"the {split} split has no images of '{data.spec.class_names[label]}'")
    chosen = sorted(np.random.default_rng([seed, label]).permutation(there)[:count].tolist())
    some: Subset[Batch] = Subset(dataset, chosen)  # type: ignore[arg-type]  # our samples are collated into a Batch
    return DataLoader(some, batch_size=data.batch_size, collate_fn=stack_samples)


def fitted_split(data: ImageDataModule) -> Split:
    """Return the split that something may be fitted on: the training images, where there are any."""
    return next((split for split in SPLITS if has_split(data, split)), "test")


def balanced(labels: Tensor, count: int, seed: int) -> list[int]:
    """Return positions, one of each class in turn, at random within a class and in the order of classes."""
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(labels.numpy() == label)) for label in np.unique(labels.numpy())]
    chosen: list[int] = []
    for turn in range(max(len(members) for members in classes)):
        chosen += [int(classes[c][turn]) for c in rng.permutation(len(classes)) if turn < len(classes[c])]
    return chosen[:count]


def _masks(dataset: Any, chosen: Sequence[int], samples: Sequence[Any]) -> Tensor | None:
    if hasattr(dataset, "masks"):
        return torch.stack([dataset.masks(index) for index in chosen])
    masks = [sample.masks for sample in samples if sample.masks is not None]
    return torch.stack(masks) if len(masks) == len(samples) else None


def _truth(dataset: ImageDataset, chosen: Sequence[int], masks: Tensor) -> Tensor:
    """Return what decides the class of each image, (N, H, W) bool: all parts where the data does not know it."""
    deciding = [dataset.deciding_mask(index) for index in chosen]
    known = [parts.any(0) if own is None else own for own, parts in zip(deciding, masks, strict=True)]
    return torch.stack(known)
