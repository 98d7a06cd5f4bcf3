"""How important a map says each part is, and how well such a vector agrees with the truth.

There are three ways to it. By the mean over the part less that of a ring around it, noise is at 0 for a part of any
size, and a map may have any offset. By the mean alone an offset that differs from place to place counts. By the sum, as
published protocols do, large parts win, and a positive map of noise beats Grad-CAM: it is there to see whether a
conclusion hangs on the way. NaN is a part that is not there, or of which nothing is said; it counts for nothing. The
truth is a vector of Shapley values (`ibd.metrics.functional.subsets.shapley`). What is said of parts holds for any
regions: distractors, cells of a grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.metrics.functional.checks import check_maps, check_same, double, ratio

RING = 1 / 16
"""Width of the ring of background around a part, over the image's shorter side: 4 pixels of 64."""
LEAST_CELLS = 3


def part_importance(maps: Tensor, masks: Tensor, ring: float = RING, background: Tensor | None = None) -> Tensor:
    """Return the mean of a map over each part minus its mean over a ring of background around the part.

    The ring is what comes into a square window of `ring` around a pixel of the part (rounded up to whole pixels) and
    belongs to the background, outside of all masks. Signed as the map is; on noise the expected value is 0 for a part
    of any size.

    Args:
        maps: (B, H, W).
        masks: (B, P, H, W) bool, the pixels of each part; two parts may share one, which counts for both.
        ring: width of the ring over the image's shorter side.
        background: (B, H, W) bool: the pixels that the ring may take; those of no part if None.

    Returns:
        (B, P) float64; NaN for a part without a visible pixel, and for one without background around it.
    """
    check_maps(maps)
    check_same("masks", masks[:, :0].sum(1), "maps", maps)
    value, parts = double(maps), masks.bool()
    free = ~parts.any(1) if background is None else background.bool().to(parts.device)
    width = math.ceil(ring * min(maps.shape[1:]))
    around = (_dilated(parts, width) & ~parts & free.unsqueeze(1)).to(value.device)
    parts = parts.to(value.device)
    importance = [_mean(value, parts[:, p]) - _mean(value, around[:, p]) for p in range(parts.shape[1])]
    return torch.stack(importance, 1) if importance else value.new_zeros(len(value), 0)


