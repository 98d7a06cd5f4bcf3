"""Bringing one image to the network's size by torch alone, which a prediction needs: torchvision imports slowly.

What torchvision's v2 transforms make of it, but for a rounding: on some processors they go by way of floats, which ones
differs by release. Training and validation bring images there by this too, so that a prediction sees what they saw.
"""

from __future__ import annotations

import platform
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import ConfigError
from ibd.types import Resize


def fit_image(image: Tensor, size: tuple[int, int], resize: Resize) -> Tensor:
    """Return an image brought to a size.

    Args:
        image: (3, h, w) uint8 or float.
        size: (height, width).
        resize: "squash" resizes to the size whatever the aspect ratio; "crop" resizes to cover it and cuts the
            center; "pad" pads with black to the aspect ratio, so that nothing is cut or distorted.

    Returns:
        (3, height, width) of the same type.

    Raises:
        ConfigError: `resize` is none of these.
    """
    check_resize(resize)
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    if resize == "squash":
        return resized(image, size)
    if resize == "pad":
        return resized(F.pad(image, padding(image, size)), size)
    covering = resized(image, covering_size(image, size))
    top, left = (round((have - want) / 2) for have, want in zip(covering.shape[-2:], size, strict=True))
    return covering[..., top : top + size[0], left : left + size[1]]


def check_resize(resize: Resize) -> None:
    """Check a way to another aspect ratio.

    Raises:
        ConfigError: it is none.
    """
    if resize not in get_args(Resize):
        raise ConfigError(f"data.resize: '{resize}' given, one of {', '.join(get_args(Resize))} is needed")


def padding(image: Tensor, size: tuple[int, int]) -> list[int]:
    """Return how many pixels a (..., h, w) image lacks to the aspect ratio of a size: left, right, above, below."""
    (height, width), (h, w) = size, image.shape[-2:]
    extra_w = max(round(h * width / height) - w, 0)
    extra_h = max(round(w * height / width) - h, 0)
    left, top = extra_w // 2, extra_h // 2
    return [left, extra_w - left, top, extra_h - top]


def covering_size(image: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest (height, width) of the aspect ratio of a (..., h, w) image that covers a size."""
    h, w = image.shape[-2:]
    scale = max(size[0] / h, size[1] / w)
    return max(round(h * scale), size[0]), max(round(w * scale), size[1])


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a (3, h, w) image bilinearly resized with antialiasing, of the same type."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    whole = image.dtype == torch.uint8 and not _resizes_bytes()
    values = (image.float() if whole else image).unsqueeze(0)
    values = F.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return values.round().to(torch.uint8) if whole else values


def _resizes_bytes() -> bool:
    """Return whether torch resizes uint8 as it is on this machine: elsewhere that is slow, and torchvision does not."""
    fast = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return fast or platform.machine() in ("aarch64", "arm64")
