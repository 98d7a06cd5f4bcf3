"""What discovered concepts have in common with what people annotated: labels of images, and masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ibd.errors import check_range
from ibd.metrics.functional.ranks import average_ranks

_LEVELS = 64


def auroc(scores: Tensor, truth: Tensor) -> Tensor:
    """Return how well each score tells each annotation, (K, T) float64: 1 always, 0.5 not, 0 always the wrong way.

    The chance that an image with the annotation has a higher score than one without, by ranks (Mann & Whitney 1947).

    Args:
        scores: (N, K).
        truth: (N, T), 1, 0, or another number where it is not known, such as NaN.

    Returns:
        NaN for an annotation without an image on either side.
    """
    columns = []
    for column in truth.unbind(1):
        with_it, without = column == 1, column == 0
        positives, negatives = int(with_it.sum()), int(without.sum())
        if not positives or not negatives:
            columns.append(torch.full((scores.shape[1],), torch.nan, dtype=torch.float64))
            continue
        known = with_it | without
        ranks = average_ranks(scores[known].t().double())
        above = ranks[:, with_it[known]].sum(1) - positives * (positives + 1) / 2
        columns.append(above / (positives * negatives))
    return torch.stack(columns, 1) if columns else torch.zeros(scores.shape[1], 0, dtype=torch.float64)


class MaskOverlap:
    """IoU of concepts with masks, each at the threshold that is best in one half of the images, measured in the other.

    Counts are sums over images, as in network dissection (Bau et al. 2017); memory is that of the counts.

    Args:
        activations: (n, K) of cells of the images, from which thresholds are taken: their quantiles.
        parts: number P of the masks' parts.
    """

    def __init__(self, activations: Tensor, parts: int) -> None:
        check_range("masks", parts, least=1)
        shares = 1 - torch.logspace(np.log10(0.9), -3, _LEVELS).double()
        self.levels = torch.quantile(_sampled(activations).double(), shares, dim=0).t().contiguous()
        concepts = len(self.levels)
        self.inside = torch.zeros(2, concepts, parts, _LEVELS, dtype=torch.float64)
        self.above = torch.zeros(2, concepts, _LEVELS, dtype=torch.float64)
        self.size = torch.zeros(2, parts, dtype=torch.float64)
        self.cells = torch.zeros(2, dtype=torch.float64)

    def update(self, maps: Tensor, masks: Tensor, half: int) -> None:
        """Count images.

        Args:
            maps: (B, K, H, W) activations, brought to the size of the masks.
            masks: (B, P, H, W), the share of each pixel that a part covers, 0 to 1.
            half: half that they belong to, 0 or 1.
        """
        flat = maps.double().transpose(0, 1).flatten(1)
        cover = masks.double().transpose(0, 1).flatten(1)
        self.size[half] += cover.sum(1)
        self.cells[half] += flat.shape[1]
        for concept, values in enumerate(flat):
            place = torch.bucketize(values, self.levels[concept], right=True)
            for part, share in enumerate(cover):
                counted = torch.bincount(place, share, _LEVELS + 1)
                self.inside[half, concept, part] += counted.flip(0).cumsum(0).flip(0)[1:]
            counted = torch.bincount(place, minlength=_LEVELS + 1).double()
            self.above[half, concept] += counted.flip(0).cumsum(0).flip(0)[1:]

    def iou(self) -> tuple[Tensor, Tensor]:
        """Return the IoU in the half in which thresholds are found, and in the other, (K, P) float64 each.

        A level counts what is at or above it. One that every place of the first half reaches is none: it has what
        `everywhere` has, whatever the concept is, and of a concept that is 0 nearly everywhere it would win. NaN for a
        part that is in no image of a half, and for a concept that is the same everywhere.
        """
        union = self.above.unsqueeze(2) + self.size.unsqueeze(1).unsqueeze(3) - self.inside
        every = self.inside / union.where(union > 0, torch.nan)
        every = every.where((self.size > 0).unsqueeze(1).unsqueeze(3), torch.nan)
        every = every.where((self.above[0] < self.cells[0]).unsqueeze(1), torch.nan)
        best = every[0].nan_to_num(-1.0).argmax(2, keepdim=True)
        return every[0].gather(2, best)[..., 0], every[1].gather(2, best)[..., 0]

    def everywhere(self) -> Tensor:
        """Return the IoU of the whole image with each part in the second half, (P,): what says nothing has."""
        return self.size[1] / self.cells[1]


def _sampled(values: Tensor) -> Tensor:
    """Return a part of many rows, spread over them: ``torch.quantile`` takes no more than 16 million numbers."""
    step = max(1, -(-values.numel() // 10**7))
    return values[::step]
