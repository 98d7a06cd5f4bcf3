"""The one thing that makes a layer a B-cos layer: its outputs shrink where input and weight point in different ways.

With w a weight of norm 1 and x what it sees, ``f(x; w) = (w . x) |cos(x, w)|^(B - 1)`` (Boehle et al. 2022, eq. 3).
``w . x`` is a convolution or a matrix product as any other; what is here is the factor, in one operation with its
gradient. The norm of what a place sees is a box filter over the sum of the squares, once for all units, and autograd
keeps two tensors of the output's size.

Seen as a constant, the factor makes the layer linear in its input; `ibd.backbones.bcos.linearized` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from ibd.backbones.bcos.parts import parts

EPSILON = 1e-6
"""What is added to the squared norm of what a place sees: of an input of zeros the output is 0."""


_FEW = 32


@dataclass(frozen=True)
class Window:
    """The places that a convolution looks at: its arguments as (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def pointwise(self) -> bool:
        """Whether each place sees itself alone."""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)


def aligned(product: Tensor, x: Tensor, b: float, window: Window | None = None) -> Tensor:
    """Return products with weights of norm 1, times ``|cos|^(b - 1)`` of the angle between input and weight.

    In float32 or better, also under autocast. Differentiable once with respect to both. To modes of torch functions it
    is one operation, whose attribute ``relevance`` says that it scales its first argument.

    Args:
        product: (B, O, h, w) the convolution of x, without a bias; (..., O) without a window.
        x: (B, I, H, W) what was convolved; (..., I) without a window.
        b: B, from 1 (a linear layer) on.
        window: places that the convolution looked at; None for a matrix product.
    """
    if has_torch_function((product, x)):
        seen: Tensor = handle_torch_function(aligned, (product, x), product, x, b, window)
        return seen
    if b == 1 or product.is_meta:  # shapes alone, for a receptive field: the factor sees what the product does
        return product
    if torch.compiler.is_compiling():  # who fuses operations need not be told how, nor what their gradient is
        wide, x = _promoted(product, x)
        return wide * alignment(wide, x, b, window)
    with torch.autocast(product.device.type, enabled=False):
        return cast(Tensor, _Aligned.apply(*_promoted(product, x), b, window))


aligned.relevance = "scaled"  # type: ignore[attr-defined]


def alignment(product: Tensor, x: Tensor, b: float, window: Window | None = None) -> Tensor:
    """Return ``|cos|^(b - 1)``, of the shape of `product`; see `aligned`."""
    product, x = _promoted(product, x)
    with torch.autocast(product.device.type, enabled=False):
        cosine = _by_group(product, window) * _inverse_norm(x, window)
        if not torch.compiler.is_compiling():
            return _power(cosine, b - 1).view_as(product)
        size = cosine.abs()  # differentiable, also at 0, where a root is not
        return torch.where(size > 0, torch.where(size > 0, size, 1.0).pow(b - 1), 0.0).view_as(product)


