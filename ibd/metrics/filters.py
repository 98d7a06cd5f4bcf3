"""How far filters stand for parts of the objects of one class (Zhang et al. 2018, section 5).

Both count a filter in the images of its class alone, for the parts that are visible there. A filter without evidence is
NaN and left out of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ibd.backbones.receptive_field import ReceptiveField
from ibd.metrics.parts import upsampling
from ibd.metrics.prototypes import PrototypeMetric, best_part, share_of


class LocationInstability(PrototypeMetric):
    """How much the distance between a filter's peak and a part varies over images, in image diagonals; lower is better.

    ``mean_f mean_k sqrt(var_I(|peak - part_k| / diagonal))``: a filter that always finds the same part, or a place at a
    fixed distance from it, has 0. The variance is that of a sample (n - 1); a pair seen less than twice is left out.

    Args:
        units: number of filters U.
        parts: number of annotated parts P.
        diagonal: of the image, in pixels, as images were cropped to their object in the paper.
        active: (U,) which filters count; all if None.
        **kwargs: arguments of torchmetrics.
    """

    higher_is_better = False
    seen: Tensor
    total: Tensor
    square: Tensor

    def __init__(
        self,
        units: int,
        parts: int,
        diagonal: float,
        active: Sequence[bool] | Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, active, **kwargs)
        self.diagonal = diagonal
        for name in ("seen", "total", "square"):
            self.add_state(name, torch.zeros(units, parts, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, peaks: Tensor, centers: Tensor, own: Tensor) -> None:
        """Add a batch.

        Args:
            peaks: (B, U, 2) from `peak_positions`, NaN for a map without a peak.
            centers: (B, P, 2) from `part_centers`, NaN where not visible.
            own: (B, U) bool, the image is of the filter's class.
        """
        distance = (peaks.unsqueeze(2) - centers.unsqueeze(1)).double().norm(dim=3) / self.diagonal
        known = ~distance.isnan() & own.bool().unsqueeze(2)
        distance = distance.where(known, 0.0)
        self.seen += known.sum(0)
        self.total += distance.sum(0)
        self.square += distance.square().sum(0)

    def by_part(self) -> Tensor:
        """Return (U, P) deviations; NaN where a part was seen less than twice."""
        with self._of_all_processes():
            return self._deviations()

    def _deviations(self) -> Tensor:
        enough = self.seen > 1
        spread = self.square - share_of(self.total.square(), self.seen)
        return (spread.clamp(min=0) / (self.seen - 1)).sqrt().where(enough, torch.nan)

    def _values(self) -> Tensor:
        return self._deviations().nanmean(1).float()


class PartInterpretability(PrototypeMetric):
    """In what share of images a filter covers the part that it covers most often, in [0, 1]; higher is better.

    ``mean_f max_k mean_I [IoU(S_f, S_k) > least]``, with S_f the pixels in which the map, upsampled bilinearly, is
    above the filter's threshold (network dissection's).

    Args:
        thresholds: (U,) of the filters, from `ibd.metrics.functional.dissection.quantile_thresholds`.
        parts: number of annotated parts P.
        least: IoU above which a filter covers a part in an image; published: 0.2.
        active: (U,) which filters count; all if None.
        **kwargs: arguments of torchmetrics.
    """

    hit: Tensor
    seen: Tensor
    thresholds: Tensor

    def __init__(
        self,
        thresholds: Tensor,
        parts: int,
        least: float = 0.2,
        active: Sequence[bool] | Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(len(thresholds), active, **kwargs)
        self.register_buffer("thresholds", thresholds.detach().clone(), persistent=False)
        self.least = least
        self.add_state("hit", torch.zeros(self.units, parts, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(self.units, parts, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor, own: Tensor, field: ReceptiveField | None = None) -> None:
        """Add a batch.

        Args:
            maps: (B, U, h, w).
            masks: (B, P, H, W) bool, the visible pixels of each part.
            own: (B, U) bool, the image is of the filter's class.
            field: receptive field, for the pixels that the cells of the maps are centered on.
        """
        size = masks.shape[2], masks.shape[3]
        rows, columns = (axis.to(maps) for axis in upsampling(maps.shape[2:], size, "bilinear", field))
        flat, area = masks.flatten(2).to(maps.dtype), masks.flatten(2).sum(2)
        for image, chosen in enumerate(own.bool()):
            large = rows @ maps[image, chosen] @ columns.t()
            inside = (large > self.thresholds.to(large)[chosen].view(-1, 1, 1)).flatten(1)
            shared = inside.to(flat.dtype) @ flat[image].t()
            either = inside.sum(1, keepdim=True) + area[image] - shared
            visible = area[image] > 0
            self.hit[chosen] += (share_of(shared, either) > self.least) & visible
            self.seen[chosen] += visible.long()

    def _values(self) -> Tensor:
        return best_part(self.hit, self.seen)
