"""What the sources that read image files share: the table of a split, its dataset, and a data module around them."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.data.file_store import FileStore, MaskFolders
from ibd.data.images import check_image, refuse_nul
from ibd.data.transforms import Augment, Fit, eval_transform, keeps_fit, train_transform
from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, did_you_mean
from ibd.types import Resize, Sample


@dataclass(frozen=True)
class FileTable:
    """The images of one split and what is known of them.

    Attributes:
        paths: relative to the folder of the images, with forward slashes.
        labels: (N,) int64.
        concepts: (N, K) float32, NaN where unknown.
        rows: (N,) int64: where else to look an image up, for a source that knows more of it.
        groups: column -> the group of each image, "" where unknown.
    """

    paths: list[str]
    labels: Tensor
    concepts: Tensor
    rows: Tensor
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def select(self, keep: Tensor) -> FileTable:
        """Return the images where `keep`, (N,) bool, is true."""
        chosen = keep.nonzero().flatten().tolist()
        paths = [self.paths[i] for i in chosen]
        groups = {name: tuple(column[i] for i in chosen) for name, column in self.groups.items()}
        return replace(
            self,
            paths=paths,
            labels=self.labels[keep],
            concepts=self.concepts[keep],
            rows=self.rows[keep],
            groups=groups,
        )

    def split(self, fraction: float, seed: int) -> tuple[FileTable, FileTable]:
        """Return the table without, and with only, a `fraction` of each class.

        Who belongs to the fraction depends on the seed and the images' names alone: not on their order, the machine
        or other images of other classes. A class of two images or more keeps one on either side.
        """
        chosen = torch.zeros(len(self.paths), dtype=torch.bool)
        ticket = [hashlib.sha256(f"{seed}:{path}".encode()).digest() for path in self.paths]
        by_label: dict[int, list[int]] = {}
        for index, label in enumerate(self.labels.tolist()):
            by_label.setdefault(label, []).append(index)
        for members in by_label.values():
            count = min(max(round(fraction * len(members)), 1), len(members) - 1)
            chosen[sorted(members, key=ticket.__getitem__)[:count]] = True
        return self.select(~chosen), self.select(chosen)


class FileDataset(ImageDataset):
    """One split of images in files.

    Args:
        table: table of its images.
        store: store that reads them.
        transform: transform that is applied to an image, or to an image and its masks.
        deciding: (C, P) bool: which parts decide which class; None where nobody knows.

    Attributes:
        table: table of the images, as given.
    """

    def __init__(
        self, table: FileTable, store: FileStore, transform: Callable[..., Any], deciding: Tensor | None = None
    ) -> None:
        self.table, self.store, self.transform, self.deciding = table, store, transform, deciding
        self.labels, self.concepts, self.groups = table.labels, table.concepts, table.groups
        self._labels: list[int] = table.labels.tolist()

    def load(self, index: int) -> Sample:
        """Return image `index`, transformed."""
        inputs = self.store[index]
        image, masks = self.transform(*inputs) if len(inputs) > 1 else (self.transform(*inputs), None)
        return Sample(image, self._labels[index], self.concepts[index], index, masks)

    def deciding_mask(self, index: int) -> Tensor | None:
        """Return the union of the masks that decide the class of image `index`, (H, W) bool; None if unknown."""
        masks = None if self.deciding is None else self.load(index).masks
        return None if self.deciding is None or masks is None else masks[self.deciding[self._labels[index]]].any(0)

    def sample_id(self, index: int) -> str:
        """Return the path of image `index`, relative to the folder of the images."""
        return self.table.paths[index]

    def version(self, index: int) -> str:
        """Return the path of image `index`, its size, and when it was written."""
        path = self.table.paths[index]
        state = (self.store.folder / path).stat()
        return f"{path} {state.st_size} {state.st_mtime_ns}"


class FileDataModule(ImageDataModule, abc.ABC):
    """A source of image files; a subclass reads its tables and sets `spec`, `tables`, `images` and `masks`.

    Attributes:
        images: the folder that the paths in `tables` are relative to.
        tables: the splits that there are.
        masks: folders of the masks of the parts, if there are any.
        deciding: (C, P) bool: which parts decide which class, if that is known.
    """

    images: Path
    tables: dict[Split, FileTable]
    masks: MaskFolders | None = None
    deciding: Tensor | None = None

    def __init__(
        self,
        root: str,
        image_size: int | list[int],
        resize: Resize,
        augment: Augment,
        val_fraction: float,
        cache: bool,
        check_images: bool,
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.root = require_folder(root)
        self.size = _height_width(image_size)
        self.resize, self.augment, self.cache, self.check_images = resize, augment, cache, check_images
        Fit(self.size, resize)
        train_transform(self.size, resize, augment)  # a bad choice is an error now
        if not 0 < val_fraction < 1:
            raise ConfigError(f"data.val_fraction: {val_fraction} given, a number between 0 and 1 is needed")
        self._stores: dict[tuple[Split, bool], FileStore] = {}
        self._datasets: dict[tuple[Split, bool], FileDataset] = {}

    def prepare_data(self) -> None:
        """Look at every image file once, so that a damaged one is found before training starts."""
        if self.check_images:
            paths = [path for table in self.tables.values() for path in table.paths]
            for path in progress(paths, "checking images"):
                check_image(self.images / path)
            self.check_images = False

    def setup(self, stage: str) -> None:
        """Fill the caches, if they are asked for, of the splits that `stage` needs."""
        if self.cache:
            for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
                self.dataset(split, augment=split == "train")  # type: ignore[arg-type]  # a Split

    def dataset(self, split: Split, augment: bool = False) -> FileDataset:
        """Return one split, with the training augmentation or without; the same object when asked again."""
        key = (split, augment and self.augment != "none")
        if key not in self._datasets:
            if split not in self.tables:
                raise DataError(f"{self.root}: there are no images for '{split}'; put them in {self.root / split}")
            self._datasets[key] = self._make(*key)
        return self._datasets[key]

    def _make(self, split: Split, augment: bool) -> FileDataset:
        # What is cached are fitted images, unless the augmentation needs the originals.
        fitted = self.cache and (split != "train" or keeps_fit(self.augment))
        store_key = (split, fitted)
        if store_key not in self._stores:
            fit = Fit(self.size, self.resize) if fitted else None
            self._stores[store_key] = FileStore(self.images, self.tables[split].paths, self.masks, fit, self.cache)
        if augment:
            transform = train_transform(self.size, self.resize, self.augment, fitted)
        else:
            transform = eval_transform(self.size, self.resize, fitted)
        return FileDataset(self.tables[split], self._stores[store_key], transform, self.deciding)


def require_folder(path: str | Path) -> Path:
    """Return `path`, a folder, as a `Path`.

    Raises:
        DataError: there is none; the message names its nearest siblings.
    """
    refuse_nul(path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise DataError(f"{folder}: is a file, a folder is needed")
    missing = folder.absolute()
    while not missing.parent.exists():
        missing = missing.parent
    siblings = sorted(entry.name for entry in missing.parent.iterdir() if entry.is_dir())
    where = "" if missing == folder.absolute() else f", nor {missing}"
    raise DataError(f"{folder}: there is no such folder{where}.{did_you_mean(missing.name, siblings)}")


def _height_width(image_size: int | list[int]) -> tuple[int, int]:
    size = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
    if len(size) != 2 or min(size) < 2:  # torch cannot resize to a single pixel
        raise ConfigError(f"data.image_size: {image_size} given, a number or [height, width] is needed, at least 2")
    return size[0], size[1]
