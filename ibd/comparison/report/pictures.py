"""Pictures within the page: images, maps on them, and outlines of parts, as data."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from ibd.comparison.report.svg import PALETTE
from ibd.explain.render import overlay

_SIDE = 256
"""Pixels of the longer side of a picture, at most, where there are few."""
_LEAST, _SMALL = 144, 160
_MANY = 400
"""So many pictures are drawn as large as can be; of more each is smaller, so that the page keeps its size."""
_SHARP = 112
"""Pixels of the longer side up to which each pixel is shown as a square, and no blur made of it."""
_OUTLINE = 192

Rgb = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """A picture of the page: the address that holds it, what it shows in words, its size, and how it is enlarged."""

    address: str
    alt: str
    width: int
    height: int

    @property
    def sharp(self) -> bool:
        """Whether its pixels are shown as squares."""
        return max(self.width, self.height) <= _SHARP


def side_for(count: int) -> int:
    """Return how many pixels the longer side of each of so many pictures has, at most."""
    return max(_LEAST, min(_SIDE, round(_SIDE * math.sqrt(_MANY / max(count, 1)))))


def picture(pixels: Rgb, alt: str, side: int = _SIDE) -> Picture:
    """Return a (H, W, 3) picture in [0, 1]; a large one is made smaller.

    Args:
        pixels: the picture.
        alt: what it shows, in words.
        side: pixels of its longer side, at most.
    """
    image = _fitted(pixels, side)
    return Picture(_address(image), alt, *image.size)


def data_uri(pixels: Rgb) -> str:
    """Return a (H, W, 3) picture in [0, 1] as an address that holds it; large ones are made smaller."""
    return _address(_fitted(pixels, _OUTLINE))


def _fitted(pixels: Rgb, side: int) -> Image.Image:
    image = Image.fromarray((pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _address(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=90, subsampling=0)  # with subsampling, red and blue would run
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def small_picture(pixels: Rgb, alt: str) -> Picture:
    """Return a picture that is shown small."""
    return picture(pixels, alt, _SMALL)


def map_picture(image: Rgb, heat: npt.NDArray[np.float32]) -> Rgb:
    """Return a map on its gray image: red for, blue against, full strength at its 99th percentile.

    Args:
        image: (H, W, 3).
        heat: (H, W); what is not finite counts as 0.
    """
    finite = torch.from_numpy(np.nan_to_num(heat.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0))
    return overlay(torch.from_numpy(image).permute(2, 0, 1), finite, normalization="percentile")


def outlined(image: Rgb, masks: npt.NDArray[np.bool_]) -> Rgb:
    """Return an image with the outline of each of its (P, H, W) parts, in the colors of `part_colors`."""
    times = max(1, round(_OUTLINE / max(image.shape[:2])))
    large = image.repeat(times, 0).repeat(times, 1) * 0.8 + 0.2
    width = max(1, min(image.shape[0], image.shape[1]) * times // 96)
    for mask, color in zip(masks, part_colors(len(masks)), strict=True):
        large[_edge(mask.repeat(times, 0).repeat(times, 1), width)] = to_rgb(color)
    return large


def part_colors(parts: int) -> list[str]:
    """Return a color for each part."""
    return [PALETTE[i % len(PALETTE)] for i in range(parts)]


def _edge(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask that lie within `width` of its outside."""
    inner = np.pad(mask, width)
    for axis in (0, 1):
        shifts: Sequence[int] = range(-width, width + 1)
        inner = np.logical_and.reduce([np.roll(inner, shift, axis) for shift in shifts])
    edge: npt.NDArray[np.bool_] = mask & ~inner[width:-width, width:-width]
    return edge
