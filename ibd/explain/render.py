"""Turning maps into pictures. Maps are signed and un-normalised; only here are they scaled, and how is said."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

RED = np.array([0.79, 0.08, 0.17], dtype=np.float32)
BLUE = np.array([0.13, 0.36, 0.67], dtype=np.float32)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, U, h, w) maps bilinearly brought to (B, U, H, W); their sign and scale stay."""
    return F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)


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
