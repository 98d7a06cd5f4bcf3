"""What a person can see of an image: cues that no one sees explain nothing to anyone (Wang et al. 2021).

An image is cut into octaves of spatial frequency (Peli 1990, "Contrast in complex images"): where the contrast of an
octave, its amplitude over the mean of all that is coarser, is below the threshold of sight at that frequency, nobody
sees it. The threshold is 1 over the contrast sensitivity of Mannos and Sakrison (1974), scaled to a peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError

PEAK = 200.0
"""Contrast sensitivity at the best frequency: a pattern of 0.5 % contrast is just seen (Campbell and Robson 1968)."""
_COARSE = 2
"""The coarsest octave that makes a place visible, 4 periods to the picture: coarser ones are everywhere."""
_BLACK = 0.02
"""Luminance below which contrast is that beside this: stray light on a screen."""


@dataclass(frozen=True)
class Sight:
    """What a person sees of an image.

    Attributes:
        image: (3, H, W) the image without details that are not seen, in [0, 1].
        places: (H, W) bool, where any detail is seen.
        degrees: visual angle of the image's shorter side.
    """

    image: Tensor
    places: Tensor
    degrees: float

    def seen(self, heat: Tensor) -> tuple[Tensor, float]:
        """Return a (H, W) map without what lies where no detail is seen, and the share of it that this was.

        The share is of the sum of the absolute values; 0 of a map that is 0.
        """
        kept = heat * self.places.to(heat.device)
        total = float(heat.abs().double().sum())
        return kept, 1 - float(kept.abs().double().sum()) / total if total else 0.0


def contrast_sensitivity(frequency: Tensor) -> Tensor:
    """Return the contrast sensitivity at frequencies in periods per degree, with its peak `PEAK` at 8 of them.

    ``2.6 (0.0192 + 0.114 f) exp(-(0.114 f)^1.1)`` (Mannos and Sakrison 1974), whose peak is 0.98.
    """
    f = 0.114 * frequency.double()
    return PEAK / 0.98 * 2.6 * (0.0192 + f) * torch.exp(-f.pow(1.1))


def sight_of(image: Tensor, degrees: float = 10.0) -> Sight:
    """Return what a person sees of an image; without a network.

    Args:
        image: (3, H, W) in [0, 1], as a screen shows it (sRGB).
        degrees: visual angle of the shorter side. 10 degrees are 10 cm of screen at 57 cm.

    Raises:
        DataError: another shape.
        ConfigError: an angle that is not above 0 and below 180.
    """
    if image.dim() != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 8:
        raise DataError(f"an image of shape {tuple(image.shape)} given, (3, H, W) of 8 pixels or more is needed")
    if not 0 < degrees < 180:
        raise ConfigError(f"degrees: {degrees} given, a visual angle above 0 and below 180 is needed")
    pixels = image.detach().double().cpu()
    side = min(pixels.shape[1:])
    bands = octaves(torch.cat([pixels, _luminance(pixels).unsqueeze(0)]))
    shown, below = bands[0][:3].clone(), bands[0][3].clone()
    places = torch.zeros(pixels.shape[1:], dtype=torch.bool)
    for octave, band in enumerate(bands[1:]):
        contrast = band[3].abs() / below.clamp(min=_BLACK)
        half = max(1, round(side / 2 ** (octave + 2)))  # half a period to either side: a wave passes 0 in between
        strength = F.max_pool2d(contrast[None, None], 2 * half + 1, 1, half)[0, 0]
        seen = strength * contrast_sensitivity(torch.tensor(2.0**octave / degrees)) >= 1
        shown += band[:3] * seen
        below += band[3]
        if octave >= _COARSE:
            places |= seen
    return Sight(shown.clamp(0, 1).to(image.dtype), places, degrees)


def octaves(values: Tensor) -> list[Tensor]:
    """Return what is coarser than an octave around 1 period to the shorter side, then octaves around 1, 2, 4, ...

    Their sum is the image again: raised cosines of the logarithm of the frequency (Peli 1990). The image goes on
    mirrored beyond its border.

    Args:
        values: (..., H, W).
    """
    height, width = values.shape[-2:]
    whole = torch.cat([values, values.flip(-1)], -1)
    whole = torch.cat([whole, whole.flip(-2)], -2).double()
    spectrum = torch.fft.rfft2(whole)
    rows, columns = torch.fft.fftfreq(2 * height).double(), torch.fft.rfftfreq(2 * width).double()
    periods = min(height, width) * torch.sqrt(rows[:, None] ** 2 + columns**2)
    position = torch.log2(periods.clamp(min=1e-9))
    count = math.floor(float(position.max())) + 2
    filters = [0.5 * (1 + torch.cos(math.pi * (position - k).clamp(-1, 1))) for k in range(count)]
    filters.insert(0, 1 - torch.stack(filters).sum(0))
    return [torch.fft.irfft2(spectrum * each, s=whole.shape[-2:])[..., :height, :width] for each in filters]


def _luminance(pixels: Tensor) -> Tensor:
    """Return the (H, W) luminance of (3, H, W) pixels in sRGB."""
    linear = torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055).pow(2.4))
    return (linear * torch.tensor([0.2126, 0.7152, 0.0722], dtype=pixels.dtype)[:, None, None]).sum(0)
