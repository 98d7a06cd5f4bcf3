"""Images of which the features of a frozen backbone are known: these come in their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.data.dataset import ImageDataset
from ibd.types import Sample


class FeatureFile:
    """The features of N images in a file of float32, read by memory map: only what is asked for is in memory.

    Args:
        path: file of N * D * h * w numbers.
        shape: (N, D, h, w).
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.shape = path, shape
        self._numbers: npt.NDArray[np.float32] | None = None

    def __getitem__(self, index: int) -> Tensor:
        """Return the (D, h, w) features of an image."""
        if self._numbers is None:
            self._numbers = np.memmap(self.path, np.float32, "r", shape=self.shape)
        return torch.from_numpy(np.array(self._numbers[index]))

    def __getstate__(self) -> dict[str, object]:
        """Return what a loader process needs, which opens the file by itself."""
        return {"path": self.path, "shape": self.shape, "_numbers": None}


class FeatureDataset(ImageDataset):
    """One split, with features in the place of images.

    Args:
        images: the split, without augmentation.
        features: features of its images, in the same order.
    """

    def __init__(self, images: ImageDataset, features: FeatureFile) -> None:
        self.images, self.features = images, features
        self.labels, self.concepts = images.labels, images.concepts
        self._labels: list[int] = images.labels.tolist()

    def load(self, index: int) -> Sample:
        """Return the features of image `index`, with what is known of it; no image is read."""
        nothing = torch.empty(3, 0, 0)
        return Sample(nothing, self._labels[index], self.concepts[index], index, features=self.features[index])

    def sample_id(self, index: int) -> str:
        """Return what names image `index` for a person."""
        return self.images.sample_id(index)