def part_means(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the mean of a map over each part, (B, P) float64; NaN for a part without a pixel.

    Args:
        maps: (B, H, W).
        masks: (B, P, H, W) bool, which may overlap.
    """
    check_maps(maps)
    check_same("masks", masks[:, :0].sum(1), "maps", maps)
    value, parts = double(maps), masks.bool().to(maps.device)
    means = [_mean(value, part.to(value.device)) for part in parts.unbind(1)]
    return torch.stack(means, 1) if means else value.new_zeros(len(value), 0)


def part_sums(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the sum of a map over each part, (B, P) float64; NaN for a part without a pixel: large parts win.

    Args:
        maps: (B, H, W).
        masks: (B, P, H, W) bool, which may overlap.
    """
    means = part_means(maps, masks)
    return means * masks.bool().flatten(2).sum(2).to(means.device)


def _mean(value: Tensor, mask: Tensor) -> Tensor:
    """Return (B,): the mean of (B, H, W) values over a mask, NaN where that is empty."""
    return ratio((value * mask).flatten(1).sum(1), mask.flatten(1).sum(1))


def _dilated(masks: Tensor, width: int) -> Tensor:
    """Return (B, P, H, W) masks grown by `width` pixels in all eight directions."""
    if not masks.shape[1]:
        return masks
    grown = F.max_pool2d(masks.float(), (2 * width + 1, 1), 1, (width, 0))
    return F.max_pool2d(grown, (1, 2 * width + 1), 1, (0, width)).bool()


def part_spearman(importance: Tensor, truth: Tensor) -> Tensor:
    """Spearman's correlation over parts, in [-1, 1]; + higher is better; 0 by chance.

    After FunnyBirds' single deletion (Hesse et al. 2023), with means for sums and Shapley values for single removals.
    An importance that is the same for all parts scores 0, what a random order of them gives in the mean: to leave such
    images out would reward explanations that say nothing.

    Args:
        importance: (B, P), NaN where nothing is said.
        truth: (B, P), NaN where the part is not visible.

    Returns:
        (B,) float64; NaN with fewer than two parts in common, and where the truth is the same for all.
    """
    said, true, count = _common(importance, truth)
    left, right = _centered_ranks(said, count), _centered_ranks(true, count)
    sizes = left.square().sum(1), right.square().sum(1)
    rho = ratio((left * right).sum(1), (sizes[0] * sizes[1]).sqrt()).clamp(-1, 1)
    rho = rho.where(sizes[0] > 0, 0.0)
    return rho.where((count > 1) & (sizes[1] > 0), torch.nan)


def cell_spearman(importance: Tensor, truth: Tensor) -> Tensor:
    """Spearman's correlation over the cells of a grid, in [-1, 1]; + higher is better; 0 by chance.

    As `part_spearman`, but a correlation over two cells would be 1 or -1 by a coin.

    Args:
        importance: (B, K), the mean of a map over each cell.
        truth: (B, K), NaN for a cell that shows nothing but background.

    Returns:
        (B,) float64; NaN with fewer than three cells in common, and where the truth is the same for all.
    """
    count = _common(importance, truth)[2]
    return part_spearman(importance, truth).where(count >= LEAST_CELLS, torch.nan)


def sign_agreement(importance: Tensor, truth: Tensor) -> Tensor:
    """Share of parts whose importance has the sign of the truth, in [0, 1]; + higher is better; 0.5 by chance.

    An importance of exactly 0 has no sign and counts half.

    Args:
        importance: (B, P).
        truth: (B, P); parts whose truth is 0 have no sign and are left out.

    Returns:
        (B,) float64; NaN where no part has a sign.
    """
    said, true, _ = _common(importance, truth)
    matters = true.abs() > 0
    right = (said * true.sign() > 0).double() + (said == 0).double() / 2
    return ratio((right * matters).sum(1), matters.sum(1))


def normalized_mse(importance: Tensor, truth: Tensor) -> Tensor:
    """Squared error after the best scale, over that of saying nothing, in [0, 1]; - lower is better.

    min_{s >= 0} ||s I - phi||^2 / ||phi||^2 = 1 - max(0, cos(I, phi))^2: an explanation is free in its unit, but not in
    its sign. 1 for an importance of 0.

    Args:
        importance: (B, P).
        truth: (B, P).

    Returns:
        (B,) float64; NaN without a common part, and where the truth is 0.
    """
    said, true, _ = _common(importance, truth)
    size = said.abs().nan_to_num(0.0).amax(1, keepdim=True) if said.shape[1] else said.sum(1, keepdim=True)
    said = (said / size.where(size > 0, 1.0)).nan_to_num(0.0)
    true = true.nan_to_num(0.0)
    product, squares = (said * true).sum(1).clamp(min=0), said.square().sum(1)
    total = true.square().sum(1)
    explained = ratio(product.square(), squares * total).where(squares > 0, 0.0)
    return (1 - explained).clamp(0, 1).where(total > 0, torch.nan)


def top_part_hit(importance: Tensor, truth: Tensor) -> Tensor:
    """Whether the most important part is truly the most important one, in [0, 1]; + higher is better; 1 / P by chance.

    Of several parts of the highest importance the share that is right; any of several of the highest truth is.

    Args:
        importance: (B, P).
        truth: (B, P).

    Returns:
        (B,) float64; NaN with fewer than two parts in common, and where the truth is the same for all.
    """
    said, true, count = _common(importance, truth)
    if not said.shape[1]:
        return said.new_full((len(said),), torch.nan)
    known = ~said.isnan()
    named, best = _highest(said), _highest(true)
    hit = ratio((named & best).sum(1).double(), named.sum(1))
    varied = (best.sum(1) < known.sum(1)) & (count > 1)
    return hit.where(varied, torch.nan)


def _highest(values: Tensor) -> Tensor:
    top = values.where(~values.isnan(), -torch.inf).amax(1, keepdim=True)
    return values == top


def _common(importance: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return both (B, P) with NaN where one of them is, and the (B,) number of parts that are left."""
    check_same("importance", importance, "truth", truth)
    said, true = double(importance), double(truth)
    unknown = said.isnan() | true.isnan()
    return said.masked_fill(unknown, torch.nan), true.masked_fill(unknown, torch.nan), (~unknown).sum(1)


def _centered_ranks(values: Tensor, count: Tensor) -> Tensor:
    """Return (B, P) average ranks among the `count` parts that are no NaN, minus their mean; 0 for the others."""
    one, other = values.unsqueeze(2), values.unsqueeze(1)  # a comparison with NaN is false
    ranks = (one > other).sum(2) + ((one == other).sum(2) + 1).double() / 2
    return (ranks - (count.unsqueeze(1) + 1).double() / 2).where(~values.isnan(), 0.0)
