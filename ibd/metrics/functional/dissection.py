"""What units stand for: network dissection, with single concepts and with forms of several, over a data set.

IoU of dissection is one of sums over the data set and not a mean over images, so functions give counts of each image,
which the caller adds up (each image once).
"""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Form:
    """A logical form of concepts, read from the left: ((a OR b) AND NOT c).

    Attributes:
        first: index of the concept that it begins with.
        rest: further steps ("AND" | "OR" | "AND NOT", index of a concept), in turn.
        iou: IoU with the unit, over the data set.
    """

    first: int
    rest: tuple[tuple[str, int], ...]
    iou: float

    def describe(self, names: Sequence[str]) -> str:
        """Return it in words, such as ``(wing OR tail) AND NOT tag``."""
        text = names[self.first]
        for i, (word, concept) in enumerate(self.rest):
            text = f"{f'({text})' if i else text} {word} {names[concept]}"
        return text


def compositional_form(unit: Tensor, concepts: Tensor, length: int = 3, beam: int = 5) -> Form:
    """Return the form of concepts that is nearest to a unit, found by beam search; + a higher IoU is better.

    After Mu and Andreas 2020: in every round each form of the beam is extended by each concept with AND, OR and AND
    NOT. Shorter forms stay in the beam while they are better, so the IoU never falls with `length`.

    Args:
        unit: (B, H, W) bool, where the unit is above its threshold.
        concepts: (B, C, H, W) bool.
        length: the most concepts in a form.
        beam: forms that are extended in every round.

    Raises:
        ConfigError: there is no concept, or nothing to search for.
    """
    check_same("masks", concepts[:, :0].sum(1), "the unit", unit)
    if not concepts.shape[1] or length < 1 or beam < 1:
        raise ConfigError(f"a form of {length} among {concepts.shape[1]} concepts, beam {beam}: at least 1 is needed")
    truth = concepts.bool().movedim(1, 0).flatten(1)
    where = unit.bool().flatten()
    size = int(where.sum())
    forms = [Form(c, (), 0.0) for c in range(len(truth))]
    masks, best = _best(forms, truth, where, beam)
    for _ in range(length - 1):
        grown = _grown(best, masks, truth, where, size, beam)
        masks, best = _best(
            [*best, *(form for form, _ in grown)], torch.cat([masks, *(m for _, m in grown)]), where, beam
        )
    return best[0]


def _grown(
    forms: Sequence[Form], masks: Tensor, truth: Tensor, where: Tensor, size: int, beam: int
) -> list[tuple[Form, Tensor]]:
    """Return the best forms with one concept more, twice as many as the beam, with their masks (1, M)."""
    both, both_hit = _shared(masks, truth), _shared(masks & where, truth)
    area, hit = masks.sum(1, keepdim=True).double(), (masks & where).sum(1, keepdim=True).double()
    added, added_hit = truth.sum(1).double(), (truth & where).sum(1).double()
    counts = {
        "AND": (both, both_hit),
        "OR": (area + added - both, hit + added_hit - both_hit),
        "AND NOT": (area - both, hit - both_hit),
    }
    iou = torch.stack([ratio(hits, size + total - hits) for total, hits in counts.values()]).nan_to_num(-1.0)
    result = []
    for place in iou.flatten().topk(min(2 * beam, iou.numel())).indices.tolist():
        word, form, concept = place // iou[0].numel(), place // len(truth) % len(forms), place % len(truth)
        name = list(counts)[word]
        old, new = masks[form], truth[concept]
        mask = old & new if name == "AND" else old | new if name == "OR" else old & ~new
        result.append((Form(forms[form].first, (*forms[form].rest, (name, concept)), 0.0), mask.unsqueeze(0)))
    return result


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """Return (n, m) float64 counts of what the rows of two bool matrices have in common."""
    return torch.stack([(row & b).sum(1) for row in a]).double()


def _best(forms: Sequence[Form], masks: Tensor, where: Tensor, beam: int) -> tuple[Tensor, list[Form]]:
    """Return the masks and forms of the highest IoU, of equal masks the shortest form only."""
    overlaps = (masks & where).sum(1)
    iou = ratio(overlaps.double(), (masks | where).sum(1)).nan_to_num(0.0).tolist()
    order = sorted(range(len(forms)), key=lambda i: (-iou[i], len(forms[i].rest), forms[i].first, forms[i].rest))
    kept: list[int] = []
    for i in order:
        if len(kept) < beam and not any(torch.equal(masks[i], masks[j]) for j in kept if iou[i] == iou[j]):
            kept.append(i)
    return masks[kept], [Form(forms[i].first, forms[i].rest, iou[i]) for i in kept]
