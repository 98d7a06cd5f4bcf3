"""Ranks: correlations of ranks, and the one sorting of a map that every metric on it reads.

Ranks and sums of ranks are float64, in which they are exact. (torchmetrics sums ranks in int32, which overflows on maps
of 300 x 300 pixels that are mostly 0.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from ibd.metrics.functional.checks import check_maps, check_same, double, ratio

_PAIRS = 2**22  # compared at a time: 4 MiB for each comparison


def tie_bounds(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places where the run of equal values around each value begins and ends.

    Args:
        ordered: (..., N), sorted in either direction.

    Returns:
        Two (..., N) int64: the run is ``first <= place < last``.
    """
    count = ordered.shape[-1]
    place = torch.arange(count, device=ordered.device).expand(ordered.shape)
    if count < 2:
        return place, place + 1
    new = ordered[..., 1:] != ordered[..., :-1]
    if bool(new.all()):
        return place, place + 1
    first, last = torch.zeros_like(place), torch.full_like(place, count)
    first[..., 1:] = place[..., 1:].where(new, 0)
    last[..., :-1] = place[..., 1:].where(new, count)
    return first.cummax(-1).values, last.flip(-1).cummin(-1).values.flip(-1)


def average_ranks(values: Tensor) -> Tensor:
    """Return the rank of each value among its row, equal values sharing the mean of theirs.

    Args:
        values: (..., N).

    Returns:
        (..., N) float64 in 1..N, the smallest value 1; NaN for a row that holds a NaN.
    """
    values = values.detach()
    ordered, order = (values.cpu() if values.device.type == "mps" else values).sort(-1)
    first, last = tie_bounds(ordered)
    ranks = torch.empty(ordered.shape, dtype=torch.float64, device=ordered.device)
    ranks.scatter_(-1, order, (first + last + 1).double() / 2)
    return ranks.where(~values.isnan().any(-1, keepdim=True).to(ranks.device), torch.nan)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of average ranks, in [-1, 1], 0 by chance; + higher means more alike.

    rho = sum (r_a - m)(r_b - m) / sqrt(sum (r_a - m)^2 sum (r_b - m)^2), m = (N + 1) / 2 (Spearman 1904, ties as
    Kendall 1945).

    Args:
        a: (..., N).
        b: (..., N).

    Returns:
        (...) float64; NaN where a row is constant or holds a NaN.
    """
    check_same("values", a, "values", b)
    middle = (a.shape[-1] + 1) / 2
    left, right = average_ranks(a) - middle, average_ranks(b) - middle
    scale = (left.square().sum(-1) * right.square().sum(-1)).sqrt()
    return ratio((left * right).sum(-1), scale).clamp(-1, 1)


def kendall_tau(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b, in [-1, 1], 0 by chance; + higher means more alike.

    tau = (concordant - discordant) / sqrt((pairs untied in a)(pairs untied in b)) (Kendall 1945). All N^2 pairs are
    looked at: it is for rankings of methods, not of pixels.

    Args:
        a: (..., N).
        b: (..., N).

    Returns:
        (...) float64; NaN where a row is constant or holds a NaN.
    """
    check_same("values", a, "values", b)
    left, right = double(a).reshape(-1, a.shape[-1]), double(b).reshape(-1, b.shape[-1])
    sums = left.new_zeros(3, len(left))
    for rows in torch.split(torch.arange(a.shape[-1], device=left.device), max(1, _PAIRS // max(1, left.numel()))):
        x, y = _signs(left, rows), _signs(right, rows)
        sums += torch.stack([(x * y).sum((1, 2)), x.square().sum((1, 2)), y.square().sum((1, 2))])
    unknown = left.isnan().any(1) | right.isnan().any(1)
    tau = ratio(sums[0], (sums[1] * sums[2]).sqrt()).clamp(-1, 1)
    return tau.where(~unknown, torch.nan).view(a.shape[:-1])


def _signs(values: Tensor, rows: Tensor) -> Tensor:
    """Return (B, len(rows), N): the sign of the difference of each pair; values (B, N)."""
    some, all_ = values[:, rows].unsqueeze(2), values.unsqueeze(1)
    return (some > all_).double() - (some < all_).double()


@dataclass(frozen=True)
class Order:
    """One sorting of (B, H, W) maps, N = H * W, read by everything that asks for the highest pixels.

    Equal values stand in an order drawn by chance, the same pixels first in every map, so that a value depends neither
    on the batch nor on the device, and a constant map does not remove an image from the top to the bottom.

    Attributes:
        index: (B, N) int64, the pixel (in reading order) at each place, the highest first.
        values: (B, N), in that order.
        defined: (B,) bool, false for a map that holds a NaN.
        size: H and W.
    """

    index: Tensor
    values: Tensor
    defined: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, maps: Tensor, seed: int = 0) -> Order:
        """Sort (B, H, W) maps.

        Args:
            maps: maps of any range and sign.
            seed: seed of the order of ties; another one gives another order.

        Raises:
            ConfigError: they have another number of dimensions, or no pixel.
        """
        check_maps(maps)
        flat = maps.detach().flatten(1)
        flat = flat.cpu() if flat.device.type == "mps" else flat
        shuffle = _shuffle(flat.shape[1], seed).to(flat.device)
        index = shuffle[_descending(flat[:, shuffle])]
        return cls(index, flat.gather(1, index), ~flat.isnan().any(1), (maps.shape[1], maps.shape[2]))

    @property
    def pixels(self) -> int:
        """The number N of pixels."""
        return self.size[0] * self.size[1]

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Where the run of equal values around each place begins and ends, (B, N) int64 each."""
        return tie_bounds(self.values)

    def place(self) -> Tensor:
        """Return (B, H, W) int64 in 0..N-1: the place of each pixel. The k highest are ``place() < k``."""
        count = torch.arange(self.pixels, device=self.index.device).expand_as(self.index)
        return torch.empty_like(self.index).scatter_(1, self.index, count).view(-1, *self.size)

    def along(self, images: Tensor) -> Tensor:
        """Return (B, N): the values of (B, H, W) images in this order."""
        return images.detach().to(self.index.device).flatten(1).gather(1, self.index)


def _descending(values: Tensor) -> Tensor:
    """Return the (B, N) places of (B, N) values from the highest to the lowest, equal ones in the order they came.

    On the CPU, numbers of 32 bits are made whole numbers of the same order with their place in the lower half, which
    numpy sorts alone: three times as fast as a sorting that carries the places along.
    """
    if values.device.type != "cpu" or values.dtype == torch.float64:
        return values.sort(dim=1, descending=True, stable=True).indices
    bits = (values.float() + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = (~ascending).long().mul_(1 << 32).add_(torch.arange(values.shape[1]))
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)).bitwise_and_(0xFFFFFFFF)


@lru_cache(maxsize=16)
def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def top_k_mask(maps: Tensor | Order, k: int | Tensor) -> Tensor:
    """Return how surely each pixel is among the k highest, if ties are broken by chance.

    Args:
        maps: (B, H, W), or their order.
        k: the number of pixels, in 0..N; one for all, or (B,).

    Returns:
        (B, H, W) float64 in [0, 1] that sums to k; 0 or 1 where nothing is tied. NaN for a map that holds a NaN.
    """
    order = maps if isinstance(maps, Order) else Order.of(maps)
    first, last = order.bounds
    wanted = torch.as_tensor(k, device=first.device).reshape(-1, 1)
    share = ((wanted - first).double() / (last - first)).clamp(0, 1)
    mask = torch.empty_like(share).scatter_(1, order.index, share)
    return mask.where(order.defined.unsqueeze(1), torch.nan).view(-1, *order.size)
