"""How strongly an axis responds to an image: pooling of its map, and the gradient of that."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Literal["mean", "max", "positive_mean", "pool_max"]


def axis_activation(maps: Tensor, activation: Activation) -> Tensor:
    """Return the activation of each axis, (B, U), of its (B, U, h, w) maps (Chen et al. 2020, section 4.2).

    Args:
        maps: maps, whitened and rotated.
        activation: "mean" over the map; its "max"; "positive_mean", the mean over the positions where it is positive
            (0 where none is); "pool_max", the mean over 3 x 3 windows side by side of the largest value in each, what
            is left over at the lower and right edge not counted, and maps smaller than a window one window.
    """
    if activation == "mean":
        return maps.mean((2, 3))
    if activation == "max":
        return maps.amax((2, 3))
    if activation == "positive_mean":
        return maps.relu().sum((2, 3)) / ((maps > 0).sum((2, 3), dtype=maps.dtype) + 1e-4)
    window = min(3, maps.shape[2]), min(3, maps.shape[3])
    return F.max_pool2d(maps, window, window).mean((2, 3))


def activation_weights(maps: Tensor, activation: Activation) -> Tensor:
    """Return the derivative of each axis's activation by each value of its map, (B, U, h, w); in any mode."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = maps.detach().clone().requires_grad_()  # a copy, as maps of the inference mode take no gradient
        return torch.autograd.grad(axis_activation(leaf, activation).sum(), leaf)[0]


@torch.no_grad()
def alignment_gradient(maps: Tensor, concepts: Tensor, activation: Activation) -> Tensor:
    """Return the sum over the images of a concept of the gradient of its axis's activation, in axis coordinates.

    With z = R x the maps, row j is ``sum_i c_ij d activation(z_ij) / d R_j`` times ``R^T``: the activation of axis j
    depends on row j of R alone, and ``d z_j / d R_j = x = R^T z``. The weights are those of axis j's own map; the
    published code takes, in three of its four modes, those of whitened channel c for component c, which is the
    gradient of nothing (its cosine with the true one is -0.06 to 0.17).

    Args:
        maps: (B, D, h, w), the first K of which are the concepts' axes.
        concepts: (B, K), present where above 0.5; NaN, unknown, counts as absent.
        activation: activation of an axis.

    Returns:
        (K, D) in float32 or better, also under autocast.
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    count = concepts.shape[1]
    present = (concepts > 0.5).to(maps.dtype)
    weights = activation_weights(maps[:, :count], activation) * present[:, :, None, None]
    with torch.autocast(maps.device.type, enabled=False):
        return torch.einsum("bkhw,bdhw->kd", weights, maps)
