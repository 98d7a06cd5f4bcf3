"""Guided backpropagation and deconvnet: other ways back through a ReLU, wherever it is called.

Also where it is a function (``F.relu``, ``x.relu_()``, ``x.clamp(min=0)``), which hooks on modules miss: there others
return the plain gradient without a word.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ibd.errors import UnsupportedError
from ibd.explain.gradients import GradientExplainer

Way = Literal["guided", "deconvnet"]

_RELUS = {torch.relu, F.relu, Tensor.relu, torch.relu_, Tensor.relu_, F.relu_}
_RELUS6 = {F.relu6}
_HARDTANHS = {F.hardtanh, F.hardtanh_}
_CLAMPS = {torch.clamp, Tensor.clamp, torch.clamp_, Tensor.clamp_, torch.clip, Tensor.clip}
_OTHERS = {"gelu", "silu", "hardswish", "mish", "elu", "celu", "selu", "leaky_relu", "prelu", "rrelu", "softplus"}
"""Activations that networks have in place of ReLUs, by name."""
_CLAMPS_MIN = {torch.clamp_min, Tensor.clamp_min, torch.clamp_min_, Tensor.clamp_min_}


class ReluMode(TorchFunctionMode):
    """Replaces the gradient of every ReLU that is called while it is active; values stay.

    "guided" passes back what is positive where the ReLU was open, "deconvnet" what is positive, everywhere.

    Attributes:
        count: number of ReLUs that were replaced.
        others: names of activations that are none, and keep their gradient.
    """

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way, self.count, self.others = way, 0, set[str]()

    def __torch_function__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Run one function, a ReLU with the other gradient."""
        kwargs = kwargs or {}
        bounds = _bounds(func, args, kwargs)
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, Tensor) and x.requires_grad:
            self.others |= {getattr(func, "__name__", "").rstrip("_")} & _OTHERS
        if bounds is None or not isinstance(x, Tensor) or not x.requires_grad or "out" in kwargs:
            return func(*args, **kwargs)
        self.count += 1
        low, high, writes = bounds
        result = _Relu.apply(x, low, high, self.way)
        return x.copy_(result) if writes else result


class _Relu(torch.autograd.Function):
    """``clamp(x, low, high)`` with the gradient of guided backpropagation or deconvnet."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float | None, way: Way) -> Tensor:
        """Return the clamped values."""
        if way == "guided":
            ctx.save_for_backward(x > low if high is None else (x > low) & (x < high))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> object:
        """Return the positive part of the gradient, for "guided" only where the ReLU was open."""
        positive = gradients[0].clamp(min=0)
        if ctx.saved_tensors:
            positive = positive * ctx.saved_tensors[0]
        return positive, None, None, None


def _bounds(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, float | None, bool] | None:
    """Return the bounds of a function that is a ReLU, and whether it works in place; None for any other."""
    name = getattr(func, "__name__", "")
    writes = name.endswith("_") and not name.endswith("__")
    given = dict(enumerate(args)) | kwargs
    if func in _RELUS:
        return 0.0, None, writes or bool(given.get("inplace", given.get(1, False)))
    if func in _RELUS6:
        return 0.0, 6.0, bool(given.get("inplace", given.get(1, False)))
    if func in _HARDTANHS:
        low, high = given.get("min_val", given.get(1, -1.0)), given.get("max_val", given.get(2, 1.0))
        return (0.0, float(high), writes or bool(given.get("inplace", given.get(3, False)))) if low == 0 else None
    if func in _CLAMPS or func in _CLAMPS_MIN:
        low, high = given.get("min", given.get(1)), given.get("max", given.get(2))
        if isinstance(low, Tensor) or isinstance(high, Tensor) or low is None or low != 0:
            return None
        return 0.0, None if high is None else float(high), writes
    return None


class _Relus(GradientExplainer):
    """The gradient with another way back through the ReLUs."""

    way: Way

    @contextmanager
    def rules(self) -> Iterator[None]:
        """Run the model with its ReLUs replaced; warn of other activations.

        Raises:
            UnsupportedError: there was none, so that the result would be the plain gradient.
        """
        with ReluMode(self.way) as mode:
            yield
        if not mode.count:
            raise UnsupportedError(
                f"'{self.name}' changes how a gradient passes ReLUs, but between {self.layer or 'the image'} and the "
                "score no ReLU of this model is a function of torch (relu, relu6, hardtanh, clamp): use 'saliency'"
            )
        if mode.others:
            warnings.warn(
                f"'{self.name}' changes only ReLUs: {', '.join(sorted(mode.others))} of this model keep their plain "
                "gradient",
                stacklevel=2,
            )

    def values(self, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the changed gradient."""
        return gradient


class GuidedBackprop(_Relus):
    """The gradient, only its positive part at every open ReLU (Springenberg et al. 2015); summed over colors."""

    name = "guided_backprop"
    way: Way = "guided"


class Deconvnet(_Relus):
    """The positive part of what comes from above at every ReLU, open or not (Zeiler & Fergus 2014).

    Max-pooling goes back through its switches and convolutions are transposed, as in any gradient; summed over colors.
    """

    name = "deconvnet"
    way: Way = "deconvnet"