def _promoted(product: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(torch.promote_types(product.dtype, x.dtype), torch.float32)
    return product.to(dtype), x.to(dtype)


def convolved(x: Tensor, weight: Tensor, b: float, window: Window) -> Tensor:
    """Return the convolution of x with weights of norm 1, and ``aligned``, in one operation.

    The same as one after the other; backward, what the factor says of x is added to what the convolution does in
    place. In float32 or better; not for modes of torch functions, which are to see the convolution.

    Args:
        x: (B, I, H, W).
        weight: (O, I / groups, rows, columns), effective.
        b: B, more than 1.
        window: places that the convolution looks at.
    """
    return cast(Tensor, _Convolved.apply(x, weight, b, window))


class _Aligned(torch.autograd.Function):
    """``y = a |a r|^(b - 1)`` with ``r = 1 / |x|`` at each place; see `_scale` and `_unscale`."""

    @staticmethod
    def forward(ctx: Any, product: Tensor, x: Tensor, b: float, window: Window | None) -> Tensor:
        y = torch.empty_like(product)
        ctx.save_for_backward(x, *_scale(product, x, b, window, y), y)
        ctx.b, ctx.window = b, window
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, inverse, factor, y = ctx.saved_tensors
        of_product, of_squares = _unscale(gradient, inverse, factor, y, ctx.b, ctx.window)
        if not ctx.needs_input_grad[1]:
            return of_product, None, None, None
        of_x = _by_group(x, ctx.window) * _seen_by(x, of_squares, ctx.window)
        return of_product, of_x.view_as(x), None, None


class _Convolved(torch.autograd.Function):
    """A convolution and `_Aligned`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, b: float, window: Window) -> Tensor:
        y = F.conv2d(x, weight, None, window.stride, window.padding, window.dilation, window.groups)
        ctx.save_for_backward(x, weight, *_scale(y, x, b, window, y), y)
        ctx.b, ctx.window = b, window
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight, inverse, factor, y = ctx.saved_tensors
        window: Window = ctx.window
        of_product, of_squares = _unscale(gradient, inverse, factor, y, ctx.b, window)
        transposed, output_padding, wanted = False, (0, 0), (*ctx.needs_input_grad[:2], False)
        # Both at once, and of the tensors themselves: conv2d_input has a stand-in without their layout, and copies.
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            of_product, x, weight, None, window.stride, window.padding, window.dilation, transposed, output_padding,
            window.groups, wanted,
        )  # fmt: skip
        if of_x is not None:
            _by_group(of_x, window).addcmul_(_by_group(x, window), _seen_by(x, of_squares, window))
        return of_x, of_weight, None, None


def _scale(product: Tensor, x: Tensor, b: float, window: Window | None, out: Tensor) -> tuple[Tensor, Tensor]:
    """Write ``y = a |a r|^(b - 1)`` to `out`, which may be the product a itself; return r and the factor."""
    inverse, factor = _inverse_norm(x, window), torch.empty_like(product)
    for some in parts(product):
        a = product[some]
        torch.mul(_by_group(a, window), inverse[some], out=_by_group(factor[some], window))
        torch.mul(a, _power(factor[some], b - 1), out=out[some])
    return inverse, factor


def _unscale(
    gradient: Tensor, inverse: Tensor, factor: Tensor, y: Tensor, b: float, window: Window | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the product and, times 1/2, of the squared norm that each place sees.

    ``dy/da = b |a r|^(b - 1)``; and as ``dy/dr = (b - 1) y / r``, the squared norm gets ``-(b - 1) / 2 r^2 sum_o g y``.
    """
    units = -1 if window is None else -3
    of_product, pull = torch.empty_like(factor), torch.empty_like(inverse)
    for some in parts(factor):
        g = gradient[some]
        pull[some] = _channel_sums(_by_group(g * y[some], window), units)
        torch.mul(g, factor[some], out=of_product[some]).mul_(b)
    return of_product, pull.mul_(inverse.square()).mul_(1 - b)


def _power(cosine: Tensor, exponent: float) -> Tensor:
    """Return ``|cosine|^exponent``, in the memory of `cosine`; halves and quarters by roots, which cost far less."""
    size = cosine.abs_()
    if exponent == 1:
        return size
    if exponent == 0.5:
        return size.sqrt_()
    if exponent == 0.75:
        root = size.sqrt_()
        return root.mul_(root.sqrt())
    if exponent == 1.25:
        return size.mul_(size.sqrt().sqrt_())
    if exponent == 1.5:
        return size.mul_(size.sqrt())
    return size.pow_(exponent)


def _by_group(product: Tensor, window: Window | None) -> Tensor:
    """Return (B, G, O / G, h, w) where there are several groups, as the norms have them: (B, G, 1, h, w)."""
    return (
        product
        if window is None or window.groups == 1
        else product.view(len(product), window.groups, -1, *product.shape[2:])
    )


def _inverse_norm(x: Tensor, window: Window | None) -> Tensor:
    """Return 1 / |x| of what each place sees: (B, 1, h, w); (B, G, 1, h, w) of several groups; (..., 1)."""
    if window is None:
        return x.square().sum(-1, keepdim=True).add_(EPSILON).rsqrt_()
    squares = torch.cat([_channel_sums(_by_group(x[some].square(), window)) for some in parts(x)])
    if not window.pointwise:
        rows, columns = _boxes(window, squares)
        squares = rows @ squares @ columns.mT
    return (squares + EPSILON).rsqrt_()


def _channel_sums(values: Tensor, dim: int = -3) -> Tensor:
    """Return sums over the channels, which stay as one.

    With few channels that lie last in memory a product with ones takes half of the time of a sum.
    """
    if values.dim() == 4 and dim == -3 and values.shape[1] <= _FEW:
        last = values.permute(0, 2, 3, 1)
        if last.is_contiguous():
            return (last.reshape(-1, last.shape[3]) @ last.new_ones(last.shape[3])).view(
                len(values), 1, *last.shape[1:3]
            )
    return values.sum(dim, keepdim=True)


def _seen_by(x: Tensor, of_squares: Tensor, window: Window | None) -> Tensor:
    """Return what the places that see each pixel of x give to its squares: the transpose of the box filter."""
    if window is None or window.pointwise:
        return of_squares
    rows, columns = _boxes(window, x)
    return rows.mT @ of_squares @ columns


def _boxes(window: Window, image: Tensor) -> list[Tensor]:
    """Return which rows, (h, H), and which columns, (w, W), of (..., H, W) each place sees.

    Two small products are far faster than a convolution of one channel with ones, and its transpose.
    """
    settings = zip(image.shape[-2:], window.kernel, window.stride, window.padding, window.dilation, strict=True)
    seen = []
    for size, kernel, stride, padding, dilation in settings:
        count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        first = torch.arange(count, device=image.device).view(-1, 1, 1) * stride - padding
        places = first + torch.arange(kernel, device=image.device).view(-1, 1) * dilation
        seen.append((places == torch.arange(size, device=image.device)).any(1).to(image.dtype))
    return seen
