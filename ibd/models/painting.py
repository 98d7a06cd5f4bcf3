"""Where a unit's score came from: how its share is laid out over the positions of its map, by the way it is pooled.

Shares of a unit add up to 1 over the positions, so that a contribution times its shares adds up to the contribution.
Maps are (B, U, h, w), scores (B, U) their pooled values.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.types import Painting

Pooling = Literal["mean", "max", "top_k", "positive_mean", "pool_max"]
"""How a map becomes a score: its mean; its maximum; the mean of its k highest; the mean of what is positive; the mean
of the maxima of windows of 3 x 3 side by side."""
TOP_SHARE = 0.05
"""Share of the positions that the painting "top" takes: 4 of 8 x 8."""
WINDOW = 3


def spatial_mean(maps: Tensor) -> Tensor:
    """Return the mean of (B, U, h, w) maps over positions, in float32 or better: exactly what the pooling "mean" is."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32)).mean((2, 3))


def paint(
    maps: Tensor, scores: Tensor, pooling: Pooling, painting: Painting = "pooling", signed: bool = False
) -> Tensor:
    """Return the shares of the positions, (B, U, h, w) in float32 or better, that add up to 1 for each unit.

    "pooling", by what the score was pooled with:

    - a mean: the part of the map that has the sign of the score. With `signed` the map over its sum instead, exact at
      every position, which may be negative.
    - a maximum, or the mean of the k highest: the positive part of the map, and where the score is not positive the map
      minus its minimum. The exact account is the highest position alone ("peak"); its neighbors, which see most of the
      same pixels, are painted too, and none more than it.
    - a mean of what is positive: the positive part.
    - a mean of maxima of windows: those maxima, as far as they have the sign of the score.

    "score_sign" is the part with the sign of the score whatever the pooling; "peak" the highest position alone, the
    first of several; "top" the highest 5 % of the positions, equally; "minimum" the map minus its minimum. Where a mean
    is negative, "highest" is lowest, and the minimum the maximum. "receptive_field" has the shares of "pooling": what
    differs is how they are brought to the pixels.

    Where there is no such part, all positions have the same share.
    """
    value = maps.to(torch.promote_types(maps.dtype, torch.float32))
    sign = torch.where(scores < 0, -1.0, 1.0).to(value.dtype)[..., None, None]
    chosen = pooling in ("max", "top_k")  # the score is the value of its highest positions, also where it is negative
    towards = value if chosen else value * sign
    if painting == "peak":
        return _highest(towards, 1)
    if painting == "top":
        return _highest(towards, math.ceil(TOP_SHARE * towards.shape[2] * towards.shape[3]))
    lifted = towards - towards.amin((2, 3), keepdim=True)
    if painting == "minimum":
        return _divided(lifted)
    if chosen:
        return _divided(torch.where(scores[..., None, None] > 0, towards.relu(), lifted))
    if painting == "score_sign":
        return _divided(towards.relu())
    if pooling == "pool_max":
        return _divided(_window_maxima(value, sign))
    if signed:
        return _divided(value)
    return _divided(towards.relu())


def _divided(part: Tensor) -> Tensor:
    """Return a map over its sum; the same everywhere where that is 0."""
    total = part.sum((2, 3), keepdim=True)
    return torch.where(total != 0, part / total, 1 / (part.shape[2] * part.shape[3]))


def _highest(values: Tensor, count: int) -> Tensor:
    """Return 1 / count at the highest positions, the first of equal ones, and 0 elsewhere."""
    flat = values.flatten(2)
    order = flat.argsort(dim=2, descending=True, stable=True)[..., :count]
    return torch.zeros_like(flat).scatter_(2, order, 1 / count).view_as(values)


def _window_maxima(value: Tensor, sign: Tensor) -> Tensor:
    """Return the maxima of the windows at their places, as far as they have the sign of the score, as sizes."""
    window = min(WINDOW, value.shape[2]), min(WINDOW, value.shape[3])
    maxima, places = F.max_pool2d(value, window, window, return_indices=True)
    kept = (maxima * sign).relu().flatten(2)
    return torch.zeros_like(value.flatten(2)).scatter_add_(2, places.flatten(2), kept).view_as(value)
