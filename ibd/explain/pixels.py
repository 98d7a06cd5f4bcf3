"""An image as matplotlib wants it, of any number of channels."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SLACK = 1e-3
"""How far rounding may take an image beyond 0 and 1."""


def pixels_of(image: Tensor) -> NDArray[np.float32]:
    """Return a (C, H, W) image in [0, 1] as a (H, W, 3) picture.

    Three channels are red, green and blue; of any other number the picture is gray, the mean of the channels. Values
    outside of 0 and 1 are cut off, with a warning: an image that was normalized looks like another one.
    """
    shown = image.detach().to(torch.float32).cpu()
    if shown.numel() and not bool(((shown >= -_SLACK) & (shown <= 1 + _SLACK)).all()):
        warnings.warn(
            "pictures are drawn of images from 0 to 1, and values outside are clipped: undo the normalization for them",
            stacklevel=3,
        )
    if len(shown) != 3:
        shown = shown.mean(0, keepdim=True).expand(3, -1, -1)
    pixels: NDArray[np.float32] = shown.permute(1, 2, 0).clamp(0, 1).numpy()
    return pixels
