"""Explanations of images that changed a little: by noise, in place.

A change counts only where the predicted class stays (matched prediction): only those are explained. The tensors are
what ``ibd.metrics.functional.robustness`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.comparison.probes.explaining import Explain, maps_of
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.seeding import Id, seeded_normal
from ibd.errors import ConfigError, DataError, check_range

Shift = tuple[int, int]
"""Whole pixels down and to the right."""
SHIFTS: tuple[Shift, ...] = ((0, 2), (2, 0), (0, -2), (-2, 0))


@dataclass(frozen=True)
class Changed:
    """Some versions of each image.

    Attributes:
        images: (B, R, 3, H, W).
        distance: (B, R) float64, Euclidean, from the image.
        valid: (B, R) bool: the explained class is still the predicted one.
    """

    images: Tensor
    distance: Tensor
    valid: Tensor


def noisy(images: Tensor, ids: Sequence[Id], draws: int = 4, sigma: float = 0.05, seed: int = 0) -> Tensor:
    """Return (B, R, 3, H, W): images plus normal noise, clamped to [0, 1]; each drawn by its image's id alone.

    Args:
        images: (B, 3, H, W).
        ids: ids of the images.
        draws: number of draws R.
        sigma: standard deviation of the noise.
        seed: seed of the noise; another one gives other noise.

    Raises:
        ConfigError: no draw, or a negative deviation.
    """
    check_range("draws", draws, least=1)
    if sigma < 0:
        raise ConfigError(f"sigma: {sigma} given, 0 or more is needed")
    drawn = seeded_normal((draws, *images.shape[1:]), ids, seed, "noise").to(images)
    return (images.unsqueeze(1) + sigma * drawn).clamp(0, 1)


def translated(images: Tensor, shifts: Sequence[Shift] = SHIFTS) -> Tensor:
    """Return (B, R, 3, H, W): images moved by whole pixels; what comes in is their border, repeated."""
    pad = max((abs(pixels) for shift in shifts for pixels in shift), default=0)
    height, width = images.shape[2:]
    padded = F.pad(images, (pad, pad, pad, pad), mode="replicate")
    moved = [padded[..., pad - down : pad - down + height, pad - right : pad - right + width] for down, right in shifts]
    return torch.stack(moved, 1) if moved else images.new_zeros(len(images), 0, *images.shape[1:])


def matched(predictor: Predictor, images: Tensor, classes: Tensor, changed: Tensor) -> Changed:
    """Return changed images with what the model says of them.

    Args:
        predictor: the model.
        images: (B, 3, H, W).
        classes: (B,) their predicted classes.
        changed: (B, R, 3, H, W).

    Raises:
        DataError: they are versions of other images.
    """
    if changed.dim() != 5 or changed.shape[0] != len(images) or changed.shape[2:] != images.shape[1:]:
        raise DataError(f"changed images of shape {tuple(changed.shape)} given for images of {tuple(images.shape)}")
    predicted = predictor.predicted(changed.flatten(0, 1)).view(changed.shape[:2])
    distance = (changed.double() - images.double().unsqueeze(1)).flatten(2).square().sum(2).sqrt()
    valid = predicted == classes.to(predicted.device).unsqueeze(1)
    return Changed(changed, distance, valid.to(changed.device))


def changed_maps(
    explain: Explain,
    model: nn.Module,
    classes: Tensor,
    changed: Changed,
    batch_size: int = 64,
) -> Tensor:
    """Return the (B, R, H, W) float32 maps of changed images, of the classes of the unchanged; NaN where not valid.

    Args:
        explain: the explainer.
        model: model that is explained.
        classes: (B,) the explained classes.
        changed: changed images; those whose prediction changed are left out.
        batch_size: images explained at a time.
    """
    batch, draws = changed.valid.shape
    size = changed.images.shape[3:]
    maps = torch.full((batch * draws, *size), torch.nan, device=changed.images.device)
    images, wanted = changed.images.flatten(0, 1), classes.repeat_interleave(draws)
    chosen = changed.valid.flatten().nonzero().squeeze(1)
    parts = torch.split(chosen, batch_size) if len(chosen) else ()
    for some in parts:
        maps[some] = maps_of(explain, model, images[some], wanted[some.to(wanted.device)], batch_size)
    return maps.view(batch, draws, *size)
