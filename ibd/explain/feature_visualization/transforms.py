"""Small random movements of the image before each step: what survives them is no accident of single pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Transforms:
    """Jitter, rotation and scale, drawn anew for each image and step, in one resampling. What is outside is gray.

    Attributes:
        jitter: largest shift along each axis, as a share of the image's side; lucid's is 8 of 128 pixels.
        rotation: largest angle in degrees.
        scale: smallest and largest magnification.
        padding: pixels of gray around the image, by which the model's input grows.
    """

    jitter: float = 1 / 16
    rotation: float = 10.0
    scale: tuple[float, float] = (0.9, 1.1)
    padding: int = 0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images moved, (B, 3, H + 2 padding, W + 2 padding).

        Args:
            image: (B, 3, H, W).
            generator: generator of the random numbers, on the CPU.
        """
        drawn = torch.rand(len(image), 4, generator=generator)
        size = (image.shape[2], image.shape[3])
        turned = self.matrices(drawn, size).to(image)
        out = [len(image), image.shape[1], *(side + 2 * self.padding for side in size)]
        grid = F.affine_grid(turned, out, align_corners=False)
        moved: Tensor = F.grid_sample(image - 0.5, grid, padding_mode="zeros", align_corners=False) + 0.5
        return moved

    def matrices(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the (B, 2, 3) matrices from the output's coordinates in [-1, 1] to the image's.

        Args:
            drawn: (B, 4) in [0, 1]: angle, magnification, shift to the right and down.
            size: size H, W of the images.
        """
        height, width = size
        low, high = self.scale
        angle = (2 * drawn[:, 0] - 1) * math.radians(self.rotation)
        shrink = 1 / (low + (high - low) * drawn[:, 1])
        shift = 2 * (2 * drawn[:, 2:] - 1) * self.jitter
        grown = [(side + 2 * self.padding) / side for side in size]
        cosine, sine = shrink * angle.cos(), shrink * angle.sin()
        across = torch.stack([cosine * grown[1], -sine * grown[0] * height / width, shift[:, 0]], 1)
        down = torch.stack([sine * grown[1] * width / height, cosine * grown[0], shift[:, 1]], 1)
        return torch.stack([across, down], 1)
