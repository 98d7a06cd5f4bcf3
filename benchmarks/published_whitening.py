"""Concept whitening as its authors' code computes it, written from the formulas, to be compared with.

Whitening by the uncoupled Newton iteration with its backward pass in closed form (Huang et al. 2019), over a copy of
the features with the channels first; the rotation afterwards, by an einsum; the running whitening matrix as an average
of whitening matrices; the rotation updated along the Cayley curve with matrices of full size (Chen et al. 2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ITERATIONS = 10
EPS = 1e-5
MOMENTUM = 0.05


class PublishedLayer(nn.Module):
    """Whitening and rotation of (B, D, h, w); see the module."""

    running_mean: Tensor
    running_matrix: Tensor
    rotation: Tensor

    def __init__(self, channels: int, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.iterations = iterations
        self.register_buffer("running_mean", torch.zeros(1, channels, 1))
        self.register_buffer("running_matrix", torch.eye(channels).unsqueeze(0))
        self.register_buffer("rotation", torch.eye(channels).unsqueeze(0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the rotated maps."""
        if self.training:
            white, mean, matrix = _Whiten.apply(x, self.iterations)
            self.running_mean.copy_(MOMENTUM * mean + (1 - MOMENTUM) * self.running_mean)
            self.running_matrix.copy_(MOMENTUM * matrix + (1 - MOMENTUM) * self.running_matrix)
        else:
            white = _images(self.running_matrix.matmul(_channels_first(x) - self.running_mean), x)
        grouped = white.view(len(x), 1, *x.shape[1:])
        return torch.einsum("bgchw,gdc->bgdhw", grouped, self.rotation).view(x.shape)


def _channels_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().view(1, x.shape[1], -1)


def _images(flat: Tensor, like: Tensor) -> Tensor:
    batch, channels, height, width = like.shape
    return flat.view(channels, batch, height, width).transpose(0, 1).contiguous()


class _Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
        flat = _channels_first(x)
        mean = flat.mean(-1, keepdim=True)
        centered = flat - mean
        eye = torch.eye(x.shape[1], dtype=x.dtype).unsqueeze(0)
        covariance = torch.baddbmm(eye, centered, centered.transpose(1, 2), beta=EPS, alpha=1 / flat.shape[-1])
        inverse_trace = (covariance * eye).sum((1, 2), keepdim=True).reciprocal_()
        normalized = covariance * inverse_trace
        roots = [eye]
        for _ in range(iterations):
            cube = torch.matrix_power(roots[-1], 3)
            roots.append(torch.baddbmm(roots[-1], cube, normalized, beta=1.5, alpha=-0.5))
        matrix = roots[-1] * inverse_trace.sqrt()
        ctx.save_for_backward(centered, inverse_trace, normalized, matrix, *roots[:-1])
        ctx.mark_non_differentiable(mean, matrix)
        return _images(matrix.matmul(centered), x), mean, matrix

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _mean: Tensor, _matrix: Tensor) -> tuple[Tensor, None]:
        centered, inverse_trace, normalized, matrix, *roots = ctx.saved_tensors
        g = _channels_first(gradient)
        of_matrix = g.matmul(centered.transpose(1, 2))
        of_root = of_matrix * inverse_trace.sqrt()
        of_normalized = torch.zeros_like(normalized)
        for root in roots[:0:-1]:  # P_{k+1} = 1.5 P_k - 0.5 P_k^3 S, from the last to the second; P_0 is a constant
            squared = root.matmul(root)
            of_normalized += squared.matmul(root).matmul(of_root)
            through = of_root.matmul(normalized)
            of_root = torch.baddbmm(of_root, through, squared, beta=1.5, alpha=-0.5)
            of_root.baddbmm_(squared, through, alpha=-0.5)
            of_root.baddbmm_(root.matmul(through), root, alpha=-0.5)
        of_normalized += of_root
        eye = roots[0]
        of_trace = -normalized.matmul(of_normalized) + of_matrix.transpose(1, 2).matmul(matrix)
        of_trace = (of_trace * eye).sum((1, 2), keepdim=True) * eye
        both = of_normalized + of_normalized.transpose(1, 2) + 2 * of_trace
        of_covariance = both * (-0.5 / centered.shape[-1] * inverse_trace)
        direct = matrix.matmul(g - g.mean(-1, keepdim=True))
        return _images(torch.baddbmm(direct, of_covariance, centered), gradient), None


@torch.no_grad()
def published_rotation_step(rotation: Tensor, gradient: Tensor, steps: int = 2) -> Tensor:
    """Return R after steps along ``(I + t/2 A)^-1 (I - t/2 A) R``, ``A = G R^T - R G^T``, with the published search.

    Args:
        rotation: (1, D, D), orthogonal.
        gradient: (1, D, D), zero beyond the rows of the concepts.
        steps: how many.
    """
    eye = torch.eye(rotation.shape[-1]).expand_as(rotation)
    for _ in range(steps):
        low, high, t = 0.0, 1e8, 1000.0
        skew = torch.einsum("gin,gjn->gij", gradient, rotation) - torch.einsum("gin,gjn->gij", rotation, gradient)
        first = -0.5 * (skew**2).sum()
        while True:
            moved = torch.bmm(torch.bmm((eye + 0.5 * t * skew).inverse(), eye - 0.5 * t * skew), rotation)
            before, after = (gradient * rotation).sum(), (gradient * moved).sum()
            pulled = torch.einsum("gni,gnj->gij", gradient, (eye + 0.5 * t * skew).inverse())
            slope = -torch.bmm(pulled, torch.bmm(skew, 0.5 * (rotation + moved)))[0].trace()
            if after > before + 1e-4 * t * first + 1e-18:
                high, t = t, (low + t) / 2
            elif slope + 1e-18 < 0.9 * first:
                low, t = t, (high + t) / 2
            else:
                break
        rotation = torch.bmm(torch.bmm((eye + 0.5 * t * skew).inverse(), eye - 0.5 * t * skew), rotation)
    return rotation
