"""Seeing a B-cos network as the linear map that it is for the image at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ibd.backbones.bcos.alignment import aligned, alignment


class Linearized(TorchFunctionMode):
    """Within it the factors of B-cos layers, and of vectors that are made directions, are constants to autograd.

    Values stay what they are; gradients become the rows of the linear map, so that the gradient of an output times the
    input adds up to the output, where no bias and no centering is on the way (Boehle et al. 2022, section 3.2).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, its factor detached."""
        if func is aligned:
            return _aligned(*args, **(kwargs or {}))
        if func is F.normalize:
            return _direction(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _aligned(product: Tensor, x: Tensor, b: float, window: Any = None) -> Tensor:
    return product if b == 1 else product * alignment(product.detach(), x.detach(), b, window)


def _direction(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x.detach(), p, dim, keepdim=True)
    return x / norm.clamp_min(eps)
