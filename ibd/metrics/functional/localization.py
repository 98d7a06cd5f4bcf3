"""Whether a map lies where it should: against a mask of the truth.

Maps are signed and un-normalized, (B, H, W); masks (B, H, W) bool of one size with them. S is the mask, |S| its pixels,
N = H * W. Every function gives (B, ...) float64, NaN where the map holds a NaN or the mask is empty, and everything
that goes by the order of pixels gives the expected value over a random order of equal ones: a constant map then scores
what chance does. `localize` computes all of it from one sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_maps, check_same, double, ratio
from ibd.metrics.functional.components import component_boxes, matched_boxes
from ibd.metrics.functional.ranks import Order

THRESHOLDS = tuple(i / 20 for i in range(20))
"""Shares of a map's maximum at which `iou_curve` cuts it."""
BOX_THRESHOLDS = (0.1, 0.25, 0.5, 0.75)
"""Shares of a map's maximum at which `box_hits` cuts it."""
_ROUNDING = 1e-6
"""What is above a threshold by less, relative to it, is not: a map and its multiple are cut in the same place."""


@dataclass(frozen=True)
class _Found:
    """The pixels of the masks in the order of the maps."""

    order: Order
    mask: Tensor

    @classmethod
    def of(cls, maps: Tensor | Order, mask: Tensor) -> _Found:
        order = maps if isinstance(maps, Order) else Order.of(maps)
        wanted = (order.index.shape[0], *order.size)
        if tuple(mask.shape) != wanted:
            raise ConfigError(f"masks of shape {tuple(mask.shape)} given beside maps of {wanted}")
        return cls(order, mask.bool().to(order.index.device))

    @cached_property
    def inside(self) -> Tensor:
        """(B, N) bool: whether each pixel lies in the mask, the highest first."""
        return self.order.along(self.mask)

    @cached_property
    def count(self) -> Tensor:
        """(B, N + 1) int64: how many of the first k lie in the mask."""
        return F.pad(self.inside.cumsum(1), (1, 0))

    @cached_property
    def size(self) -> Tensor:
        """(B,) int64: |S|."""
        return self.count[:, -1]

    def hits(self, k: Tensor) -> Tensor:
        """Return (B,) float64: the expected number of the k highest, at least one, that lie in the mask; k (B,)."""
        place = (k - 1).unsqueeze(1).clamp(min=0)
        first, last = (bound.gather(1, place) for bound in self.order.bounds)
        before, behind = self.count.gather(1, first), self.count.gather(1, last)
        share = (k.unsqueeze(1) - first).double() / (last - first)
        return (before + share * (behind - before)).squeeze(1)

    def known(self, value: Tensor) -> Tensor:
        """Return it with NaN where the mask is empty or the map undefined; value (B, ...)."""
        known = self.order.defined & (self.size > 0)
        return value.where(known.view(-1, *[1] * (value.dim() - 1)), torch.nan)


def mass_accuracy(maps: Tensor, mask: Tensor) -> Tensor:
    """Share of the positive mass that lies in the mask, in [0, 1]; + higher is better; |S| / N by chance.

    sum_S a+ / sum a+ with a+ = max(a, 0) (relevance mass accuracy, Arras et al. 2022, CLEVR-XAI). NaN also where
    nothing is positive.
    """
    return energy_shares(maps, mask.unsqueeze(1)).squeeze(1)


