"""B-cos convolution and linear layer, the norm that goes with them, and the input with six channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import has_torch_function

from ibd.backbones.bcos.alignment import Window, aligned, convolved
from ibd.backbones.bcos.rms import scaled_by_rms
from ibd.backbones.precision import autocasting
from ibd.errors import ConfigError, check_range

B = 2.0
"""What B is unless it is said, as in the paper."""
_TINY = 1e-12


class BcosConv2d(nn.Conv2d):
    """A convolution without a bias, by weights of norm 1, times ``|cos|^(b - 1)``: (B, I, H, W) -> (B, O, h, w).

    A weight counts by its direction alone; it is normalized once in a forward pass. With `unit_norm` False its norm
    counts, too, as in a plain convolution: with b = 1 it is one. (A product with weights of norm ``g^(1/b)``, times the
    same power of itself over the input's norm, is g times what a norm of 1 gives; so that costs nothing.)

    What it puts out is kept for the way back: a layer that works in place must not follow it at once in a training.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: rows and columns of the window, or one number for both.
        stride: steps of the window.
        padding: zeros around the image.
        dilation: steps within the window.
        groups: parts of the channels that do not see each other.
        b: B; 1 is a linear layer, 2 that of the paper.
        max_out: units of which an output is the largest; 1 is none to choose from.
        unit_norm: whether weights have norm 1.

    Raises:
        ConfigError: b below 1, or no unit to choose from.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        b: float = B,
        max_out: int = 1,
        unit_norm: bool = True,
    ) -> None:
        check_bcos(b, max_out)
        shape = (kernel_size, stride, padding, dilation, groups)
        super().__init__(in_channels, out_channels * max_out, *shape, bias=False)
        self.b, self.max_out, self.unit_norm = b, max_out, unit_norm
        self.window = Window(_pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation), groups)

    def reset_parameters(self) -> None:
        """Draw weights anew: their directions alone matter."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.weight[0].numel()))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, O, h, w); in the dtype of x, but in float32 under autocast, and computed in that or better."""
        return self.answer(x, self.b)

    def answer(self, x: Tensor, b: float) -> Tensor:
        """Return what `forward` would with another b."""
        window = self.window
        weight = effective(self.weight, b, self.unit_norm)
        if self._at_once(x, b):
            return convolved(x, weight, b, window)
        product = F.conv2d(x, weight, None, window.stride, window.padding, window.dilation, window.groups)
        if self.max_out > 1:  # of the products: the factor rises with them
            product = largest(
                product.view(len(product), window.groups, -1, *product.shape[2:]), self.max_out, 2
            ).flatten(1, 2)
        return aligned(product, x, b, window).to(_kept(x))

    def _at_once(self, x: Tensor, b: float) -> bool:
        """Return whether nobody need see the convolution by itself."""
        alone = b > 1 and self.max_out == 1 and x.dtype == self.weight.dtype and x.dim() == 4
        alone = alone and x.dtype in (torch.float32, torch.float64)
        alone = alone and not torch.compiler.is_compiling()
        return alone and not (x.is_meta or has_torch_function((x,)) or autocasting(x))

    def extra_repr(self) -> str:
        """Return what is shown beside the name."""
        shown = str(super().extra_repr())  # type: ignore[no-untyped-call]
        return shown + f", b={self.b:g}" + (f", max_out={self.max_out}" if self.max_out > 1 else "")


