"""Channels over their root mean square, with the gradient, in few passes over the tensor."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ibd.backbones.bcos.parts import parts


def scaled_by_rms(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return ``x w / sqrt(mean(x^2) + eps)`` by channel, and the (D,) mean squares, a constant.

    Args:
        x: (B, D, h, w) in float32 or float64.
        weight: (D,) factors.
        eps: what is added to the mean square.
    """
    return cast(tuple[Tensor, Tensor], _ScaledByRms.apply(x, weight, eps))


class _ScaledByRms(torch.autograd.Function):
    """With r the inverse root: ``dx = w r (g - x r^2 mean(g x))``, ``dw = r sum(g x)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        square = _sum_of_products(x, x) / _count(x)
        inverse = (square + eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        ctx.mark_non_differentiable(square)
        return x * _channels(weight * inverse), square

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        total = _sum_of_products(gradient, x)
        of_weight = total * inverse
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        scale = weight * inverse
        pull = _channels(scale * inverse.square() * total / -_count(x))
        of_x = torch.empty_like(x)
        for some in parts(x):
            torch.mul(gradient[some], _channels(scale), out=of_x[some]).addcmul_(x[some], pull)
        return of_x, of_weight, None


def _sum_of_products(x: Tensor, y: Tensor) -> Tensor:
    """Return the (D,) sums over all places of products of two (B, D, h, w) tensors."""
    return torch.stack([(x[some] * y[some]).sum((0, 2, 3)) for some in parts(x)]).sum(0)


def _count(x: Tensor) -> int:
    return x.numel() // x.shape[1]


def _channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
