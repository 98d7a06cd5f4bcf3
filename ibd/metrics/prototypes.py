"""How far prototypes stand for parts of things: consistency, stability, and the pointing game; see also purity.

Each metric counts per prototype, so that a value is the same for any size of batches and any number of processes. A
prototype for which there is no evidence is NaN and left out of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ibd.backbones.receptive_field import ReceptiveField
from ibd.metrics.base import DetailedMetric
from ibd.metrics.parts import energy_inside, peaks_inside


class PrototypeMetric(DetailedMetric):
    """A value per prototype, and their mean over the prototypes that are in use."""

    higher_is_better = True

    def __init__(self, units: int, active: Sequence[bool] | Tensor | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("compute_with_cache", False)  # `active` may be set between two calls of `compute`
        super().__init__(**kwargs)
        self.units = units
        self.active = active

    def per_prototype(self) -> Tensor:
        """Return the (U,) values whose mean `compute` returns, NaN without evidence; every process must call it."""
        with self._of_all_processes():
            return self._values()

    def compute(self) -> Tensor:
        """Return the mean over the active prototypes; NaN where there is evidence for none."""
        return self._in_use(self._values()).nanmean()

    def _values(self) -> Tensor:
        raise NotImplementedError

    def _in_use(self, value: Tensor) -> Tensor:
        if self.active is None:
            return value
        return value[torch.as_tensor(self.active, dtype=torch.bool, device=value.device)]


class PrototypeConsistency(PrototypeMetric):
    """Share of prototypes that keep to one part (Huang et al. 2023), in [0, 1]; higher is better.

    A prototype is consistent if there is a part that it hits in at least `threshold` of the images of its class in
    which that part is visible. One whose class was never seen with a visible part is left out.

    Args:
        units: number of prototypes U.
        parts: number of annotated parts P.
        threshold: share of images from which on a part counts as the prototype's.
        active: (U,) which prototypes count, false for the pruned; all if None.
        **kwargs: arguments of torchmetrics.
    """

    hit: Tensor
    seen: Tensor

    def __init__(
        self,
        units: int,
        parts: int,
        threshold: float = 0.8,
        active: Sequence[bool] | Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, active, **kwargs)
        self.threshold = threshold
        self.add_state("hit", torch.zeros(units, parts, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(units, parts, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, hits: Tensor, visible: Tensor, own: Tensor) -> None:
        """Add a batch.

        Args:
            hits: (B, U, P) bool, from `part_hits`.
            visible: (B, P) bool, from `part_hits`.
            own: (B, U) bool, the image is of the prototype's class.
        """
        counts = own.bool().unsqueeze(2) & visible.bool().unsqueeze(1)
        self.hit += (hits.bool() & counts).sum(0)
        self.seen += counts.sum(0)

    def _values(self) -> Tensor:
        best = best_part(self.hit, self.seen)
        return (best >= self.threshold).float().where(~best.isnan(), torch.nan)


class PrototypeStability(PrototypeMetric):
    """How often noise leaves a prototype on the same parts (Huang et al. 2023), in [0, 1]; higher is better.

    Per prototype the share of the images of its class in which it hits the same parts with and without `add_noise`.
    Hitting none twice counts as stable, as published: read it beside consistency.

    Args:
        units: number of prototypes U.
        active: (U,) which prototypes count, false for the pruned; all if None.
        **kwargs: arguments of torchmetrics.
    """

    same: Tensor
    seen: Tensor

    def __init__(self, units: int, active: Sequence[bool] | Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(units, active, **kwargs)
        self.add_state("same", torch.zeros(units, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(units, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, hits: Tensor, noisy_hits: Tensor, own: Tensor, visible: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            hits: (B, U, P) bool, from `part_hits`.
            noisy_hits: (B, U, P) bool, of the same images with noise.
            own: (B, U) bool, the image is of the prototype's class.
            visible: (B, P) bool; if given, an image without a visible part, in which nothing can change, is left out.
        """
        counts = own.bool()
        if visible is not None:
            counts = counts & visible.bool().any(1, keepdim=True)
        self.same += ((hits.bool() == noisy_hits.bool()).all(2) & counts).sum(0)
        self.seen += counts.sum(0)

    def _values(self) -> Tensor:
        return share_of(self.same, self.seen)


class PointingGame(PrototypeMetric):
    """Share of (image, prototype of its class) pairs whose peak lies on an annotated part, in [0, 1]; higher is better.

    After Zhang et al. 2018, with the visible parts together as the target. Left out are images without a visible part
    and maps without a peak. `per_prototype` gives each prototype's share.

    Args:
        units: number of prototypes U.
        active: (U,) which prototypes count, false for the pruned; all if None.
        **kwargs: arguments of torchmetrics.
    """

    points: Tensor
    pairs: Tensor

    def __init__(self, units: int, active: Sequence[bool] | Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(units, active, **kwargs)
        self.add_state("points", torch.zeros(units), dist_reduce_fx="sum")
        self.add_state("pairs", torch.zeros(units, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, peaks: Tensor, masks: Tensor, own: Tensor) -> None:
        """Add a batch.

        Args:
            peaks: (B, U, 2) from `peak_positions`.
            masks: (B, P, H, W) bool, the visible pixels of each part.
            own: (B, U) bool, the image is of the prototype's class.
        """
        self._add(peaks_inside(peaks, masks), own)

    def compute(self) -> Tensor:
        """Return the mean over the pairs of active prototypes; NaN where there are none."""
        return share_of(self._in_use(self.points).sum(), self._in_use(self.pairs).sum())

    def _add(self, inside: Tensor, own: Tensor) -> None:
        inside = inside.where(own.bool(), torch.nan)
        self.points += inside.nansum(0)
        self.pairs += (~inside.isnan()).sum(0)

    def _values(self) -> Tensor:
        return share_of(self.points, self.pairs)


class EnergyPointingGame(PointingGame):
    """Mean share of a prototype's map that lies on annotated parts, in [0, 1]; higher is better.

    The energy-based pointing game (Wang et al. 2020, Score-CAM), over (image, prototype of its class) pairs. Left out
    are images without a visible part and maps that are 0 everywhere. Arguments are those of `PointingGame`.
    """

    def update(self, maps: Tensor, masks: Tensor, own: Tensor, field: ReceptiveField | None = None) -> None:
        """Add a batch.

        Args:
            maps: (B, U, h, w) of any size, negative values count as 0.
            masks: (B, P, H, W) bool, the visible pixels of each part.
            own: (B, U) bool, the image is of the prototype's class.
            field: receptive field, for the pixels that the cells of the maps are centered on; see
                `ibd.metrics.parts.upsampling`.
        """
        self._add(energy_inside(maps, masks, field), own)


def share_of(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; NaN where the whole is 0."""
    return part / whole.where(whole > 0, torch.nan)


def best_part(hit: Tensor, seen: Tensor) -> Tensor:
    """Return (U,): the largest share over parts (U, P); NaN where no part was seen."""
    best = F.pad(share_of(hit, seen).nan_to_num(-1.0), (0, 1), value=-1.0).amax(1)  # padded, for there may be no parts
    return best.where(best >= 0, torch.nan)
