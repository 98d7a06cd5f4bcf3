"""Logical forms of concepts, and which is nearest to a unit: compositional explanations (Mu and Andreas 2020).

What a form says of a pixel depends on the concepts that the pixel has, and on nothing else. So the pixels of a data set
are counted by the combination of concepts that they have, and the IoU of every form follows from these counts, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_same, ratio

_WORD = 32
"""Concepts that are packed into a number at a time."""


@dataclass(frozen=True)
class Form:
    """A logical form of concepts, read from the left: ((a OR b) AND NOT c).

    Attributes:
        first: index of the concept that it begins with.
        rest: further steps ("AND" | "OR" | "AND NOT", index of a concept), in turn.
        iou: IoU with the unit, over the data set that it was searched in.
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

    def holds(self, held: Tensor) -> Tensor:
        """Return of which of K combinations it is true, (K,) bool.

        Args:
            held: (K, C) bool, the concepts of each combination.
        """
        true = held[:, self.first]
        for word, concept in self.rest:
            true = _joined(word, true, held[:, concept])
        return true


def combinations(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return which combination of concepts each pixel has, (B, H, W) int64, and the combinations, (K, C) bool.

    Args:
        masks: (B, C, H, W) bool.
    """
    flat = masks.bool().movedim(1, 0).flatten(1)
    if not len(flat):
        return torch.zeros_like(masks[:, :0].sum(1)), flat.new_zeros(min(1, flat.shape[1]), 0)
    row = torch.zeros(flat.shape[1], dtype=torch.int64, device=flat.device)
    for start in range(0, len(flat), _WORD):
        row = row << _WORD
        for place, concept in enumerate(flat[start : start + _WORD]):
            row = row | (concept.long() << place)
        row = torch.unique(row, return_inverse=True)[1]  # numbers below 2^31, so that the next word fits beside it
    example = torch.zeros(int(row.max()) + 1 if row.numel() else 0, dtype=torch.int64, device=flat.device)
    example[row] = torch.arange(len(row), device=flat.device)  # any pixel that has it
    return row.view(masks.shape[0], *masks.shape[2:]), flat[:, example].t().contiguous()


def form_iou(holds: Tensor, hits: Tensor, pixels: Tensor) -> float:
    """Return the IoU of a form with a unit over a data set, in [0, 1]; NaN where both are empty; + higher is better.

    Args:
        holds: (K,) bool, of which combinations of concepts the form is true.
        hits: (K,) pixels of each combination where the unit is above its threshold.
        pixels: (K,) pixels of each combination.
    """
    shared = hits[holds].sum().double()
    return float(ratio(shared, hits.sum() + pixels[holds].sum() - shared))


def nearest_form(hits: Tensor, pixels: Tensor, held: Tensor, length: int = 3, beam: int = 5) -> Form:
    """Return the form of concepts that is nearest to a unit, found by beam search; + a higher IoU is better.

    After Mu and Andreas 2020: in every round each form of the beam is extended by each concept with AND, OR and AND
    NOT. Shorter forms stay in the beam while they are better, so the IoU never falls with `length`.

    Args:
        hits: (K,) pixels of each combination of concepts where the unit is above its threshold.
        pixels: (K,) pixels of each combination.
        held: (K, C) bool, the concepts of each combination.
        length: the most concepts in a form.
        beam: forms that are extended in every round.

    Raises:
        ConfigError: there is no concept, or nothing to search for.
    """
    check_same("hits", hits, "pixels", pixels)
    if not held.shape[1] or length < 1 or beam < 1:
        raise ConfigError(f"a form of {length} among {held.shape[1]} concepts, beam {beam}: at least 1 is needed")
    there = pixels > 0
    hit, size, truth = hits[there].double(), pixels[there].double(), held[there].bool().t().contiguous()
    masks, best = _best([Form(c, (), 0.0) for c in range(len(truth))], truth, hit, size, beam)
    for _ in range(length - 1):
        grown = _grown(best, masks, truth, hit, size, beam)
        more = [mask.unsqueeze(0) for _, mask in grown]
        masks, best = _best([*best, *(form for form, _ in grown)], torch.cat([masks, *more]), hit, size, beam)
    return best[0]


def compositional_form(unit: Tensor, concepts: Tensor, length: int = 3, beam: int = 5) -> Form:
    """Return the form of concepts that is nearest to a unit by its pixels (+ higher IoU), see `nearest_form`.

    Args:
        unit: (B, H, W) bool, where the unit is above its threshold.
        concepts: (B, C, H, W) bool.
        length: the most concepts in a form.
        beam: forms that are extended in every round.

    Raises:
        ConfigError: there is no concept, or nothing to search for.
    """
    check_same("masks", concepts[:, :0].sum(1), "the unit", unit)
    row, held = combinations(concepts)
    hits = torch.bincount(row[unit.bool()], minlength=len(held))
    return nearest_form(hits, torch.bincount(row.flatten(), minlength=len(held)), held, length, beam)


def _joined(word: str, old: Tensor, new: Tensor) -> Tensor:
    """Return what a form says once a concept is joined to it."""
    return old & new if word == "AND" else old | new if word == "OR" else old & ~new


def _grown(
    forms: Sequence[Form], masks: Tensor, truth: Tensor, hit: Tensor, size: Tensor, beam: int
) -> list[tuple[Form, Tensor]]:
    """Return the best forms with one concept more, twice as many as the beam, with their masks (K,)."""
    concepts = truth.double()
    both, both_hit = (masks * size) @ concepts.t(), (masks * hit) @ concepts.t()  # whole numbers below 2^53: exact
    area, shared = (masks * size).sum(1, keepdim=True), (masks * hit).sum(1, keepdim=True)
    added, added_hit = concepts @ size, concepts @ hit
    counts = {
        "AND": (both, both_hit),
        "OR": (area + added - both, shared + added_hit - both_hit),
        "AND NOT": (area - both, shared - both_hit),
    }
    iou = torch.stack([ratio(hits, hit.sum() + total - hits) for total, hits in counts.values()]).nan_to_num(-1.0)
    result = []
    for place in iou.flatten().topk(min(2 * beam, iou.numel())).indices.tolist():
        word, form, concept = place // iou[0].numel(), place // len(truth) % len(forms), place % len(truth)
        name = list(counts)[word]
        new = replace(forms[form], rest=(*forms[form].rest, (name, concept)))
        result.append((new, _joined(name, masks[form], truth[concept])))
    return result


def _best(forms: Sequence[Form], masks: Tensor, hit: Tensor, size: Tensor, beam: int) -> tuple[Tensor, list[Form]]:
    """Return the masks and forms of the highest IoU, of equal masks the shortest form only."""
    shared = (masks * hit).sum(1)
    iou = ratio(shared, hit.sum() + (masks * size).sum(1) - shared).nan_to_num(0.0).tolist()
    order = sorted(range(len(forms)), key=lambda i: (-iou[i], len(forms[i].rest), forms[i].first, forms[i].rest))
    kept: list[int] = []
    for i in order:
        if len(kept) < beam and not any(torch.equal(masks[i], masks[j]) for j in kept if iou[i] == iou[j]):
            kept.append(i)
    return masks[kept], [replace(forms[i], iou=iou[i]) for i in kept]
