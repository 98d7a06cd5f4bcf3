"""What relevance lies on, by name: the parts of images, and the tag where pictures are drawn with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.self_consistency.redrawing import chunks, drawn
from ibd.data.dataset import ImageDataset
from ibd.data.masked import load_batch
from ibd.data.toybirds.dataset import ToyBirdsDataset
from ibd.data.toybirds.parts import TAG
from ibd.errors import ConfigError, UnsupportedError

TAG_NAME = "tag"


@dataclass(frozen=True)
class Place:
    """How much of the relevance of some images lies on something.

    Attributes:
        name: what it lies on.
        share: mean share of an image's positive relevance there.
        area: mean share of the image that it covers: the share by chance.
    """

    name: str
    share: float
    area: float

    @property
    def times(self) -> float:
        """How many times as much as by chance."""
        return self.share / self.area if self.area > 0 else 0.0

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.name}: {self.share:.0%} of the relevance on {self.area:.1%} of the image"


def named_masks(dataset: ImageDataset, indices: Sequence[int], names: Sequence[str]) -> tuple[list[str], Tensor]:
    """Return the T names and (B, T, H, W) bool masks of what is known to be in images.

    Args:
        dataset: a split.
        indices: which images of it.
        names: names of the parts that it has masks of.

    Raises:
        UnsupportedError: it has none.
    """
    masks = load_batch(dataset, indices, masks=True).masks
    if masks is None:
        raise UnsupportedError("the data has no part masks")
    if not isinstance(dataset, ToyBirdsDataset):
        return list(names), masks
    scenes = [dataset.scene(int(i)) for i in indices]
    if all(scene.tag is None for scene in dataset.pictures.scenes):
        return list(names), masks
    _, shown = drawn(scenes, dataset.pictures.size)
    tags = torch.from_numpy(np.stack(shown) == TAG)
    return [*names, TAG_NAME], torch.cat([masks, tags.unsqueeze(1)], 1)


def places(
    maps: Tensor, dataset: ImageDataset, indices: Sequence[int], names: Sequence[str], batch_size: int = 64
) -> list[Place]:
    """Return what the positive relevance of images lies on, the most beyond chance first.

    Args:
        maps: (N, H, W) signed maps of these images.
        dataset: the split that they are of.
        indices: N positions in it.
        names: names of the parts that it has masks of.
        batch_size: images whose masks are read at a time.

    Raises:
        UnsupportedError: the data has no masks.
        ConfigError: maps of another number than images.
    """
    if len(maps) != len(indices) or not len(maps):
        raise ConfigError(f"places: {len(maps)} maps of {len(indices)} images given")
    found: list[str] = []
    shares, areas = [], []
    for rows in chunks(range(len(maps)), batch_size):
        found, masks = named_masks(dataset, [int(indices[row]) for row in rows], names)
        positive = maps[rows].double().clamp(min=0).unsqueeze(1)
        total = positive.sum((2, 3))
        shares.append((positive * masks).sum((2, 3)) / total.where(total > 0, 1))
        areas.append(masks.double().mean((2, 3)))
    means = [torch.cat(values).mean(0).tolist() for values in (shares, areas)]
    there = [Place(*values) for values in zip(found, *means, strict=True)]
    return sorted(there, key=lambda place: -place.times)
