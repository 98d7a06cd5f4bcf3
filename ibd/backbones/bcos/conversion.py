"""Making a B-cos network of a trained CNN, whose weights it keeps (B-cosification, Arya et al., NeurIPS 2024)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ibd.backbones.base import Backbone, Normalize
from ibd.backbones.bcos.fading import Fading
from ibd.backbones.bcos.fading_layers import FadingConv2d, FadingLinear, FadingNorm
from ibd.backbones.bcos.layers import B, BcosConv2d, TwoSided, check_bcos
from ibd.backbones.bcos.structure import first_convolution
from ibd.errors import ConfigError

_Network = TypeVar("_Network", bound=nn.Module)
_CONVERTED = (nn.Conv2d, nn.Linear, _BatchNorm)
_WITHOUT_FORM = (
    *(_ConvNd, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase),
    *(nn.GroupNorm, nn.LayerNorm, _InstanceNorm, nn.LocalResponseNorm),
    *(nn.Softplus, nn.LogSigmoid, nn.LogSoftmax),
)
"""Layers that are not, for the input at hand, a linear map of it, and would stay so."""
_METHODS = ("forward", "_conv_forward")
"""What a layer computes; one with its own computes something else."""


def bcosify(
    network: _Network, b: float = B, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> _Network:
    """Make a B-cos network of a CNN, in place and with its weights; at first it computes what it did.

    Its first convolution sees six channels, ``[x, 1 - x]`` of an image x in [0, 1]: the normalization of the image is
    folded into its weights, so that zeros around the image mean what they meant. Convolutions, linear layers and batch
    normalizations become layers that fade (`set_fade`): b goes from 1 to `b`, and biases and centering go. Wholly faded
    the network's output is, for the image at hand, a linear map of its six channels, without anything beside it:
    rectifiers and other activations through the origin stay, and within `Linearized` they, and gates, are factors.

    Args:
        network: a CNN of convolutions, batch normalizations, linear layers, activations and pooling: one of ours,
            torchvision's or timm's. A `Backbone` still takes three channels: its first layer makes six of them.
        b: B in the end.
        mean: mean of the three channels that images were normalized with before the network; by default 0, and of a
            `Backbone` that of its first layer.
        std: their standard deviation; by default 1.

    Returns:
        The network.

    Raises:
        ConfigError: b below 1, a layer that has no B-cos form, statistics of another number, or a network that is a
            B-cos network already.
    """
    check_bcos(b, max_out=1)
    alpha, beta = _two_sides(*_statistics(network, mean, std))
    layers = {layer: new for name, layer in network.named_modules() if (new := _converted(name, layer, b)) is not None}
    first = layers[network.get_submodule(first_convolution(network))]
    assert isinstance(first, FadingConv2d)
    with torch.no_grad():
        scales = torch.cat([alpha, beta]).to(first.weight).view(1, -1, 1, 1)
        first.weight = nn.Parameter(first.weight.repeat(1, 2, 1, 1) * scales, first.weight.requires_grad)
    first.in_channels = 6
    for parent in list(network.modules()):
        for name, layer in list(parent._modules.items()):  # also a layer that is there twice
            if layer is not None and layer in layers:
                setattr(parent, name, layers[layer].train(layer.training))
    if isinstance(network, Backbone):
        network.normalize = TwoSided()
        network.account = "pixels"
    return network


def _converted(name: str, layer: nn.Module, b: float) -> nn.Module | None:
    """Return what a layer becomes; None for one that stays, or of which the parts are changed.

    Raises:
        ConfigError: it has no B-cos form.
    """
    kind = type(layer).__name__
    if isinstance(layer, Fading | BcosConv2d):
        raise ConfigError(f"'{name}' is a B-cos layer already: a plain network is needed")
    if isinstance(layer, _WITHOUT_FORM) and not isinstance(layer, nn.Conv2d):
        raise ConfigError(f"'{name}', a {kind}, has no B-cos form here: it is no linear map of its input")
    known = next((known for known in _CONVERTED if isinstance(layer, known)), None)
    if known is None:
        if any(tensors.get("bias") is not None for tensors in (layer._parameters, layer._buffers)):
            raise ConfigError(f"'{name}', a {kind}, has no B-cos form here: its bias would stay")
        return None
    follow = OrderedDict(layer.named_children())  # of timm's layers that normalize, then drop and activate
    own = any(getattr(type(layer), method, None) is not getattr(known, method, None) for method in _METHODS)
    if not name or "weight" not in layer._parameters or (own and not (follow and known is _BatchNorm)):
        raise ConfigError(f"'{name}', a {kind}, has no B-cos form here: it is no plain {known.__name__}")
    if isinstance(layer, nn.Conv2d):
        return FadingConv2d.of(layer, b)
    if isinstance(layer, nn.Linear):
        return FadingLinear(layer, b)
    assert isinstance(layer, _BatchNorm)
    return nn.Sequential(OrderedDict(norm=FadingNorm(layer)) | follow) if follow else FadingNorm(layer)


def _statistics(network: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    if isinstance(network, Backbone):
        if not isinstance(network.normalize, Normalize) or mean is not None or std is not None:
            raise ConfigError("mean, std: a backbone has those of its first layer: give none")
        return network.normalize.mean.flatten(), network.normalize.std.flatten()
    given = [
        torch.tensor([*values], dtype=torch.float64, device="cpu") for values in (mean or (0.0,) * 3, std or (1.0,) * 3)
    ]
    if any(values.shape != (3,) for values in given) or not bool((given[1] > 0).all()):
        raise ConfigError("mean, std: one number for each of three channels is needed, and deviations above 0")
    return given[0], given[1]


def _two_sides(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and beta of ``(x - mean) / std = alpha x + beta (1 - x)``, in float64."""
    mean, std = mean.double(), std.double()
    return (1 - mean) / std, -mean / std
