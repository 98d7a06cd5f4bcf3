"""What a person can see of an image: cues that no one sees explain nothing to anyone (Wang et al. 2021).

An image is cut into bands of spatial frequency, an octave wide, by differences of Gaussians: where the contrast of a
band, its amplitude over the mean of all that is coarser, is below the threshold of sight at that frequency, nobody sees
it (contrast in complex images as of Peli 1990). The threshold is 1 over the contrast sensitivity of Mannos and Sakrison
(1974), scaled to a peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError

PEAK = 200.0
"""Contrast sensitivity at the best frequency: a pattern of 0.5 % contrast is just seen (Campbell and Robson 1968)."""
_DETAIL = 8
"""Periods to the shorter side from which on a band is a detail, and makes a place visible."""
_FINEST = (0.35, 0.91)
"""Of the finest band its frequency in periods a pixel, and what is left there of a wave of it."""
_OTHERS = (0.153, 0.4725)
"""The same of the other bands, whose frequency is over the narrower Gaussian's deviation; both by calculus."""
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
    coarse, bands = frequency_bands(torch.cat([pixels, _luminance(pixels).unsqueeze(0)]))
    shown, below = coarse[:3].clone(), coarse[3].clone()
    places = torch.zeros(pixels.shape[1:], dtype=torch.bool)
    for level, band in reversed(list(enumerate(bands))):  # from coarse to fine
        frequency, gain = _FINEST if level == 0 else (_OTHERS[0] / 2 ** (level - 1), _OTHERS[1])
        contrast = band[3].abs() / gain / below.clamp(min=_BLACK)
        half = max(1, round(0.5 / frequency))  # half a period to either side: a wave passes 0 in between
        strength = F.max_pool2d(contrast[None, None], 2 * half + 1, 1, half)[0, 0]
        seen = strength * contrast_sensitivity(torch.tensor(frequency * side / degrees)) >= 1
        shown += band[:3] * seen
        below += band[3]
        if frequency * side >= _DETAIL:
            places |= seen
    return Sight(shown.clamp(0, 1).to(image.dtype), places, degrees)


def frequency_bands(values: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return what is coarser than all bands, and bands from fine to coarse; their sum is the image again.

    The differences of Gaussians of deviations 0, 1, 2, 4, ... pixels up to an eighth of the shorter side, cut off at 3
    deviations: what is farther away from a place does not count there. The image goes on mirrored beyond its border.

    Args:
        values: (C, H, W).
    """
    bands, last, deviation = list[Tensor](), values, 1
    while deviation <= min(values.shape[1:]) / 8:
        blurred = _blurred(values, deviation)
        bands.append(last - blurred)
        last, deviation = blurred, 2 * deviation
    return last, bands


def _blurred(values: Tensor, deviation: int) -> Tensor:
    """Return (C, H, W) values under a Gaussian."""
    reach = 3 * deviation
    line = torch.arange(-reach, reach + 1, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (line / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(values.unsqueeze(1), (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


def _luminance(pixels: Tensor) -> Tensor:
    """Return the (H, W) luminance of (3, H, W) pixels in sRGB."""
    linear = torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055).pow(2.4))
    return (linear * torch.tensor([0.2126, 0.7152, 0.0722], dtype=pixels.dtype)[:, None, None]).sum(0)
