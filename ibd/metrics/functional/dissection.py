"""What units stand for: network dissection over a data set.

IoU of dissection is one of sums over the data set and not a mean over images, so functions give counts of each image,
which the caller adds up (each image once).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_same, double, ratio

SHARE = 0.005
"""Share of all pixels of the data set that are above a unit's threshold (Bau et al. 2017)."""
DETECTS = 0.04
"""Least IoU from which on a unit counts as a detector (Bau et al. 2017)."""


def quantile_thresholds(maps: Tensor, share: float = SHARE) -> Tensor:
    """Return each unit's T with P(a > T) <= `share` over all positions of the data set, as near to it as values allow.

    Args:
        maps: (N, U, h, w) of the data set, or of a sample of it.
        share: share in (0, 1).

    Returns:
        (U,) of the dtype of the maps; NaN for a unit with a NaN.

    Raises:
        ConfigError: there are no positions, or the share is none.
    """
    flat = maps.detach().movedim(1, 0).flatten(1)
    if not flat.shape[1] or not 0 < share < 1:
        raise ConfigError(
            f"thresholds for a share of {share} of {flat.shape[1]} positions: a share in (0, 1) is needed"
        )
    above = int(share * flat.shape[1] + 1e-9)
    return flat.topk(above + 1, 1).values[:, -1].where(~flat.isnan().any(1), torch.nan)


def dissection_counts(maps: Tensor, thresholds: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count the pixels of each image that units and concepts have, alone and in common.

    Args:
        maps: (B, U, H, W) brought to the size of the masks.
        thresholds: (U,) from `quantile_thresholds`.
        masks: (B, C, H, W) bool, one for each concept, part or variant.

    Returns:
        Pixels in common (B, U, C), of units (B, U), of concepts (B, C), int64.
    """
    check_same("masks", masks[:, :0].sum(1), "maps", maps[:, :0].sum(1))
    units = (maps.detach() > thresholds.view(-1, 1, 1)).flatten(2)
    concepts = masks.bool().flatten(2)
    shared = units.float() @ concepts.float().transpose(1, 2)  # whole numbers below 2^24: exact
    return shared.round().long(), units.sum(2), concepts.sum(2)


def dissection_iou(shared: Tensor, units: Tensor, concepts: Tensor) -> Tensor:
    """IoU of each unit with each concept over the data set, in [0, 1]; + higher is better (Bau et al. 2017).

    sum_x |M and L| / sum_x |M or L| from the sums over images of `dissection_counts`.

    Args:
        shared: (U, C) pixels of both.
        units: (U,) pixels of the units.
        concepts: (C,) pixels of the concepts.

    Returns:
        (U, C) float64; NaN where both are empty.
    """
    return ratio(double(shared), double(units.unsqueeze(-1) + concepts.unsqueeze(-2) - shared))


@dataclass(frozen=True)
class Detectors:
    """What units detect.

    Attributes:
        concept: (U,) int64, the concept of the highest IoU; -1 where that is no higher than the threshold.
        iou: (U,) float64, with the best concept.
        unique: number of different concepts that are detected.
    """

    concept: Tensor
    iou: Tensor
    unique: int


def detectors(iou: Tensor) -> Detectors:
    """Return which concept each unit detects, and how many different ones (Bau et al. 2017); + more is better.

    Args:
        iou: (U, C) from `dissection_iou`; a unit is a detector above `DETECTS`.
    """
    best, concept = iou.nan_to_num(-1.0).max(1)
    concepts = concept.where(best > DETECTS, -1)
    return Detectors(concepts, best.where(best >= 0, torch.nan), len(torch.unique(concepts[concepts >= 0])))


def weighted_iou(iou: Tensor, weight: Tensor) -> Tensor:
    """WAIoU, semantic coverage: the mean IoU over concepts, weighted, in [0, 1]; + higher is better.

    sum_c w_c IoU_c / sum_c w_c (Behzadi-Khormouji and Oramas 2023); w from the concepts' frequency or area. IoU_c is of
    the binarized response of the units that are looked at together.

    Args:
        iou: (..., C), NaN for concepts that count for nothing.
        weight: (..., C) or (C,), at least 0.

    Returns:
        (...) float64; NaN where nothing has a weight.
    """
    value = double(iou)
    weights = double(weight).where(~value.isnan(), 0.0)
    return ratio((value.nan_to_num(0.0) * weights).sum(-1), weights.sum(-1))
