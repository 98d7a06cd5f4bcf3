"""Gradients through ReLUs that are off: without them an image that excites nothing yet would never change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class RedirectedRelu(TorchFunctionMode):
    """While it is on, where a ReLU lets no gradient of an image through at all, it lets that through which raises it.

    As in lucid: the gradient is that of a loss, so a negative one asks for more. Modules and functions alike.
    """

    def __torch_function__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Run one function, a ReLU with another gradient."""
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        redirected = _Redirected.apply(x)
        in_place = func.__name__.endswith("_") or kwargs.get("inplace", args[1] if len(args) > 1 else False)
        return x.copy_(redirected) if in_place and x.requires_grad else redirected


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)  # x itself may be written over
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (on,), gradient = ctx.saved_tensors, gradients[0]
        plain = torch.where(on, gradient, 0)
        redirected = torch.where(~on & (gradient > 0), 0, gradient)
        blocked = plain.flatten(1).abs().amax(1) == 0
        return torch.where(blocked.view(-1, *[1] * (on.dim() - 1)), redirected, plain)
