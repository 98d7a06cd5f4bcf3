"""Turning maps into pictures. Maps are signed and un-normalised; only here are they scaled, and how is said."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

RED = np.array([0.79, 0.08, 0.17], dtype=np.float32)
_SMALL = 32
"""Rows or columns of a map that is brought to another size by products."""
BLUE = np.array([0.13, 0.36, 0.67], dtype=np.float32)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, U, h, w) maps bilinearly brought to (B, U, H, W); their sign and scale stay.

    Small maps by two products with the weights of the interpolation, which is several times as fast.
    """
    maps = maps.float()
    if max(maps.shape[2:]) > _SMALL or not maps.numel():
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    with torch.autocast(maps.device.type, enabled=False):
        rows, columns = (_weights(cells, pixels, maps) for cells, pixels in zip(maps.shape[2:], size, strict=True))
        return rows.t() @ (maps @ columns)


def _weights(cells: int, pixels: int, like: Tensor) -> Tensor:
    """Return what each of the cells of a line counts for each of its pixels, (cells, pixels)."""
    one_by_one = torch.eye(cells, device=like.device).unsqueeze(0)
    return F.interpolate(one_by_one, size=pixels, mode="linear", align_corners=False)[0]


def overlay(image: Tensor, heat: Tensor, scale: float | None = None, strength: float = 0.75) -> NDArray[np.float32]:
    """Return a (H, W, 3) picture of a grey image with a signed map on it: red speaks for, blue against.

    Args:
        image: (3, H, W) in [0, 1].
        heat: (H, W), or smaller and then upsampled.
        scale: the absolute value that is painted with full strength; None takes the map's own largest.
        strength: opacity there, 0 to 1.
    """
    picture = image.detach().float().cpu()
    heat = heat.detach().float().cpu()
    if heat.shape != picture.shape[1:]:
        heat = upsample(heat[None, None], (picture.shape[1], picture.shape[2]))[0, 0]
    largest = float(heat.abs().max()) if scale is None else scale
    value = (heat / largest).clamp(-1, 1).numpy() if largest > 0 else torch.zeros_like(heat).numpy()
    grey = picture.mean(0).numpy()[..., None] * 0.75 + 0.2
    colour = np.where(value[..., None] >= 0, RED, BLUE)
    alpha = strength * np.abs(value)[..., None]
    mixed: NDArray[np.float32] = ((1 - alpha) * grey + alpha * colour).clip(0, 1).astype(np.float32)
    return mixed