class BcosLinear(nn.Module):
    """A linear layer without a bias, by weights of norm 1, times ``|cos|^(b - 1)``: (..., I) -> (..., O).

    Args:
        in_features: I.
        out_features: O.
        b: B; 1 is a linear layer.
        max_out: units of which an output is the largest.

    Raises:
        ConfigError: b below 1, or no unit to choose from.
    """

    def __init__(self, in_features: int, out_features: int, b: float = B, max_out: int = 1) -> None:
        super().__init__()
        check_bcos(b, max_out)
        self.in_features, self.out_features, self.b, self.max_out = in_features, out_features, b, max_out
        self.weight = nn.Parameter(torch.empty(out_features * max_out, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights anew: their directions alone matter."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., O), in the dtype of `BcosConv2d`."""
        product = F.linear(x, effective(self.weight, self.b))
        product = largest(product, self.max_out, -1)
        return aligned(product, x, self.b).to(_kept(x))

    def extra_repr(self) -> str:
        """Return what is shown beside the name."""
        return f"{self.in_features}, {self.out_features}, b={self.b:g}"


class UncenteredNorm2d(nn.Module):
    """Batch normalization without centering and without a shift: each channel over its root mean square.

    Training takes that of the batch, evaluation the running one; then it is a factor for each channel, and what was a
    sum over pixels stays one (Boehle et al. 2024, section 3.2).

    Args:
        channels: D.
        eps: what is added to the mean square, which may be small after a few layers.
        momentum: weight of a batch in the running mean square.

    Attributes:
        running_square: (D,) mean square of each channel; the first batch replaces what it starts with.
        batches: number of batches that it has seen.
        weight: (D,) factor of each channel.
    """

    running_square: Tensor
    batches: Tensor

    def __init__(self, channels: int, eps: float = 1e-10, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_square", torch.ones(channels))
        self.register_buffer("batches", torch.tensor(0))

    def reset_parameters(self) -> None:
        """Forget what was learned, and what was seen."""
        nn.init.ones_(self.weight)
        self.running_square.fill_(1.0)
        self.batches.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, h, w), in the dtype of `BcosConv2d`."""
        given = _kept(x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if not self.training or x.is_meta:  # shapes alone, for a receptive field: the batch's statistics are no place
            scale = self.weight * torch.rsqrt(self.running_square.to(x.dtype) + self.eps)
            return (x * scale.to(x.dtype).view(1, -1, 1, 1)).to(given)
        y, square = scaled_by_rms(x, self.weight.to(x.dtype), self.eps)
        with torch.no_grad():
            weight = torch.where(self.batches == 0, 1.0, self.momentum).to(self.running_square.dtype)
            self.running_square.lerp_(square.to(self.running_square.dtype), weight)
            self.batches += 1
        return y.to(given)

    def randomized(
        self, name: str, old: Tensor, normal: Callable[[Sequence[int], torch.dtype], Tensor]
    ) -> Tensor | None:
        """Return what a tensor becomes where a network is made random: mean squares are positive."""
        if name != "running_square":
            return None
        sizes = old.clamp(min=max(1e-3 * float(old.max()), 1e-12)).log()
        deviation = sizes.std() if sizes.numel() > 1 else sizes.new_zeros(())
        return (sizes.mean() + deviation * normal(sizes.shape, sizes.dtype)).exp()

    def extra_repr(self) -> str:
        """Return what is shown beside the name."""
        return f"{self.num_features}"


class TwoSided(nn.Module):
    """The image and its negative, (B, 3, H, W) in [0, 1] -> (B, 6, H, W): [x, 1 - x].

    So a color is a direction, whatever its brightness, and black is no less there than white.

    Attributes:
        shift: what is taken from the image before.
    """

    shift = 0.0

    def forward(self, image: Tensor) -> Tensor:
        """Return the six channels."""
        if self.shift:
            image = image - self.shift
        return torch.cat([image, 1 - image], 1)


def _kept(x: Tensor) -> torch.dtype | None:
    """Return the dtype of what a layer makes of x; None leaves it, under autocast, whose next layer picks its own."""
    return None if autocasting(x) else x.dtype


def b_of(backbone: nn.Module) -> float | None:
    """Return B of the last B-cos convolution of a backbone whose account is exact to pixels; None of any other."""
    if getattr(backbone, "account", "cells") != "pixels":
        return None
    known = [layer.b for layer in backbone.modules() if isinstance(layer, BcosConv2d)]
    return known[-1] if known else None


def largest(values: Tensor, count: int, dim: int) -> Tensor:
    """Return the largest of every `count` values along a dimension, which lie as far apart as there are results."""
    return functools.reduce(torch.maximum, values.chunk(count, dim))


def effective(weight: Tensor, b: float, unit_norm: bool = True) -> Tensor:
    """Return (O, ...) weights brought to norm 1; or to the b-th root of their norm, see `BcosConv2d`."""
    if b == 1 and not unit_norm:
        return weight
    norm = torch.linalg.vector_norm(weight.flatten(1), dim=1).clamp_min(_TINY)
    scale = norm.reciprocal() if unit_norm else norm.pow(1 / b - 1)
    scaled: Tensor = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    return scaled


def check_bcos(b: float, max_out: int) -> None:
    """Check the options of a B-cos layer.

    Raises:
        ConfigError: b below 1, or no unit to choose from.
    """
    if not 1 <= b <= 10:
        raise ConfigError(f"b: {b} given, from 1 (a linear layer) to 10 is needed")
    check_range("max_out", max_out, least=1)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
