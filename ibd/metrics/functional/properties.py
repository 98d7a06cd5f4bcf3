"""Properties of a map alone: does it add up, is it positive, is it short to tell. The map given is never changed.

Maps are (B, H, W), or of any shape (B, ...); every function gives (B,) float64, NaN for a map that holds a NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.metrics.functional.checks import double, ratio


def conservation(maps: Tensor, value: Tensor) -> Tensor:
    """How far a map is from adding up to what it explains, relative to that; - lower is better, 0 exact.

    abs(sum a - v) / abs(v), v = f(x) - f(x_0) (completeness of Sundararajan et al. 2017, conservation of LRP). It is
    relative, and not a comparison with ``==`` after a normalization, which no map passes.

    Args:
        maps: (B, ...), of the signed values as they come.
        value: (B,) what they should add up to.

    Returns:
        In [0, inf); NaN where the value is 0.
    """
    explained = double(value)
    return ratio((double(maps).flatten(1).sum(1) - explained).abs(), explained.abs())


def negative_share(maps: Tensor) -> Tensor:
    """Share of the mass that is negative, sum a- / sum abs(a), in [0, 1]; - lower is better (positivity).

    A confident prediction has reasons for it, and few against it (Montavon et al. 2018). 0.5 for symmetric noise. NaN
    for a map that is 0 everywhere.
    """
    value = double(maps).flatten(1)
    return ratio(value.clamp(max=0).abs().sum(1), value.abs().sum(1))


def sparseness(maps: Tensor) -> Tensor:
    """Gini index of the absolute values, in [0, 1); + higher is better (Chalasani et al. 2020).

    sum_i (2 i - N - 1) |a|_(i) / (N sum |a|), i from 1 in ascending order. 0 where all pixels are alike. NaN for a map
    that is 0 everywhere.
    """
    size = double(maps).flatten(1).abs().sort(1).values
    count = size.shape[1]
    weight = 2 * torch.arange(1, count + 1, dtype=torch.float64, device=size.device) - count - 1
    return ratio((size * weight).sum(1), count * size.sum(1))


def complexity(maps: Tensor) -> Tensor:
    """Entropy of the shares of the absolute values, in [0, ln N] nats; - lower is better (Bhatt et al. 2020).

    - sum p ln p with p = |a| / sum |a|. Maps of different sizes do not compare. NaN for a map that is 0 everywhere.
    """
    size = double(maps).flatten(1).abs()
    share = ratio(size, size.sum(1, keepdim=True))
    entropy: Tensor = torch.special.entr(share).sum(1)
    return entropy
