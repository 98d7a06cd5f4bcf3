"""Layers that begin as those of a plain network and fade, see `Fading`, to those of a B-cos network."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ibd.backbones.bcos.alignment import aligned
from ibd.backbones.bcos.fading import Fading
from ibd.backbones.bcos.layers import BcosConv2d, check_bcos, effective
from ibd.backbones.bcos.structure import conv_like
from ibd.errors import ConfigError


class FadingConv2d(Fading, BcosConv2d):
    """A convolution whose b goes from 1 to `b`, and whose bias goes: (B, I, H, W) -> (B, O, h, w)."""

    @classmethod
    def of(cls, layer: nn.Conv2d, b: float) -> Self:
        """Return what a plain convolution becomes; it has the same parameters.

        Raises:
            ConfigError: b below 1, or a padding that has no B-cos form.
        """
        with torch.device("meta"):  # its own weights are not wanted
            new = conv_like(layer, b, unit_norm=False, kind=cls)
        new.weight, new.bias = layer.weight, layer.bias
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, O, h, w)."""
        y = self.answer(x, _exponent(self))
        return y if self.bias is None else _plus(self, y, self.bias.view(-1, 1, 1))


class FadingLinear(Fading):
    """A linear layer whose b goes from 1 to `b`, and whose bias goes: (..., I) -> (..., O).

    Args:
        layer: plain layer, of which it has the parameters.
        b: B in the end.

    Raises:
        ConfigError: b below 1.
    """

    def __init__(self, layer: nn.Linear, b: float) -> None:
        super().__init__()
        check_bcos(b, max_out=1)
        self.in_features, self.out_features, self.b = layer.in_features, layer.out_features, b
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., O)."""
        b = _exponent(self)
        y = aligned(F.linear(x, effective(self.weight, b, unit_norm=False)), x, b)
        return y if self.bias is None else _plus(self, y, self.bias)

    def extra_repr(self) -> str:
        """Return what is shown beside the name."""
        return f"{self.in_features}, {self.out_features}, b={self.b:g}"


class FadingNorm(Fading):
    """Batch normalization whose centering and shift fade: (B, D, ...) -> (B, D, ...).

    ``d = x - (1 - fade) mean``, ``y = weight d / sqrt(mean(d^2) + eps) + (1 - fade) bias``: with fade 0 it is batch
    normalization, with fade 1 the scaling of `UncenteredNorm2d`. The mean square of d is ``var + fade^2 mean^2``, so
    that running means and variances serve all of them.

    Args:
        layer: plain layer, of which it has the parameters and the statistics.

    Raises:
        ConfigError: it has no running statistics: a batch's own would make images depend on each other.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        if layer.running_mean is None:
            raise ConfigError("a batch normalization without running statistics has no B-cos form")
        self.num_features, self.eps, self.momentum = layer.num_features, layer.eps, layer.momentum
        self.weight, self.bias = layer.weight, layer.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))

    def forward(self, x: Tensor) -> Tensor:
        """Return what has the shape of x, in float32 or better also under autocast."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if (
            self.training and not x.is_meta
        ):  # of shapes alone, for a receptive field: the batch's statistics are no place
            return self._of_batch(x)
        mean, var, weight, bias = (
            None if value is None else value.to(x.dtype)
            for value in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        assert mean is not None
        assert var is not None
        square = var + (self.fade * mean).square()
        if self.fade < 1:
            bias = None if bias is None else self.kept * bias
            return F.batch_norm(x, self.kept * mean, square, weight, bias, False, 0.0, self.eps)
        scale = (square + self.eps).rsqrt()
        scale = scale if weight is None else weight * scale
        return x * scale.view(-1, *[1] * (x.dim() - 2))

    def _of_batch(self, x: Tensor) -> Tensor:
        """Normalize by the batch.

        Batch normalization makes x a standard score z; and as ``d = sqrt(var) z + fade mean``, what is wanted is its
        scale and shift of z, which depend on the batch themselves.
        """
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if self.fade > 0:
            var, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
            var, offset = var + self.eps, self.fade * mean
            scale = (var + offset.square()).rsqrt()
            scale = scale if weight is None else weight * scale
            weight = scale * var.sqrt()
            shift = scale * offset
            bias = shift if bias is None else shift + self.kept * bias
        return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, True, momentum, self.eps)

    def reset_parameters(self) -> None:
        """Forget what was learned, and what was seen."""
        for tensor, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if tensor is not None:
                nn.init.constant_(tensor, value)
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self.num_batches_tracked.zero_()

    def extra_repr(self) -> str:
        """Return what is shown beside the name."""
        return f"{self.num_features}"


def _exponent(layer: FadingConv2d | FadingLinear) -> float:
    return 1 + layer.fade * (layer.b - 1)


def _plus(layer: Fading, y: Tensor, bias: Tensor) -> Tensor:
    """Add what is left of a bias; in training also where that is nothing: several processes need its gradient."""
    return y if layer.fade == 1 and not layer.training else y + layer.kept * bias
