"""Distance of every prototype to the nearest patches of a feature map, in one operation.

The published formulation builds the (B, P, L) map of distances and lets autograd keep it. Here only patches, prototypes
and the positions of the minima are kept; |p|^2 does not change which position is nearest and is left out of the search;
and the distance at the minimum is computed anew as |z - p|^2, so that a prototype that is a patch is at distance 0
exactly, which |z|^2 - 2 z p + |p|^2 does not give in any precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from ibd.backbones.precision import full_precision

_CHUNK_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}
"""How much of the map of distances, and of the differences at its minima, is held at once: on a CPU, what its cache
holds."""
_MANY_POSITIONS = 128
"""From this many positions on, gathering patches is cheaper than multiplying with a map that is nearly all zeros."""
_FEW_IMAGES = 32
_ROUNDINGS = 8
"""How many units of precision a network's rounding moves a feature by, relative to the norm of its patch."""


class Nearest(NamedTuple):
    """What `nearest_patches` returns."""

    distance: Tensor
    """(B, P, k) squared distances, ascending."""
    position: Tensor
    """(B, P, k) int64 positions among the L patches."""


def nearest_patches(patches: Tensor, prototypes: Tensor, k: int = 1, first: bool = False) -> Nearest:
    """Return the k smallest squared distances of each prototype to the patches of each image, and where they are.

    In float32 or better, also under autocast. Differentiable with respect to patches and prototypes; the gradient goes
    to the nearest patches alone, and with ties to one of them.

    Ties are common: cells of a plain background are alike, and so are all in which an add-on's ReLU is shut. Which of
    them seems nearest by the last bit depends on the batch and on the processor; `first` makes it the first one.

    To modes of torch functions it is one operation; its attribute ``relevance`` names the rule by which
    `ibd.explain.lrp` propagates through it.

    Args:
        patches: (B, L, D).
        prototypes: (P, D) prototypes.
        k: number of patches; at most L.
        first: whether to take the first of patches whose distances differ by rounding alone; which k they are then
            hangs on nothing else, but their order among each other does.
    """
    if has_torch_function((patches, prototypes)):
        seen: Nearest = handle_torch_function(nearest_patches, (patches, prototypes), patches, prototypes, k, first)
        return seen
    with full_precision(patches):
        dtype = torch.promote_types(torch.promote_types(patches.dtype, prototypes.dtype), torch.float32)
        return Nearest(*_Nearest.apply(patches.to(dtype), prototypes.to(dtype), k, first))


nearest_patches.relevance = "nearest_patch"  # type: ignore[attr-defined]


def all_distances(patches: Tensor, prototypes: Tensor, nearest: Nearest | None = None) -> Tensor:
    """Return the squared distances of every prototype to every patch, (B, P, L), in float32 or better.

    Args:
        patches: (B, L, D).
        prototypes: (P, D) prototypes.
        nearest: whether to put these exact distances where they belong.
    """
    with full_precision(patches):
        dtype = torch.promote_types(torch.promote_types(patches.dtype, prototypes.dtype), torch.float32)
        z, p = _centered(patches.to(dtype), prototypes.to(dtype))
        squares = z.square().sum(2).unsqueeze(1) + p.square().sum(1).view(1, -1, 1)
        distance = torch.baddbmm(squares, p.expand(z.shape[0], -1, -1), z.transpose(1, 2), alpha=-2).clamp(min=0)
    if nearest is None:
        return distance
    # By rounding alone another place may seem nearer than the nearest one, whose distance is exact.
    return torch.maximum(distance, nearest.distance[..., -1:]).scatter(2, nearest.position, nearest.distance)


class _Nearest(torch.autograd.Function):
    """The nearest patches with their gradient, see `nearest_patches`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, p: Tensor, k: int, first: bool) -> tuple[Tensor, Tensor]:
        z = z.contiguous()
        position = _search(z, p, k)
        distance = _exact(z, p, position)
        if first:
            position, distance = _first_of_equals(z, p, position, distance)
        if k > 1:
            distance, order = distance.sort(dim=1, stable=True)
            position = position.gather(1, order)
        ctx.save_for_backward(z, p, position)
        position = position.transpose(1, 2)
        ctx.mark_non_differentiable(position)
        return distance.transpose(1, 2), position

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        z, p, position = ctx.saved_tensors
        weight = 2 * grad.transpose(1, 2)  # (B, k, P): of d = |z - p|^2 with respect to (z - p) / 2
        needs_z, needs_p = ctx.needs_input_grad[:2]
        if z.shape[1] >= _MANY_POSITIONS and len(z) <= _FEW_IMAGES and position.shape[1] == 1:
            return *_gathered(z, p, position[:, 0], weight[:, 0], needs_z, needs_p), None, None
        spread = z.new_zeros(len(z), z.shape[1], len(p)).scatter_(1, position, weight).flatten(0, 1)
        patches, grad_z, grad_p = z.flatten(0, 1), None, None
        if needs_z:
            total = z.new_zeros(z.shape[:2]).scatter_add_(1, position.flatten(1), weight.flatten(1)).view(-1, 1)
            grad_z = torch.addmm(total * patches, spread, p, alpha=-1).view_as(z)
        if needs_p:
            grad_p = torch.addmm(weight.sum((0, 1)).unsqueeze(1) * p, spread.t(), patches, alpha=-1)
        return grad_z, grad_p, None, None


def _gathered(
    z: Tensor, p: Tensor, position: Tensor, weight: Tensor, needs_z: bool, needs_p: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return both gradients from the (B, P) nearest patches alone, image by image."""
    grad_z = torch.zeros_like(z) if needs_z else None
    grad_p = torch.zeros_like(p) if needs_p else None
    for image, (patch, index, factor) in enumerate(zip(z, position, weight, strict=True)):
        pull = (patch[index] - p).mul_(factor.unsqueeze(1))
        if grad_z is not None:
            grad_z[image].index_add_(0, index, pull)
        if grad_p is not None:
            grad_p -= pull
    return grad_z, grad_p


