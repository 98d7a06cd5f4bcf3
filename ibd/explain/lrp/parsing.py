"""Reading the arguments of linear operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ibd.explain.lrp import operations as ops
from ibd.explain.lrp.linear import LinearMap, Padding, Sizes, bilinear, convolution, linear
from ibd.explain.lrp.nodes import Call


def linear_map(call: Call, given: Tensor) -> LinearMap | None:
    """Return the linear map that a call is of one of its arguments; None where it is none that is known.

    Args:
        call: call of a linear operation.
        given: the one argument that depends on the image.
    """
    args, kwargs = call.args, call.kwargs
    if call.name in ops.CONVOLUTIONS:
        return _convolution(given, *args, **kwargs)
    if call.name in ops.TRANSPOSED:
        return _transposed(given, *args, **kwargs)
    if call.name == "linear":
        return _linear(given, *args, **kwargs)
    if call.name == "addmm":
        return _addmm(given, *args, **kwargs)
    return _product(call, given)


def _convolution(
    given: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Padding = 0,  # noqa: A002
    dilation: Sizes = 1, groups: int = 1,
) -> LinearMap | None:  # fmt: skip
    if input is not given or input.dim() != weight.dim():
        return None
    return convolution(False, weight, bias, stride, padding, dilation, groups)


def _transposed(
    given: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,  # noqa: A002
    output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1,
) -> LinearMap | None:  # fmt: skip
    if input is not given or input.dim() != weight.dim():
        return None
    return convolution(True, weight, bias, stride, padding, dilation, groups, output_padding)


def _linear(given: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> LinearMap | None:  # noqa: A002
    return linear(weight, bias, input.dim()) if input is given and input.dim() > 1 else None


def _addmm(
    given: Tensor,
    input: Tensor,  # noqa: A002
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> LinearMap | None:
    return linear(alpha * mat2.t(), beta * input, 2) if mat1 is given else None


def _product(call: Call, given: Tensor) -> LinearMap | None:
    """Return a product of two tensors, one of them a constant."""
    name, args = call.name, call.args
    if call.kwargs:
        return None
    if name == "einsum":
        operands = args[1:] if len(args) > 2 else tuple(args[1])
        if len(operands) != 2:
            return None
        return _either(lambda a, b: torch.einsum(args[0], a, b), operands, given)
    if len(args) != 2:
        return None
    first, second = (args[1], args[0]) if name == "__rmatmul__" else args
    if name in ("matmul", "__matmul__", "mm") and first is given and second.dim() == 2 and first.dim() > 1:
        return linear(second.t(), None, first.dim())
    return _either(call.func if name != "__rmatmul__" else torch.matmul, (first, second), given)


def _either(function: Callable[[Tensor, Tensor], Tensor], operands: Sequence[Tensor], given: Tensor) -> LinearMap:
    first, second = operands
    if first is given:
        return bilinear(function, second)
    return bilinear(lambda x, w: function(w, x), first)
