"""Images that somebody else's code reads: any data set of (image, label) pairs as a source of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.data.images import read_image
from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, did_you_mean
from ibd.types import DataSpec, Sample

_ROUNDING = 1e-3


class GivenImages(ImageDataModule):
    """Data sets of (image, label) or (image, label, masks), such as those of torchvision, to be asked about.

    An image is a (3, H, W) float tensor in [0, 1], a uint8 one, or an image of Pillow; all have one size. What a
    network does to pixels is left to the network. A label is a number, or, where `label` is given, one number for each
    label that an image may have; masks are (P, H, W), or (H, W) of one part, true where it is.

    Args:
        images: data set that is asked about, or one for each of "train", "val" and "test"; by default it is "test".
        class_names: names of the classes; by default what the data set has as ``classes``, else their numbers.
        part_names: names of the P parts in the masks; by default their numbers.
        label: which of several labels is asked about, by number or by name of `class_names`: there are two classes
            then, without and with it.
        batch_size: images per step.

    Raises:
        DataError: there is no image, one cannot be read, or what is given is no image, label or mask.
        ConfigError: an unknown split, or no such label.
    """

    def __init__(
        self,
        images: Any,
        class_names: Sequence[str] = (),
        part_names: Sequence[str] = (),
        label: int | str | None = None,
        batch_size: int = 64,
    ) -> None:
        super().__init__(batch_size)
        given = dict(images) if isinstance(images, Mapping) else {"test": images}
        for split in given:
            if split not in SPLITS:
                raise ConfigError(f"data: '{split}' is not one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}")
        names = list(class_names) or _names(next(iter(given.values()), None))
        position = _position(label, names)
        self._datasets = {cast(Split, split): _Given(split, source, position) for split, source in given.items()}
        first = next(iter(self._datasets.values()), None)
        if first is None:
            raise DataError("data: there is no data set")
        if position is not None:
            what = names[position] if names else f"label {position}"
            names = [f"no {what}", what]
        highest = max(int(dataset.labels.max()) for dataset in self._datasets.values())
        names = names or [str(number) for number in range(highest + 1)]
        if highest >= len(names):
            raise DataError(f"data: label {highest} is there, and {len(names)} class names, counted from 0")
        sample = first[0]
        parts = 0 if sample.masks is None else len(sample.masks)
        self.spec = DataSpec(
            class_names=tuple(names),
            part_names=tuple(part_names or (f"part {number}" for number in range(parts))),
            image_size=(sample.image.shape[1], sample.image.shape[2]),
        )
        if parts != len(self.spec.part_names):
            raise ConfigError(f"data: part_names: {len(self.spec.part_names)} given, the masks have {parts} parts")

    def dataset(self, split: Split, augment: bool = False) -> ImageDataset:
        """Return one split, as it was given.

        Raises:
            DataError: there is none.
        """
        if split not in self._datasets:
            raise DataError(f"data: there are no images for '{split}', but for {', '.join(self._datasets)}")
        return self._datasets[split]


class _Given(ImageDataset):
    """One split.

    Args:
        split: its name.
        source: data set of (image, label) pairs.
        position: which of several labels is asked about.
    """

    def __init__(self, split: str, source: Any, position: int | None) -> None:
        if not hasattr(source, "__getitem__") or not hasattr(source, "__len__"):
            raise DataError(f"data: {split}: a data set of (image, label) is needed, not a {type(source).__name__}")
        if len(source) == 0:
            raise DataError(f"data: {split}: there is no image")
        self.source, self.split, self.position = source, split, position
        self.size: torch.Size | None = None
        self.labels = torch.tensor(self._labels())
        self.concepts = torch.zeros(len(self.labels), 0)

    def load(self, index: int) -> Sample:
        """Return image `index`."""
        image, label, masks = self._item(index)
        pixels = self._pixels(image, index)
        said = self._label(label, index)
        if said != int(self.labels[index]):
            known = int(self.labels[index])
            raise DataError(
                f"{self._where(index)}: its label is {said}, and {known} in the data set's targets or labels"
            )
        mask = None if masks is None else self._masks(masks, pixels, index)
        return Sample(pixels, self._label(label, index), self.concepts[index], index, mask)

    def sample_id(self, index: int) -> str:
        """Return the path of the image where the data set says it, as torchvision's do, else its number."""
        known = getattr(self.source, "samples", None)
        try:
            return str(known[index][0]) if known is not None else f"{self.split} {index}"
        except (TypeError, IndexError, KeyError):
            return f"{self.split} {index}"

    def _labels(self) -> list[int]:
        """Return all labels: by ``targets`` or ``labels`` where the data set has them, else by reading all images."""
        changed = getattr(self.source, "target_transform", None) is not None  # what `targets` does not know
        for name in () if changed else ("targets", "labels"):
            known = getattr(self.source, name, None)
            if known is not None and hasattr(known, "__len__") and len(known) == len(self.source):
                return [self._label(label, index) for index, label in enumerate(known)]
        indices = progress(range(len(self.source)), "reading labels")
        return [self._label(self._item(index)[1], index) for index in indices]

    def _item(self, index: int) -> tuple[Any, Any, Any]:
        item = self.source[index]
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            raise DataError(
                f"{self._where(index)}: (image, label) or (image, label, masks) is needed, not {_kind(item)}"
            )
        return item[0], item[1], item[2] if len(item) == 3 else None

    def _label(self, label: Any, index: int) -> int:
        try:
            values = torch.as_tensor(label)
        except (TypeError, ValueError, RuntimeError):
            raise DataError(f"{self._where(index)}: label {label!r:.40} given, a number is needed") from None
        if self.position is not None:
            if values.dim() != 1 or self.position >= len(values):
                raise DataError(f"{self._where(index)}: a list of labels is needed to take number {self.position} of")
            values = values[self.position] > 0.5
        if values.numel() != 1:
            raise DataError(
                f"{self._where(index)}: {values.numel()} labels; of several `label` says which is asked for"
            )
        number = int(values) if bool(values.isfinite()) else -1
        if number != float(values) or number < 0:
            raise DataError(f"{self._where(index)}: label {float(values):g} given, a number from 0 is needed")
        return number

    def _pixels(self, image: Any, index: int) -> Tensor:
        if isinstance(image, Image.Image):
            image = read_image(image)
        if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] != 3:
            raise DataError(
                f"{self._where(index)}: a (3, H, W) tensor or an image of Pillow is needed, not {_kind(image)}"
            )
        pixels = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        low, high = float(pixels.min()), float(pixels.max())
        if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
            raise DataError(
                f"{self._where(index)}: values from {low:.2f} to {high:.2f}; pixels in [0, 1] are needed: leave what "
                "normalizes them to the model's preprocess"
            )
        self.size = self.size or pixels.shape
        if pixels.shape != self.size:
            (high_, wide), (height, width) = self.size[1:], pixels.shape[1:]
            raise DataError(
                f"{self._where(index)}: {height} x {width} pixels, others have {high_} x {wide}: resize them"
            )
        return pixels.clamp(0, 1)

    def _masks(self, masks: Any, pixels: Tensor, index: int) -> Tensor:
        parts = torch.as_tensor(masks)
        parts = parts.unsqueeze(0) if parts.dim() == 2 else parts
        if parts.dim() != 3 or parts.shape[1:] != pixels.shape[1:]:
            raise DataError(f"{self._where(index)}: masks of {tuple(parts.shape)}, the image is {tuple(pixels.shape)}")
        return parts > 0

    def _where(self, index: int) -> str:
        return f"data: {self.split}, image {index}"


def _names(source: Any) -> list[str]:
    """Return the names of classes that a data set has."""
    known = getattr(source, "classes", None)
    return [str(name) for name in known] if isinstance(known, list | tuple) else []


def _position(label: int | str | None, names: Sequence[str]) -> int | None:
    """Return the number of a label.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(label, str):
        if label not in names:
            raise ConfigError(f"data: label: there is no '{label}'.{did_you_mean(label, names)}")
        return list(names).index(label)
    if label is not None and (label < 0 or (names and label >= len(names))):
        raise ConfigError(f"data: label: {label} given, there are {len(names)}, counted from 0")
    return label


def _kind(given: object) -> str:
    shape = f" of shape {tuple(given.shape)}" if isinstance(given, Tensor) else ""
    return f"a {type(given).__name__}{shape}"
