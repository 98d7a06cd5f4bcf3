"""Seeing a B-cos network as the linear map that it is for the image at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ibd.backbones.bcos.alignment import aligned, alignment

_Function = Callable[..., Any]

_GATES: frozenset[_Function] = frozenset(
    (
        *(torch.sigmoid, torch.sigmoid_, torch.Tensor.sigmoid, torch.Tensor.sigmoid_, F.hardsigmoid),
        *(torch.softmax, torch.Tensor.softmax, F.softmax),
    )
)
"""What is multiplied with something else, of which it lets a part through."""

_THROUGH_ORIGIN: frozenset[_Function] = frozenset(
    (
        *(F.relu6, F.hardtanh, F.hardtanh_, F.silu, F.hardswish, F.gelu, F.mish),
        *(F.elu, F.elu_, F.selu, torch.selu, torch.selu_, F.celu, torch.celu, torch.celu_),
        *(
            F.softsign,
            F.softshrink,
            F.tanhshrink,
            F.tanh,
            torch.tanh,
            torch.tanh_,
            torch.Tensor.tanh,
            torch.Tensor.tanh_,
        ),
    )
)
"""Activations f with f(0) = 0 that are not linear on both sides of it: those that are (ReLU) are left as they are."""

_CLAMPS: frozenset[_Function] = frozenset(
    (*(torch.clamp, torch.clamp_, torch.clip), *(torch.Tensor.clamp, torch.Tensor.clamp_, torch.Tensor.clip))
)


class Linearized(TorchFunctionMode):
    """Within it the factors of B-cos layers, and of vectors that are made directions, are constants to autograd.

    Values stay what they are; gradients become the rows of the linear map, so that the gradient of an output times the
    input adds up to the output, where no bias and no centering is on the way (Boehle et al. 2022, section 3.2). An
    activation f through the origin is x times the constant ``f(x) / x``, and gates (sigmoids, softmax) are constants.
    An activation that is written out (``x * relu6(x + 3) / 6``) is not known as one.
    """

    def __torch_function__(
        self, func: _Function, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, its factor detached."""
        kwargs = kwargs or {}
        if func is aligned:
            return _aligned(*args, **kwargs)
        if func is F.normalize:
            return _direction(*args, **kwargs)
        if func in _THROUGH_ORIGIN or (func in _CLAMPS and _around_zero(*args[1:], **kwargs)):
            return _through_origin(func, *args, **kwargs)
        result = func(*args, **kwargs)
        return result.detach() if func in _GATES else result


def _aligned(product: Tensor, x: Tensor, b: float, window: Any = None) -> Tensor:
    return product if b == 1 else product * alignment(product.detach(), x.detach(), b, window)


def _direction(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x.detach(), p, dim, keepdim=True)
    return x / norm.clamp_min(eps)


def _through_origin(func: _Function, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002  # PyTorch's name
    """Return f(x) as x times a constant, in place where f works in place; at 0 the constant is the slope."""
    given = input.detach()
    given = torch.where(given == 0, torch.finfo(given.dtype).eps, given)
    seen = given.clone()
    value = func(seen, *args, **kwargs)
    factor = value / given
    return input.mul_(factor) if value is seen else input * factor


def _around_zero(*args: Any, min: Any = None, max: Any = None, **_: Any) -> bool:  # noqa: A002  # PyTorch's names
    """Return whether 0 stays 0 where values are clamped, with bounds on both sides, which are numbers."""
    low = args[0] if args else min
    high = args[1] if len(args) > 1 else max
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    return numbers and low <= 0 <= high
