"""Reading the images and masks of one split from disk, each time or once into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from ibd.data.images import read_image, read_mask
from ibd.distributed import progress
from ibd.errors import DataError
from ibd.printing import shown


@dataclass(frozen=True)
class MaskFolders:
    """Where the masks of the parts lie: ``<folder>/<path of the image>.png``, one folder for each part.

    A mask must be of the size of its image as `read_image` returns it. A missing file: the part is not visible.

    Attributes:
        folders: part name -> its folder.
        above: pixels greater than this belong to the part.
    """

    folders: dict[str, Path]
    above: int = 0

    def read(self, path: str, size: Sequence[int]) -> tv_tensors.Mask:
        """Return the masks of the image at `path`, (P, H, W) uint8; `size` is (H, W)."""
        masks = torch.zeros((len(self.folders), *size), dtype=torch.uint8)
        for mask, folder in zip(masks, self.folders.values(), strict=True):
            file = (folder / path).with_suffix(".png")
            if file.exists():
                inside = read_mask(file, self.above)
                if inside.shape != mask.shape:
                    given, needed = (f"{w} x {h}" for h, w in (inside.shape, mask.shape))
                    raise DataError(f"{file}: the mask is {given} pixels, its image '{path}' is {needed}")
                mask.copy_(inside)
        return tv_tensors.Mask(masks)


class FileStore:
    """Reads the images and masks of one split, each time or once.

    Args:
        folder: folder of the images.
        paths: paths of the images in it.
        masks: folders of the masks.
        prepare: a deterministic uint8 transform to apply to both.
        cache: whether to read everything now and keep it in memory, as one tensor where all sizes are equal.
    """

    def __init__(
        self,
        folder: Path,
        paths: list[str],
        masks: MaskFolders | None = None,
        prepare: Callable[..., Any] | None = None,
        cache: bool = False,
    ) -> None:
        self.folder, self.paths, self.masks, self.prepare = folder, paths, masks, prepare
        self._kept = self._read_all() if cache else []

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return (image,) or (image, masks), uint8."""
        if not self._kept:
            return self._read(index)
        image, *masks = (column[index] for column in self._kept)
        return (image, *(tv_tensors.Mask(mask) for mask in masks))

    def _read(self, index: int) -> tuple[Tensor, ...]:
        path = self.paths[index]
        image = read_image(self.folder / path)
        if self.masks is None:
            return (image if self.prepare is None else self.prepare(image),)
        masks = self.masks.read(path, image.shape[-2:])
        return (image, masks) if self.prepare is None else self.prepare(image, masks)

    def _read_all(self) -> list[_Shelf]:
        count = len(self.paths)
        shelves = [_Shelf(count, tensor) for tensor in self._read(0)]
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            read = pool.map(self._read, range(count))
            for index, tensors in enumerate(progress(read, f"reading {shown(self.folder.name)}", count)):
                for shelf, tensor in zip(shelves, tensors, strict=True):
                    shelf.put(index, tensor)
        return shelves


class _Shelf:
    """Tensors in memory: as one while all shapes are equal (loader processes share that), as a list otherwise."""

    def __init__(self, count: int, first: Tensor) -> None:
        self._tensors: Tensor | list[Tensor] = torch.empty((count, *first.shape), dtype=first.dtype)

    def put(self, index: int, tensor: Tensor) -> None:
        """Keep `tensor`, the one after the last."""
        tensor = tensor.as_subclass(Tensor)
        if isinstance(self._tensors, Tensor) and tensor.shape != self._tensors.shape[1:]:
            self._tensors = [kept.clone() for kept in self._tensors[:index]]
        if isinstance(self._tensors, Tensor):
            self._tensors[index] = tensor
        else:
            self._tensors.append(tensor)

    def __getitem__(self, index: int) -> Tensor:
        """Return the tensor that was put at `index`."""
        return self._tensors[index]