def energy_shares(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the positive mass that lies in each region, in [0, 1]; |region| / N by chance.

    The energy-based pointing game (Wang et al. 2020), region by region.

    Args:
        maps: (B, H, W).
        masks: (B, R, H, W) bool, of parts, body, distractors, background, tag; they may overlap.

    Returns:
        (B, R); NaN for a region without a pixel (a part that is not visible), and where nothing is positive.
    """
    check_maps(maps)
    if masks.dim() != 4:
        raise ConfigError(f"masks of shape {tuple(masks.shape)} given, (images, regions, height, width) is needed")
    check_same("masks", masks[:, :0].sum(1), "maps", maps)
    positive = double(maps).clamp(min=0).flatten(1)
    regions = masks.bool().to(positive.device).flatten(2)
    total = positive.sum(1, keepdim=True)
    # Region by region: no product of all regions in memory, and a sum that does not depend on the batch.
    inside = [(positive * regions[:, r]).sum(1) for r in range(regions.shape[1])]
    shares = ratio(torch.stack(inside, 1) if inside else total[:, :0], total)
    return shares.where(regions.any(2), torch.nan)


def rank_accuracy(maps: Tensor | Order, mask: Tensor) -> Tensor:
    """Share of the |S| highest pixels that lie in the mask, in [0, 1]; + higher is better; |S| / N by chance.

    Relevance rank accuracy (Arras et al. 2022, CLEVR-XAI).
    """
    return _rank(_Found.of(maps, mask))


def _rank(ranked: _Found) -> Tensor:
    return ranked.known(ratio(ranked.hits(ranked.size), ranked.size))


def iou_at_size(maps: Tensor | Order, mask: Tensor) -> Tensor:
    """IoU of the |S| highest pixels with the mask, in [0, 1]; + higher is better; about s / (2 - s), s = |S| / N.

    h / (2 |S| - h) where h is the expected number of hits: a function of rank accuracy r, r / (2 - r).
    """
    rank = rank_accuracy(maps, mask)
    return rank / (2 - rank)


def pointing_game(maps: Tensor | Order, mask: Tensor) -> Tensor:
    """Whether the highest pixel lies in the mask, in [0, 1]; + higher is better; |S| / N by chance.

    After Zhang et al. 2018, without a margin; of several highest pixels the share that lies in the mask.
    """
    return _pointing(_Found.of(maps, mask))


def _pointing(ranked: _Found) -> Tensor:
    return ranked.known(ranked.hits(torch.ones_like(ranked.size)))


def roc_auc(maps: Tensor | Order, mask: Tensor) -> Tensor:
    """Chance that a pixel of the mask is higher than one beside it, in [0, 1]; + higher is better; 0.5 by chance.

    The Mann-Whitney form, a tie counting half (Hanley and McNeil 1982). NaN also where the mask is the whole image.
    """
    return _auc(_Found.of(maps, mask))


def _auc(ranked: _Found) -> Tensor:
    first, last = ranked.order.bounds
    # Twice the mean place of each pixel, from 1; whole numbers, so the sum is exact.
    places = ((first + last + 1) * ranked.inside).sum(1).double() / 2
    inside, pixels = ranked.size.double(), ranked.order.pixels
    best = inside * (inside + 1) / 2
    return ranked.known(1 - ratio(places - best, inside * (pixels - inside)))


def iou_curve(maps: Tensor | Order, mask: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> Tensor:
    """IoU of what is above a share of the map's maximum with the mask, in [0, 1]; + higher is better.

    IoU([a > t max a], S) for each t: with the mask of the features that tell the class, the coverage of an8Flower
    (Oramas et al. 2019). Which t is best is not for the images to say that are measured: see `best_threshold`.

    Returns:
        (B, T); NaN also where nothing is positive.
    """
    return _iou_curve(_Found.of(maps, mask), thresholds)


def _iou_curve(ranked: _Found, thresholds: Sequence[float]) -> Tensor:
    values = ranked.order.values
    highest = values[:, :1]
    size = torch.searchsorted(-values, -_levels(highest, thresholds))
    hits = ranked.count.gather(1, size)
    iou = ratio(hits, size + ranked.size.unsqueeze(1) - hits)
    return ranked.known(iou.double().where(highest > 0, torch.nan))


def best_threshold(curves: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> tuple[float, float]:
    """Return the threshold of the highest mean over images, and that mean; the lowest of several.

    Args:
        curves: (B, T) from `iou_curve` or `box_hits`, of images that are not measured afterwards.
        thresholds: the T thresholds.

    Raises:
        ConfigError: there is no image with a curve.
    """
    mean = double(curves).nanmean(0)
    if not len(curves) or bool(mean.isnan().all()):
        raise ConfigError("a threshold cannot be chosen: no image has a curve")
    best = int(mean.nan_to_num(-1.0).argmax())
    return float(thresholds[best]), float(mean[best])


def box_hits(maps: Tensor, mask: Tensor, thresholds: Sequence[float] = BOX_THRESHOLDS) -> Tensor:
    """Share of the truth's boxes that are hit at each threshold, in [0, 1]; + higher is better.

    The truth has a box around each of its K connected pieces, and the map, cut at a share of its maximum, around each
    of its K largest ones. A box is hit if one of the map's has an IoU of at least 0.5 with it; each counts once
    (`matched_boxes`). As both sides have K boxes, this share is precision and recall at once. With one object it is
    BoxAcc, which takes the largest piece (Choi et al. 2020). One box around several pieces would be that of whatever
    lies between them; MaxBoxAccV2, for which one of several boxes is enough, is for several objects of one kind.

    Returns:
        (B, T) float64; NaN also where nothing is positive.
    """
    check_maps(maps)
    check_same("masks", mask, "maps", maps)
    wanted = component_boxes(mask)
    pieces = (~wanted[..., 0].isnan()).sum(1)
    most, cuts = wanted.shape[1], len(thresholds)
    boxes = component_boxes(above(maps, thresholds).flatten(0, 1), most).view(len(maps), cuts, most, 4)
    spare = torch.arange(most, device=pieces.device) >= pieces.unsqueeze(1)
    boxes = boxes.masked_fill(spare.unsqueeze(1).unsqueeze(3).to(boxes.device), torch.nan)
    both = boxes.flatten(0, 1), wanted.repeat_interleave(cuts, 0)
    hits = matched_boxes(*both).view(len(maps), cuts)
    known = (maps.detach().amax((1, 2)) > 0).view(-1, 1).to(hits.device)
    return ratio(hits, pieces.double().unsqueeze(1)).where(known, torch.nan)


def above(maps: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return (B, T, H, W) bool: where (B, H, W) maps are above shares of their maximum; nowhere if that is negative."""
    value = maps.detach()
    highest = value.amax((1, 2))
    cut = _levels(highest.unsqueeze(1), thresholds)
    return (value.unsqueeze(1) > cut.unsqueeze(2).unsqueeze(3)) & (highest > 0).view(-1, 1, 1, 1)


def _levels(highest: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return (B, T): the values above which a map is cut; highest (B, 1)."""
    high = double(highest)
    share = torch.as_tensor(thresholds, dtype=torch.float64, device=high.device) * (1 + _ROUNDING)
    return (high * share).to(highest)


def localize(
    maps: Tensor,
    mask: Tensor,
    box_thresholds: Sequence[float] = BOX_THRESHOLDS,
) -> dict[str, Tensor]:
    """Return everything above for one mask, from one sorting of the maps.

    Args:
        maps: (B, H, W).
        mask: (B, H, W) bool.
        box_thresholds: box thresholds of `box_hits`; none leaves it out.

    Returns:
        "mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc" and "iou_at_size" (B,), "iou_curve" and
        "box_hits" (B, T).
    """
    check_maps(maps)
    ranked = _Found.of(maps, mask)
    rank = _rank(ranked)
    scores = {
        "mass_accuracy": mass_accuracy(maps, mask),
        "rank_accuracy": rank,
        "pointing_game": _pointing(ranked),
        "roc_auc": _auc(ranked),
        "iou_at_size": rank / (2 - rank),
        "iou_curve": _iou_curve(ranked, THRESHOLDS),
    }
    if box_thresholds:
        scores["box_hits"] = box_hits(maps, mask, box_thresholds)
    return scores
