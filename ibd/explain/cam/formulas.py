"""The maps of the CAM family, of activations A and the gradients G of the scores by them.

A is (B, C, h, w), G (B, K, C, h, w) for K scores; every map is (B, K, h, w), signed, before any ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.explain.layers import einsum


def weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Return ``sum_c w_c A_c`` of (B, K, C) weights."""
    return einsum("bkc,bchw->bkhw", weights, activations)


def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ``sum_c mean_ij(G_c) A_c`` (Selvaraju et al. 2017)."""
    return weighted(gradients.mean((3, 4)), activations)


def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ``sum_c G_c A_c``, cell by cell (Draelos & Carin 2020)."""
    return einsum("bkchw,bchw->bkhw", gradients, activations)


def hirescam_size(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ``sum_c |G_c A_c|``, of which `hirescam` is what does not cancel."""
    return hirescam(activations.abs(), gradients.abs())


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ``sum_c sum_ij(alpha relu(G_c)) A_c``, ``alpha = G^2 / (2 G^2 + sum_ij(A_c) G^3)``.

    The paper's (Chattopadhay et al. 2018) score is the exponential of the logit; what that adds is one positive factor
    for each image and score, which is left out. Where the denominator is 0 so is alpha, without a constant in it: the
    map scales with G.
    """
    total = activations.sum((2, 3)).unsqueeze(1)[..., None, None]
    # Where G is 0 so is alpha * relu(G); elsewhere G^2 cancels.
    below = 2 + total * gradients
    alpha = torch.where(below != 0, 1 / below, 0.0)
    return weighted((alpha * gradients.relu()).sum((3, 4)), activations)


def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ``sum_c (sum_ij(G_c A_c) / sum_ij(A_c)) A_c`` (Fu et al. 2020).

    Made for activations that are not negative: a sum near 0 of both signs makes the weight large. 0 where it is 0.
    """
    total = activations.sum((2, 3)).unsqueeze(1)
    product = einsum("bkchw,bchw->bkc", gradients, activations)
    return weighted(torch.where(total != 0, product / total, 0.0), activations)


def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Return ``sum_c relu(G_c) A_c``, cell by cell (Jiang et al. 2021)."""
    return hirescam(activations, gradients.relu())


def eigencam(activations: Tensor) -> Tensor:
    """Return the projection of every cell on the first principal direction of the cells, (B, h, w).

    Computed from the smaller of the two Gram matrices. The direction's sign, which has no meaning
    (Muhammad & Yeasin 2020 leave it to chance), is the one by which the map agrees with ``sum_c |A_c|``.
    """
    cells = activations.flatten(2).transpose(1, 2)  # (B, hw, C)
    centered = cells - cells.mean(1, keepdim=True)
    if centered.shape[1] <= centered.shape[2]:
        values, vectors = torch.linalg.eigh(einsum("bic,bjc->bij", centered, centered).double())
        projected = vectors[..., -1] * values[..., -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(einsum("bic,bid->bcd", centered, centered).double())
        projected = (centered.double() @ vectors[..., -1:]).squeeze(2)
    strength = cells.abs().sum(2)
    agreement = (projected * (strength - strength.mean(1, keepdim=True))).sum(1, keepdim=True)
    projected = torch.where(agreement < 0, -projected, projected)
    return projected.view(-1, *activations.shape[2:]).to(activations.dtype)


def scale_to_one(masks: Tensor) -> Tensor:
    """Return (..., H, W) maps scaled to [0, 1] each; 0 where a map is the same everywhere."""
    low, high = masks.amin((-2, -1), keepdim=True), masks.amax((-2, -1), keepdim=True)
    return torch.where(high > low, (masks - low) / (high - low), 0.0)
