"""What is put in place of pixels: where an image is covered, and where the way of integrated gradients begins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import ConfigError

Baseline = Literal["mean", "black", "blur"] | float | Sequence[float] | Tensor
"""What covers a region, see `covered_with`."""

_NAMES = ("mean", "black", "blur")
_WANTED = "mean, black, blur, a number, a number for each channel, or an image (C, H, W)"


def checked_baseline(baseline: object) -> Baseline:
    """Return a baseline as a name, a float, or a (C,) or (C, H, W) tensor.

    Raises:
        ConfigError: it is none, or not finite.
    """
    if isinstance(baseline, str):
        if baseline not in _NAMES:
            raise ConfigError(f"baseline: '{baseline}' is not one of {_WANTED}")
        return baseline  # type: ignore[return-value]
    try:
        value = torch.as_tensor(list(baseline) if isinstance(baseline, Sequence) else baseline).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"baseline: {baseline!r:.60} is not one of {_WANTED}") from None
    if value.dtype == torch.bool or value.is_complex() or value.dim() not in (0, 1, 3) or not value.numel():
        shape = f" of shape {tuple(value.shape)}" if value.dim() else ""
        raise ConfigError(f"baseline: {type(baseline).__name__}{shape} is not one of {_WANTED}")
    if not bool(value.isfinite().all()):
        raise ConfigError("baseline: it has values that are not finite")
    return float(value) if not value.dim() else value


def covered_with(image: Tensor, baseline: Baseline) -> Tensor:
    """Return what a covered pixel shows, (B, C, H, W).

    Args:
        image: (B, C, H, W).
        baseline: "mean", the mean color of each image; "black", 0; "blur", the image out of focus, with a Gaussian of
            a tenth of its shorter side; a gray value; a value for each channel, (C,); or an image for all, (C, H, W).

    Raises:
        ConfigError: none of these, or of another size than the images.
    """
    given = checked_baseline(baseline)
    if isinstance(given, str):
        if given == "mean":
            return image.mean((2, 3), keepdim=True).expand_as(image)
        return torch.zeros_like(image) if given == "black" else blurred(image, 0.1 * min(image.shape[2:]))
    if isinstance(given, float):
        return torch.full_like(image, given)
    assert isinstance(given, Tensor)
    wanted = tuple(image.shape[1:]) if given.dim() == 3 else (image.shape[1],)
    if tuple(given.shape) != wanted:
        raise ConfigError(
            f"baseline: values of shape {tuple(given.shape)} for images of {tuple(image.shape[1:])}: {wanted} is needed"
        )
    return given.to(image).view(-1, *(given.shape[1:] or (1, 1))).expand_as(image)


def warn_of_scale(
    method: str, image: Tensor, baseline: Baseline, instead: str = ", or give baseline= a value for each channel"
) -> None:
    """Warn, in a line, where a black or gray value is meant for images in [0, 1] and these are others.

    To a network that is given normalized images 0 is the mean color. A value for each channel, an image, "mean" and
    "blur" are in the images' own scale and mean what they say.

    Args:
        method: name of the method.
        image: (B, C, H, W).
        baseline: baseline that it takes.
        instead: advice on what else can be done.
    """
    low, high = float(image.amin()), float(image.amax())
    if (low >= 0 and high <= 1) or not (baseline == "black" if isinstance(baseline, str) else _is_gray(baseline)):
        return
    shown = "black" if baseline == "black" else f"{float(baseline):g}"  # type: ignore[arg-type]
    warnings.warn(
        f"'{method}': the images range from {low:.3g} to {high:.3g}, so {shown} is not the same color as in images "
        "from 0 to 1: put the normalization into the model (docs/explainers.md, Normalized images)" + instead,
        stacklevel=4,
    )


def _is_gray(baseline: Baseline) -> bool:
    return isinstance(baseline, int | float)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return (B, C, H, W) images convolved with a Gaussian of `sigma` pixels; beyond the border the image goes on."""
    for dim in (2, 3):
        radius = max(1, math.ceil(3 * sigma))
        place = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
        weights = torch.exp(-0.5 * (place / sigma).square())
        shape = [1, 1, 1, 1]
        shape[dim] = len(place)
        kernel = (weights / weights.sum()).view(shape).expand(image.shape[1], 1, *shape[2:])
        pad = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        image = F.conv2d(F.pad(image, pad, mode="replicate"), kernel, groups=image.shape[1])
    return image
