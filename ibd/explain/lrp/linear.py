"""Linear operations: y = W x + b, with what a rule needs of them: W applied, W transposed, another W."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["conv", "linear"]
Sizes = int | Sequence[int]
"""One for all dimensions, or one for each."""
Padding = Sizes | Literal["same", "valid"]


@dataclass(frozen=True)
class LinearMap:
    """One linear operation of a network, such as a convolution.

    Attributes:
        kind: "conv", or "linear" for everything else.
        weight: W.
        bias: b, of a shape that broadcasts to the output; None where there is none.
        apply: (x, W, b or None) -> W x + b.
        transposed: (gradient of the output, W, x) -> gradient of x.
        scaled: (W, factors of the output channels) -> W; None where the output has no channels in dimension 1.
        joins: whether the input channels are dimension 1 of weight and input: two weights can be put side by side.
        channels: shape of a vector of output channels that broadcasts to the output.
    """

    kind: Kind
    weight: Tensor
    bias: Tensor | None
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    transposed: Callable[[Tensor, Tensor, Tensor], Tensor]
    scaled: Callable[[Tensor, Tensor], Tensor] | None = None
    channels: tuple[int, ...] = ()
    joins: bool = False

    def then(self, scale: Tensor, shift: Tensor) -> LinearMap:
        """Return this map followed by ``scale y + shift`` of (C,) each: W' = s W, b' = s b + t."""
        assert self.scaled is not None
        bias = shift.view(self.channels)
        if self.bias is not None:
            bias = bias + self.bias * scale.view(self.channels)
        return dataclasses.replace(self, weight=self.scaled(self.weight, scale), bias=bias)

    def takes(self, constant: Tensor) -> bool:
        """Return whether a constant that is added is a bias: one number for each channel."""
        dimensions = len(self.channels)
        if dimensions < 3:
            return constant.dim() == 1
        shape = tuple(constant.shape)
        shape = shape if len(shape) == dimensions else (1, *shape)
        return len(shape) == dimensions and constant.numel() == shape[1] > 1

    def shifted(self, constant: Tensor) -> LinearMap:
        """Return this map with a larger bias."""
        constant = constant.view(self.channels) if len(self.channels) > 2 else constant
        return dataclasses.replace(self, bias=constant if self.bias is None else self.bias + constant)


def convolution(
    transposed: bool,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
    output_padding: Sizes = 0,
) -> LinearMap:
    """Return a convolution, or a transposed one, in 1 to 3 dimensions."""
    count = weight.dim() - 2
    stride, dilation, output_padding = (_tuple(option, count) for option in (stride, dilation, output_padding))
    padding, more = _padding(padding, weight, dilation, count)
    settings = (stride, padding, dilation, transposed, output_padding, groups)
    channels = (1, -1, *[1] * count)

    def apply(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        x = F.pad(x, more) if any(more) else x
        return torch.convolution(x, w, None if b is None else b.flatten(), *settings)

    def back(gradient: Tensor, w: Tensor, x: Tensor) -> Tensor:
        shape = F.pad(x, more) if any(more) else x.new_empty(x.shape)  # of which only the shape is read
        product: Tensor = torch.ops.aten.convolution_backward(
            gradient, shape, w, None, *settings, (True, False, False)
        )[0]
        return F.pad(product, [-pixels for pixels in more]) if any(more) else product

    def scaled(w: Tensor, factor: Tensor) -> Tensor:
        if not transposed:
            return w * factor.view(-1, *[1] * (w.dim() - 1))
        parts = w.view(groups, -1, *w.shape[1:]) * factor.view(groups, 1, -1, *[1] * count)
        return parts.view(w.shape)

    return LinearMap(
        "conv",
        weight,
        None if bias is None else bias.view(channels),
        apply,
        back,
        scaled,
        channels,
        joins=groups == 1 and not transposed,
    )


def linear(weight: Tensor, bias: Tensor | None, dimensions: int) -> LinearMap:
    """Return ``x W^T + b`` of (..., I) inputs with this number of dimensions."""

    def apply(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.linear(x, w) if b is None else F.linear(x, w) + b

    def back(gradient: Tensor, w: Tensor, x: Tensor) -> Tensor:
        return gradient @ w

    def scaled(w: Tensor, factor: Tensor) -> Tensor:
        return w * factor.unsqueeze(1)

    return LinearMap(
        "linear", weight, bias, apply, back, scaled if dimensions == 2 else None, (1, -1) if dimensions == 2 else ()
    )


def bilinear(function: Callable[[Tensor, Tensor], Tensor], constant: Tensor) -> LinearMap:
    """Return any product of a tensor with a constant, ``function(x, constant)``; transposed by autograd."""

    def apply(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return function(x, w) if b is None else function(x, w) + b

    def back(gradient: Tensor, w: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = torch.zeros_like(x).requires_grad_()
            return torch.autograd.grad(function(leaf, w), leaf, gradient)[0]

    return LinearMap("linear", constant, None, apply, back)


def _tuple(value: Sizes, count: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def _padding(
    padding: Padding, weight: Tensor, dilation: tuple[int, ...], count: int
) -> tuple[tuple[int, ...], list[int]]:
    """Return the padding of both sides, and what more there is of each side, in the order of ``F.pad``.

    "same" of an even kernel pads the far side of an axis by one more.
    """
    if padding == "valid":
        return (0,) * count, []
    if padding == "same":
        total = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
        more = itertools.chain.from_iterable((0, pixels % 2) for pixels in reversed(total))
        return tuple(pixels // 2 for pixels in total), list(more)
    return _tuple(padding, count), []
