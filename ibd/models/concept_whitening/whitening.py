"""Center, whiten and rotate in one linear map, forward and backward, statistics included.

Without centering mu is 0, and S the second moment: what was a sum over the pixels stays one.

Shapes: B images, D channels in G groups of C, h x w the feature map, m = B h w positions. With x the (m, D) positions,
mean mu and covariance S (shrunk, see `shrink`), W = S^(-1/2) in blocks of the groups and R the rotation,

    z = (x - mu) A^T,    A = R W.

Backward, for the gradient g of z (both terms of the statistics included):

    gA = g^T (x - mu),   gW = blocks of R^T gA,   gS from gW (`inverse_root_gradient`),
    gx = (g - mean g) A + 2 / m (x - mu) gS.

So five products of the size of the feature map in all, where the published layer, which whitens and rotates in turn and
differentiates through its iterations, has seven and several copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ibd.distributed import sum_over_processes
from ibd.errors import ConfigError, check_range
from ibd.models.concept_whitening.inverse_root import Method, Root, inverse_root, inverse_root_gradient


@dataclass(frozen=True)
class Whitening:
    """How the latent space is whitened.

    Args:
        method: the inverse square root of the covariance by "eigen"decomposition, by "newton" (products alone, fast on
            a GPU), or "auto", which picks by device.
        iterations: iterations of "newton".
        shrinkage: share of the mean variance that takes the place of as much of the covariance; keeps directions in
            which a batch hardly varies from being blown up.
        eps: variance added to every direction.
        momentum: weight of a batch in the running statistics.
        groups: number of equal parts of the channels that are whitened each by itself; cheaper, and needs fewer
            positions.
        center: whether to take the mean away first, as published; null does unless the backbone is a B-cos one, whose
            account of itself a mean taken away would break.
    """

    method: Method = "auto"
    iterations: int = 20
    shrinkage: float = 1e-3
    eps: float = 1e-5
    momentum: float = 0.05
    groups: int = 1
    center: bool | None = None

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("model.whitening.iterations", self.iterations, least=1)
        check_range("model.whitening.eps", self.eps, least=0)
        check_range("model.whitening.groups", self.groups, least=1)
        if not 0 <= self.shrinkage <= 1:
            raise ConfigError(f"model.whitening.shrinkage: {self.shrinkage} given, a share from 0 to 1 is needed")
        if not 0 < self.momentum <= 1:
            raise ConfigError(f"model.whitening.momentum: {self.momentum} given, more than 0 and at most 1 is needed")


def shrink(covariance: Tensor, settings: Whitening) -> Tensor:
    """Return ``(1 - rho) S + (rho tr(S) / C + eps) I`` of (G, C, C) covariances (Ledoit and Wolf 2004)."""
    shrunk = (1 - settings.shrinkage) * covariance
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    shrunk.diagonal(dim1=1, dim2=2).add_(settings.shrinkage * diagonal.mean(1, keepdim=True) + settings.eps)
    return shrunk


def _shrink_gradient(gradient: Tensor, settings: Whitening) -> Tensor:
    """Return the gradient with respect to the covariance of one with respect to the shrunk covariance."""
    shrunk = (1 - settings.shrinkage) * gradient
    diagonal = gradient.diagonal(dim1=1, dim2=2)
    shrunk.diagonal(dim1=1, dim2=2).add_(settings.shrinkage * diagonal.mean(1, keepdim=True))
    return shrunk


def whitening_root(covariance: Tensor, settings: Whitening) -> Root:
    """Return the inverse square root of the shrunk (G, C, C) covariances."""
    return inverse_root(shrink(covariance, settings), settings.method, settings.iterations)


def rotate_root(rotation: Tensor, inverse: Tensor) -> Tensor:
    """Return A = R W, (D, D), of a (D, D) rotation and the (G, C, C) blocks of W."""
    groups, size = inverse.shape[:2]
    if groups == 1:
        return rotation @ inverse[0]
    return torch.einsum("dgc,gce->dge", rotation.view(-1, groups, size), inverse).reshape(rotation.shape)


def whiten_rotate(x: Tensor, rotation: Tensor, settings: Whitening) -> tuple[Tensor, Tensor, Tensor]:
    """Return z of a batch with the statistics of the batch, over all processes.

    Args:
        x: (B, D, h, w) in float32 or float64, contiguous or channels_last; the result has the same layout.
        rotation: (D, D), orthogonal; a constant.
        settings: settings of the whitening.

    Returns:
        z (B, D, h, w), differentiable once; the (D,) mean and the (G, C, C) covariance, not shrunk, constants.
    """
    return _WhitenRotate.apply(x, rotation, settings)  # type: ignore[no-any-return]


class _WhitenRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rotation: Tensor, settings: Whitening) -> tuple[Tensor, Tensor, Tensor]:
        flat = _rows(x)
        total = sum_over_processes(torch.cat([flat.sum(0), flat.new_tensor([len(flat)])]))
        mean, positions = total[:-1] / total[-1], total[-1]
        if settings.center is False:
            mean = torch.zeros_like(mean)
        else:
            flat = torch.sub(flat, mean, out=None if _is_view(flat, x) else flat)
        blocks = _blocks(flat, settings.groups)
        covariance = sum_over_processes(blocks.mT @ blocks) / positions
        root = whitening_root(covariance, settings)
        matrix = rotate_root(rotation, root.inverse)
        z = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        torch.mm(flat, matrix.mT.contiguous(), out=_rows(z))  # no view: what comes next may work in place
        ctx.save_for_backward(flat, rotation, matrix, positions, *root)
        ctx.settings = settings
        ctx.mark_non_differentiable(mean, covariance)
        return _laid_out(z, x), mean, covariance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _mean: Tensor, _covariance: Tensor) -> tuple[Tensor, None, None]:
        with torch.autocast(gradient.device.type, enabled=False):
            return _gradient(ctx, gradient), None, None


def _gradient(ctx: Any, gradient: Tensor) -> Tensor:
    """Return the gradient with respect to x."""
    flat, rotation, matrix, positions, *root = ctx.saved_tensors
    settings: Whitening = ctx.settings
    g = _rows(gradient)
    joint = sum_over_processes(torch.cat([g.mT @ flat, g.sum(0, keepdim=True)]))
    outer, mean = joint[:-1], joint[-1] / positions
    groups, size = root[0].shape[:2]
    of_matrix = rotation.mT @ outer
    of_root = of_matrix.view(groups, size, groups, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    of_covariance = _shrink_gradient(inverse_root_gradient(of_root, Root(*root), settings.iterations), settings)
    result = g @ matrix
    if settings.center is not False:
        result -= mean @ matrix
    _blocks(result, groups).baddbmm_(_blocks(flat, groups), of_covariance * (2 / positions))
    return _image(result, gradient)


# All products are of matrices whose rows are positions: what channels_last is in memory already. The copies that other
# layouts need cost less than what the products of their transposes take longer.


def _rows(x: Tensor) -> Tensor:
    """Return the positions of (B, D, h, w), (m, D); a view if x is channels_last."""
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _is_view(flat: Tensor, x: Tensor) -> bool:
    return flat.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def _image(flat: Tensor, like: Tensor) -> Tensor:
    """Return (m, D) positions as (B, D, h, w) in the memory layout of `like`."""
    batch, channels, height, width = like.shape
    return _laid_out(flat.view(batch, height, width, channels).permute(0, 3, 1, 2), like)


def _laid_out(image: Tensor, like: Tensor) -> Tensor:
    """Return a (B, D, h, w) tensor that is channels_last in the memory layout of `like`."""
    return image if like.is_contiguous(memory_format=torch.channels_last) else image.contiguous()


def _blocks(flat: Tensor, groups: int) -> Tensor:
    """Return a view of (m, D) positions by group, (G, m, C)."""
    return flat.view(len(flat), groups, -1).permute(1, 0, 2)
