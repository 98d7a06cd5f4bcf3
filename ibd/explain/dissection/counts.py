"""Pixels of a data set, counted by which concepts they have and which channels are above their thresholds there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.metrics.functional.dissection import dissection_iou
from ibd.metrics.functional.forms import Form, combinations, form_iou

_MOST_COUNTS = 2**27
"""Counts of a layer: 1 GiB."""


@dataclass(frozen=True)
class Counts:
    """What U channels and C concepts have in common over the images of a split: all dissection rests on these.

    Attributes:
        held: (K, C) bool, the combinations of concepts that pixels have.
        pixels: (K,) pixels with each.
        hits: (U, K) pixels with each where a channel is above its threshold.
        chance: (U, K) the same with the masks of another image: what a channel that does not look at the image, but is
            high at the same places as often, has in common with the concepts.
    """

    held: Tensor
    pixels: Tensor
    hits: Tensor
    chance: Tensor

    def iou(self) -> Tensor:
        """Return the (U, C) IoU of each channel with each concept; NaN where both are empty."""
        return self._iou(self.hits)

    def chance_iou(self) -> Tensor:
        """Return the same with the masks of another image, (U, C)."""
        return self._iou(self.chance)

    def area(self) -> Tensor:
        """Return the (C,) pixels of the concepts."""
        return (self.pixels.double() @ self.held.double()).long()

    def form_iou(self, unit: int, form: Form) -> tuple[float, float]:
        """Return the IoU of a channel with a form, and with the form's mask of another image."""
        holds = form.holds(self.held)
        return form_iou(holds, self.hits[unit], self.pixels), form_iou(holds, self.chance[unit], self.pixels)

    def _iou(self, hits: Tensor) -> Tensor:
        shared = hits.double() @ self.held.double()  # whole numbers below 2^53: exact
        return dissection_iou(shared, hits.sum(1), self.area())


class Combinations:
    """Numbers the combinations of concepts that pixels have, in the order in which they come."""

    def __init__(self, concepts: int) -> None:
        self._number: dict[bytes, int] = {}
        self._rows: list[Tensor] = []
        self._concepts = concepts

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._rows)

    def numbers(self, masks: Tensor) -> Tensor:
        """Return which combination each pixel has, (B, H * W) int64.

        Args:
            masks: (B, C, H, W) bool, on the CPU.
        """
        row, held = combinations(masks)
        known = []
        for combination, key in zip(held, np.packbits(held.numpy(), axis=1), strict=True):
            number = self._number.setdefault(key.tobytes(), len(self._rows))
            if number == len(self._rows):
                self._rows.append(combination)
            known.append(number)
        return torch.tensor(known, dtype=torch.int64)[row].flatten(1)

    def held(self) -> Tensor:
        """Return the (K, C) bool concepts of each."""
        return torch.stack(self._rows) if self._rows else torch.zeros(0, self._concepts, dtype=torch.bool)


class Counting:
    """Counts the pixels of a split for one layer, a batch at a time.

    Args:
        layer: name of the layer, for a message.
        units: its U channels.
    """

    def __init__(self, layer: str, units: int) -> None:
        self._layer, self._units = layer, units
        self._hits, self._chance = torch.zeros(units, 0, dtype=torch.int64), torch.zeros(units, 0, dtype=torch.int64)

    def update(self, first: int, above: Tensor, own: Tensor, others: Tensor, known: int) -> None:
        """Count a batch.

        Args:
            first: number of the first of u channels.
            above: (B, u, H * W) bool.
            own: (B, H * W) combination of each pixel.
            others: the same of another image each.
            known: number of combinations so far.

        Raises:
            UnsupportedError: masks overlap in so many ways that memory would not hold the counts.
        """
        if self._units * known > _MOST_COUNTS:
            raise UnsupportedError(
                f"dissection: the masks overlap in {known} ways, too many for the {self._units} channels of "
                f"'{self._layer}': take fewer concepts, or a layer of fewer channels"
            )
        image, unit, pixel = above.nonzero(as_tuple=True)
        some = slice(first, first + above.shape[1])
        self._hits = _added(self._hits, some, unit, own.to(unit.device)[image, pixel], known)
        self._chance = _added(self._chance, some, unit, others.to(unit.device)[image, pixel], known)

    def counts(self, held: Tensor, pixels: Tensor) -> Counts:
        """Return what was counted.

        Args:
            held: (K, C) bool, the combinations.
            pixels: (K,) pixels of each.
        """
        hits, chance = (F.pad(each, (0, len(held) - each.shape[1])) for each in (self._hits, self._chance))
        return Counts(held, pixels, hits, chance)


def _added(counts: Tensor, some: slice, unit: Tensor, combination: Tensor, known: int) -> Tensor:
    """Return (U, K) counts with those of some channels added, K as many as are known now."""
    grown = F.pad(counts, (0, known - counts.shape[1])) if known > counts.shape[1] else counts
    height = some.stop - some.start
    found = torch.bincount(unit * known + combination, minlength=height * known)
    grown[some] += found.view(height, known).cpu()
    return grown
