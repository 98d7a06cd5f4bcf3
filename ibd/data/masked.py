"""Images with the masks of what is annotated in them: parts, and of each concept of a part the part where it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ibd.data.dataset import ImageDataset
from ibd.errors import DataError, UnsupportedError
from ibd.types import Batch, DataSpec, stack_samples

if TYPE_CHECKING:  # which imports Lightning
    from ibd.data.base import ImageDataModule, Split


@dataclass(frozen=True)
class MaskedImages:
    """Some images of a split, in an order, with their masks.

    Attributes:
        dataset: the split.
        spec: names parts and concepts.
        indices: positions of the N images in the split.
        batch_size: images that are read at a time.

    Raises:
        DataError: there are no images.
        UnsupportedError: the images have no masks.
    """

    dataset: ImageDataset
    spec: DataSpec
    indices: tuple[int, ...]
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Check that there is something to look at."""
        if not self.indices:
            raise DataError("no images given, at least one with masks is needed")
        self.take([0])

    @classmethod
    def of(cls, data: ImageDataModule, split: Split, count: int = 1000, seed: int = 0) -> MaskedImages:
        """Return images of a split, in a random order; all, if there are fewer than `count`.

        Raises:
            DataError: there are no images.
            UnsupportedError: the images have no masks.
        """
        dataset = data.dataset(split)
        order = np.random.default_rng(seed).permutation(len(dataset))[:count]
        return cls(dataset, data.spec, tuple(order.tolist()), data.batch_size)

    def halves(self) -> tuple[MaskedImages, MaskedImages]:
        """Return the first and the second half of the images.

        Raises:
            DataError: there is one image only.
        """
        middle = (len(self) + 1) // 2
        return replace(self, indices=self.indices[:middle]), replace(self, indices=self.indices[middle:])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    @property
    def names(self) -> list[str]:
        """The C names of the masks."""
        known = getattr(self.dataset, "concept_parts", None) is not None
        return [*self.spec.part_names, *(self.spec.concept_names if known else ())]

    def take(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return images by their places in the order, (B, 3, H, W) in [0, 1], and their masks (B, C, H, W) bool."""
        batch = load_batch(self.dataset, [self.indices[place] for place in places], masks=True)
        return batch.image, concept_masks(batch, self.dataset, self.spec)[1]

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all of them in order."""
        for start in range(0, len(self), self.batch_size):
            yield self.take(range(start, min(len(self), start + self.batch_size)))

    def name(self, place: int) -> str:
        """Return what names an image for a person."""
        return self.dataset.sample_id(self.indices[place])


def load_batch(dataset: ImageDataset, indices: Sequence[int], masks: bool = False) -> Batch:
    """Return images of a data set as a batch; with `masks` also where the data set draws them only on demand.

    Args:
        dataset: split of the data.
        indices: positions in it.
        masks: whether masks are wanted.
    """
    batch = stack_samples([dataset[index] for index in indices])
    own: Any = getattr(dataset, "masks", None)
    if masks and batch.masks is None and callable(own):
        batch.masks = torch.stack([own(index) for index in indices])
    return batch


def concept_masks(batch: Batch, dataset: ImageDataset, spec: DataSpec) -> tuple[list[str], Tensor]:
    """Return the C names and (B, C, H, W) bool masks: the parts, and of each concept of a part the part where it holds.

    Args:
        batch: batch with masks.
        dataset: says by ``concept_parts`` which part a concept is about, if it knows.
        spec: names parts and concepts.

    Raises:
        UnsupportedError: there are no masks.
    """
    if batch.masks is None:
        raise UnsupportedError("the data has no part masks")
    names, masks = list(spec.part_names), batch.masks
    parts = getattr(dataset, "concept_parts", None)
    if parts is None:
        return names, masks
    holds = (batch.concepts > 0.5)[:, :, None, None]
    return [*names, *spec.concept_names], torch.cat([masks, masks[:, parts] & holds], 1)
