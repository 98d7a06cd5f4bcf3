"""What `predict` accepts: image files, or a tensor or array that is checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ibd.data.fitting import fit_image
from ibd.data.images import read_image
from ibd.errors import DataError
from ibd.types import DataSpec

File = str | Path | Image.Image
"""An image file, or an image that Pillow has opened."""
Images = Tensor | npt.NDArray[Any] | File | Iterable[File]


def read_images(paths: Sequence[File], spec: DataSpec) -> Tensor:
    """Return images as (B, 3, H, W) in [0, 1], brought to the training size as the validation images were.

    Args:
        paths: image files, or images that Pillow has opened.
        spec: description of the data, which says what that size is, and how it is reached.

    Raises:
        DataError: a file is missing or unreadable, or none is given.
    """
    if len(paths) == 0:
        raise DataError("no image given")
    images: list[Tensor] = []
    for path in paths:
        if not isinstance(path, str | Path | Image.Image):
            raise DataError(
                f"images are paths, Pillow images, or one tensor or array of them all, not {type(path).__name__}"
            )
        images.append(fit_image(read_image(path), spec.image_size, spec.resize).to(torch.float32).div_(255))
    return torch.stack(images)


def as_tensor(images: Any) -> Any:
    """Return a numpy array as a tensor, and anything else as it is.

    Raises:
        DataError: an array of what is no number.
    """
    if not isinstance(images, np.ndarray):
        return images
    try:
        return torch.from_numpy(np.ascontiguousarray(images))  # a mirrored array has strides that torch refuses
    except TypeError:
        raise DataError(f"images are an array of {images.dtype}: float in [0, 1] is needed") from None


def as_files(images: Any) -> list[File]:
    """Return one file, or several, as a list.

    Raises:
        DataError: neither.
    """
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Iterable):
        return list(images)
    raise DataError(f"images are paths, Pillow images, or one tensor or array, not {type(images).__name__}")


def named(files: Sequence[File]) -> list[str]:
    """Return what each file is called in a table."""
    return [str(file) if isinstance(file, str | Path) else f"image {i}" for i, file in enumerate(files)]


def checked(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (3, H, W) or (B, 3, H, W) images as (B, 3, H, W).

    Args:
        images: float in [0, 1].
        size: the (height, width) that the model was trained on.

    Raises:
        DataError: another shape, type or range; the message says what is needed.
    """
    if images.ndim == 3:
        images = images.unsqueeze(0)
    if images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"images have shape {tuple(images.shape)}: (B, 3, {size[0]}, {size[1]}) is needed")
    if tuple(images.shape[2:]) != tuple(size):
        raise DataError(
            f"images are {images.shape[2]} x {images.shape[3]} pixels, the model was trained on {size[0]} x {size[1]}: "
            "resize them, or give paths"
        )
    if not images.is_floating_point():
        raise DataError(f"images are {images.dtype}: float in [0, 1] is needed (divide uint8 by 255)")
    if len(images) and not bool((images.min() >= 0) & (images.max() <= 1)):
        low, high = float(images.min()), float(images.max())
        raise DataError(f"image values range from {low:.3g} to {high:.3g}: [0, 1] is needed, not normalized")
    return images
