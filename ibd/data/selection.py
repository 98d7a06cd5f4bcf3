"""Some of the images of a split, or pieces cut out of them, as a data set of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.data.dataset import ImageDataset
from ibd.errors import ConfigError, check_range
from ibd.types import Sample


class SelectedImages(ImageDataset):
    """Some images of a split; ``Sample.index`` counts them.

    Args:
        images: the split.
        chosen: positions in it.
    """

    def __init__(self, images: ImageDataset, chosen: Sequence[int]) -> None:
        self.images, self.chosen = images, list(chosen)
        self.labels, self.concepts = images.labels[self.chosen], images.concepts[self.chosen]

    def load(self, index: int) -> Sample:
        """Return image `index`."""
        return dataclasses.replace(self.images[self.chosen[index]], index=index)

    def sample_id(self, index: int) -> str:
        """Return what names image `index` for a person."""
        return self.images.sample_id(self.chosen[index])

    def version(self, index: int) -> str:
        """Return what changes where image `index` does."""
        return self.images.version(self.chosen[index])

    def masks_of(self, index: int) -> Tensor | None:
        """Return the (P, H, W) bool masks of the parts of image `index`; None where it has none."""
        own: Any = getattr(self.images, "masks", None)
        masks: Tensor | None = own(self.chosen[index]) if callable(own) else self.images[self.chosen[index]].masks
        return masks


class Crops(ImageDataset):
    """Square pieces of images, drawn at random and brought to the images' size: what CRAFT calls crops.

    Args:
        images: images, all of one size.
        count: pieces of each.
        share: side of a piece, as a share of the shorter side of the image, above 0 and at most 1.
        seed: seed of the places.

    Raises:
        ConfigError: no pieces, or none of that size.
    """

    def __init__(self, images: ImageDataset, count: int, share: float, seed: int = 0) -> None:
        check_range("cells", count, least=1)
        if not 0 < share <= 1:
            raise ConfigError(f"crop: {share} given, a share of an image's side above 0 and at most 1 is needed")
        self.images, self.count, self.share, self.seed = images, count, share, seed
        self.labels, self.concepts = (values.repeat_interleave(count, 0) for values in (images.labels, images.concepts))
        self.places = torch.rand(len(images) * count, 2, generator=torch.Generator().manual_seed(seed))

    def load(self, index: int) -> Sample:
        """Return piece `index`, at the size of its image."""
        sample = self.images[index // self.count]
        height, width = sample.image.shape[1:]
        side = max(1, round(self.share * min(height, width)))
        top, left = (
            int(place * (full - side + 1)) for place, full in zip(self.places[index], (height, width), strict=True)
        )
        piece = sample.image[None, :, top : top + side, left : left + side]
        image = F.interpolate(piece, size=(height, width), mode="bilinear", align_corners=False)[0]
        return dataclasses.replace(sample, image=image, index=index, masks=None)

    def sample_id(self, index: int) -> str:
        """Return what names piece `index` for a person."""
        return f"{self.images.sample_id(index // self.count)} piece {index % self.count}"

    def version(self, index: int) -> str:
        """Return what changes where piece `index` does."""
        place = ",".join(f"{value:.6f}" for value in self.places[index].tolist())
        return f"{self.images.version(index // self.count)} {self.share} {place}"
