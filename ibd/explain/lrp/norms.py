"""Normalizations: batch normalization in evaluation is affine; others divide by a size that counts as a constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ibd.errors import UnsupportedError

Found = tuple[Tensor, Tensor | None]
"""What a normalization is without its bias, with a graph; the bias, broadcast to it."""


def batch_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    where: Callable[[], str],
) -> tuple[Tensor, Tensor]:
    """Return scale and shift, (C,) each: ``y = scale x + shift``.

    Raises:
        UnsupportedError: it takes the statistics of the batch, in which images depend on each other.
    """
    if training or running_mean is None or running_var is None:
        raise UnsupportedError(
            f"lrp: batch normalization by the statistics of the batch{where()}: images would depend on each other"
        )
    scale = torch.rsqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    return scale, shift if bias is None else shift + bias


def running_instance_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift, (C,) each, of an instance normalization by running statistics; None by its own."""
    if use_input_stats or running_mean is None or running_var is None:
        return None
    return batch_norm(input, running_mean, running_var, weight, bias, eps=eps, where=str)


def normalized(name: str, x: Tensor, *args: Any, **kwargs: Any) -> Found | None:
    """Return ``x`` normalized, its size a constant (as in Ali et al. 2022 for layer normalization); None if unknown.

    Args:
        name: name of the operation.
        x: the surrogate of its input.
        args: other arguments of the call.
        kwargs: arguments given by name.
    """
    pair: Found | None = _NORMS[name](x, *args, **kwargs)
    return pair


def _layer(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Found:  # fmt: skip
    standard = _standard(x, tuple(range(-len(normalized_shape), 0)), eps)
    return standard if weight is None else standard * weight, bias


def _rms(x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Found:
    dims = tuple(range(-len(normalized_shape), 0))
    size = x.detach().square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps)
    scaled = x * size.rsqrt()
    return scaled if weight is None else scaled * weight, None


def _group(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Found:
    standard = _standard(x.reshape(len(x), num_groups, -1), (2,), eps).view(x.shape)
    return _per_channel(standard, weight, bias)


def _instance(
    x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Found:  # fmt: skip
    return _per_channel(_standard(x, tuple(range(2, x.dim())), eps), weight, bias)


def _direction(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Found:
    return x / x.detach().norm(p, dim, keepdim=True).clamp_min(eps), None


def _standard(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    scale = torch.rsqrt(x.detach().var(dims, correction=0, keepdim=True) + eps)
    return (x - x.mean(dims, keepdim=True)) * scale


def _per_channel(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Found:
    shape = (1, -1, *[1] * (x.dim() - 2))
    return x if weight is None else x * weight.view(shape), None if bias is None else bias.view(shape)


_NORMS: dict[str, Callable[..., Found | None]] = {
    "layer_norm": _layer,
    "rms_norm": _rms,
    "group_norm": _group,
    "instance_norm": _instance,
    "normalize": _direction,
}