def _search(z: Tensor, p: Tensor, k: int, level: bool = False) -> Tensor:
    """Return the (B, k, P) positions of the k smallest distances, by |z|^2 - 2 z p, which ranks them alike.

    With `level`, those that rounding cannot tell from the k-th are one to it, and the first of them are taken.
    """
    count, length, dim = z.shape
    parts = []
    for (part,) in _split([z], length * len(p)):
        part, shifted = _centered(part, p)
        score = torch.addmm(part.square().sum(2).view(-1, 1), part.view(-1, dim), shifted.t(), alpha=-2)
        score = score.view(-1, length, len(p))
        if level:
            score = _levelled(score, part, shifted, k)
            parts.append(score.sort(dim=1, stable=True).indices[:, :k])
            continue
        # topk of 1 is slower than min
        parts.append(
            score.min(1, keepdim=True).indices if k == 1 else score.topk(min(k, length), 1, largest=False).indices
        )
    return torch.cat(parts) if parts else torch.empty(count, k, len(p), dtype=torch.int64, device=z.device)


def _levelled(score: Tensor, z: Tensor, p: Tensor, k: int) -> Tensor:
    """Return (B, L, P) scores, all those within rounding of the k-th smallest set to that one.

    Two sums of D products that are equal differ by a random walk of D roundings each.
    """
    edge = score.kthvalue(k, 1, keepdim=True).values
    scale = z.square().sum(2).amax(1).view(-1, 1, 1) + p.square().sum(1)
    walk = 2 * (1 + z.shape[2] ** 0.5) * torch.finfo(z.dtype).eps
    return torch.where((score - edge).abs() <= walk * scale, edge, score)


def _first_of_equals(z: Tensor, p: Tensor, position: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, k, P) positions and distances, of patches that are equally near the first.

    The search alone cannot say so: a patch at distance 0 and one at 1e-7 are one to it. What it takes for equal must be
    so by the distances themselves. A feature that is off by e moves |z - p| by e at most, and k of them by e sqrt(k).

    Args:
        z: (B, L, D).
        p: (P, D) prototypes.
        position: (B, k, P) as searched.
        distance: (B, k, P) there.
    """
    k = position.shape[1]
    earlier = _search(z, p, k, level=True)
    there = _exact(z, p, earlier)
    norm = torch.linalg.vector_norm(z, dim=2).amax(1).view(-1, 1, 1) + torch.linalg.vector_norm(p, dim=1)
    reach = _ROUNDINGS * torch.finfo(z.dtype).eps * k**0.5 * norm
    equal = there.sum(1, keepdim=True).sqrt() <= distance.sum(1, keepdim=True).sqrt() + reach
    return torch.where(equal, earlier, position), torch.where(equal, there, distance)


def _centered(z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return both moved by the same vector, to where their squares are small and so are the errors of rounding.

    Features behind a sigmoid lie around 0.5: without this, patches at squared distances of 1e-5 are one to the search.
    """
    center = p.detach().mean(0)
    return z - center, p - center


def _exact(z: Tensor, p: Tensor, position: Tensor) -> Tensor:
    """Return |z - p|^2 at the (B, k, P) positions, without ever holding many differences."""
    k = position.shape[1]
    _, length, dim = z.shape
    parts = []
    for part, place in _split([z, position], k * len(p) * dim):
        first = torch.arange(0, part.shape[0] * length, length, device=z.device).view(-1, 1, 1)
        near = part.view(-1, dim).index_select(0, (place + first).flatten())  # faster than gather
        parts.append(torch.linalg.vector_norm(near.view(-1, k, len(p), dim).sub_(p), dim=3).square_())
    return torch.cat(parts)


def _split(tensors: Sequence[Tensor], size: int) -> Iterable[Sequence[Tensor]]:
    """Split (B, ...) tensors into the images to work on at once, if every one needs `each` numbers.

    Code that is compiled or exported works on all of them: how often its loop runs cannot depend on the batch.
    """
    if torch.compiler.is_compiling():
        return [tensors]
    first = tensors[0]
    step = max(1, _CHUNK_BYTES.get(first.device.type, 1 << 26) // (size * first.element_size()))
    return zip(*(torch.split(tensor, step) for tensor in tensors), strict=True)


def patches_of(features: Tensor, extent: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Return the patches of (B, D, h, w) features, (B, L, D * h1 * w1), and the (rows, columns) they lie in."""
    height, width = features.shape[2] - extent[0] + 1, features.shape[3] - extent[1] + 1
    if extent == (1, 1):
        return features.flatten(2).transpose(1, 2), (height, width)
    return F.unfold(features, extent).transpose(1, 2), (height, width)
