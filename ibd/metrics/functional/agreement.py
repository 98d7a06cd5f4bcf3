"""How far explanations agree with each other, and metrics with each other.

Maps of two sizes are brought to the smaller one by means over areas (`at_common_size`). Functions on M maps of an image
give the (B, M, M) matrix of all pairs, and sort or filter every map once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_maps, double, ratio
from ibd.metrics.functional.ranks import average_ranks, spearman, top_k_mask

WINDOW, SIGMA = 11, 1.5
"""The Gaussian window of SSIM (Wang et al. 2004): pixels a side, and its deviation."""
_C1, _C2 = 0.01**2, 0.03**2


def at_common_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, H, W) and (B, h, w) maps as two (B, min(H, h), min(W, w)), by means over areas."""
    check_maps(a)
    check_maps(b)
    size = (min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2]))
    both = [m if m.shape[1:] == size else F.adaptive_avg_pool2d(double(m).unsqueeze(1), size)[:, 0] for m in (a, b)]
    return both[0], both[1]


def map_spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation (1904) over pixels, in [-1, 1], 0 by chance; + higher means more alike.

    Args:
        a: (B, H, W).
        b: (B, h, w).

    Returns:
        (B,) float64; NaN where a map is constant or holds a NaN.
    """
    a, b = at_common_size(a, b)
    return spearman(a.flatten(1), b.flatten(1))


def spearman_matrix(maps: Tensor) -> Tensor:
    """Return (B, M, M) float64, `map_spearman` of all pairs of M maps (B, M, H, W) of each image."""
    _check_several(maps)
    ranks = average_ranks(maps.flatten(2))
    centered = ranks - (ranks.shape[2] + 1) / 2
    products = _of_pairs(maps.shape[1], lambda i, j: (centered[:, i] * centered[:, j]).sum(1))
    squares = products.diagonal(dim1=1, dim2=2)
    return ratio(products, (squares.unsqueeze(1) * squares.unsqueeze(2)).sqrt()).clamp(-1, 1)


def top_k_iou(a: Tensor, b: Tensor, k: float | Tensor = 0.05) -> Tensor:
    """IoU of the k highest pixels of two maps, in [0, 1]; + higher means more alike; about s / (2 - s), s = k / N.

    |A and B| / (2 k - |A and B|) with the expected overlap over a random order of ties in each map.

    Args:
        a: (B, H, W).
        b: (B, h, w).
        k: share of the pixels, in (0, 1], rounded up; or (B,) whole numbers, such as the size of a mask.

    Returns:
        (B,) float64; NaN where a map holds a NaN, and for a k of 0.
    """
    a, b = at_common_size(a, b)
    return top_k_iou_matrix(torch.stack([double(a), double(b)], 1), k)[:, 0, 1]


def top_k_iou_matrix(maps: Tensor, k: float | Tensor = 0.05) -> Tensor:
    """Return (B, M, M) float64, `top_k_iou` of all pairs of M maps (B, M, H, W) of each image.

    The diagonal is 1: a map has its order of ties in common with itself.
    """
    _check_several(maps)
    images, several = maps.shape[:2]
    if isinstance(k, float) and not 0 < k <= 1:
        raise ConfigError(f"top k: {k} given, a share of the pixels in (0, 1] is needed")
    share = -int(-k * maps[0, 0].numel() // 1) if isinstance(k, float) else k
    number = torch.as_tensor(share, device=maps.device).expand(images)
    masks = top_k_mask(maps.flatten(0, 1), number.repeat_interleave(several)).view(images, several, -1)
    whole = 2 * number.to(masks.device)

    def iou(i: int, j: int) -> Tensor:
        shared = ((masks[:, i] * masks[:, j]) if i != j else masks[:, i]).sum(1)
        return ratio(shared, whole - shared)

    return _of_pairs(several, iou)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of two maps, each scaled to [0, 1] by its minimum and maximum, in [-1, 1]; + more alike.

    Wang et al. 2004 in two dimensions: the mean over all whole positions of a Gaussian window of 11 x 11 pixels,
    sigma 1.5, of (2 m_a m_b + C1)(2 s_ab + C2) / ((m_a^2 + m_b^2 + C1)(s_a^2 + s_b^2 + C2)), C1 = 0.01^2, C2 = 0.03^2.
    A smaller map gets the largest odd window that fits.

    Args:
        a: (B, H, W).
        b: (B, h, w).

    Returns:
        (B,) float64; NaN where a map is constant or holds a value that is not finite.
    """
    a, b = at_common_size(a, b)
    return ssim_matrix(torch.stack([double(a), double(b)], 1))[:, 0, 1]


def ssim_matrix(maps: Tensor) -> Tensor:
    """Return (B, M, M) float64, `ssim` of all pairs of M maps (B, M, H, W) of each image."""
    _check_several(maps)
    values = double(maps)
    lowest, highest = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    values = (values - lowest) / (highest - lowest).where(highest > lowest, torch.nan)
    mean = _windowed(values)
    square = _windowed(values.square()) - mean.square()

    def similarity(i: int, j: int) -> Tensor:
        x, y = mean[:, i], mean[:, j]
        both = _windowed((values[:, i] * values[:, j]).unsqueeze(1))[:, 0] - x * y
        above = (2 * x * y + _C1) * (2 * both + _C2)
        below = (x.square() + y.square() + _C1) * (square[:, i] + square[:, j] + _C2)
        return (above / below).flatten(1).mean(1)

    return _of_pairs(maps.shape[1], similarity)


def _check_several(maps: Tensor) -> None:
    if maps.dim() != 4:
        raise ConfigError(f"maps of shape {tuple(maps.shape)} given, (images, explainers, height, width) is needed")


def _of_pairs(count: int, measure: Callable[[int, int], Tensor]) -> Tensor:
    """Return (B, M, M) of a symmetric measure that gives (B,) for each pair."""
    rows: dict[tuple[int, int], Tensor] = {(i, j): measure(i, j) for i in range(count) for j in range(i, count)}
    return torch.stack([torch.stack([rows[min(i, j), max(i, j)] for j in range(count)], 1) for i in range(count)], 1)


def _windowed(values: Tensor) -> Tensor:
    """Return the Gaussian mean of (B, M, H, W) values at all positions where the window lies inside."""
    sides = [min(WINDOW, side - (side + 1) % 2) for side in values.shape[2:]]
    flat = values.flatten(0, 1).unsqueeze(1)
    for axis, side in enumerate(sides):
        x = torch.arange(side, dtype=values.dtype, device=values.device) - side // 2
        window = torch.exp(-(x / SIGMA).square() / 2)
        shape = (1, 1, side, 1) if axis == 0 else (1, 1, 1, side)
        flat = F.conv2d(flat, (window / window.sum()).view(shape))
    return flat.view(*values.shape[:2], *flat.shape[2:])
