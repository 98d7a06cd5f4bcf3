"""Making a B-cos network of a plain one: layer by layer, under the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ibd.backbones.bcos.layers import BcosConv2d, UncenteredNorm2d
from ibd.errors import ConfigError

Replacement = Callable[[nn.Module], nn.Module | None]
_Kind = TypeVar("_Kind", bound=BcosConv2d)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6)


def bcos_layers(b: float, max_out: int, rectify: bool) -> Replacement:
    """Return what a layer of a plain network becomes in a B-cos network that is trained from nothing.

    Convolutions and batch normalizations have their B-cos forms, and pooling by the maximum is by the mean (Boehle et
    al. 2024). Rectifiers stay where they are asked for: what they let through is as linear as before.
    """

    def replacement(layer: nn.Module) -> nn.Module | None:
        if isinstance(layer, nn.Conv2d):
            return conv_like(layer, b, max_out)
        if isinstance(layer, _BatchNorm):
            return UncenteredNorm2d(layer.num_features)
        if isinstance(layer, _ACTIVATIONS) and not rectify:
            return nn.Identity()
        if isinstance(layer, nn.MaxPool2d):
            return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
        return None

    return replacement


def conv_like(
    layer: nn.Conv2d,
    b: float,
    max_out: int = 1,
    unit_norm: bool = True,
    kind: type[_Kind] = BcosConv2d,  # type: ignore[assignment]
) -> _Kind:
    """Return a B-cos convolution, of a kind, of the shape of a plain one.

    Raises:
        ConfigError: the padding is not one of zeros, or not given in numbers.
    """
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ConfigError(
            f"a convolution with padding '{layer.padding}' of {layer.padding_mode} has no B-cos form here"
        )
    shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return kind(*shape, layer.groups, b=b, max_out=max_out, unit_norm=unit_norm)  # type: ignore[arg-type]


def first_convolution(network: nn.Module) -> str:
    """Return the name of the convolution that sees the pixels: the first that is registered.

    Raises:
        ConfigError: it does not have three input channels, or there is none.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            if layer.in_channels != 3 or layer.groups != 1:
                raise ConfigError(f"'{name}', the first convolution, sees {layer.in_channels} channels: 3 are needed")
            return str(name)
    raise ConfigError(f"{type(network).__name__} has no convolution, of which a B-cos one could be made")


def replace_layers(network: nn.Module, replacement: Replacement) -> None:
    """Put others in the place of layers, in place; where `replacement` returns None a layer stays."""
    for name, child in list(network.named_children()):
        new = replacement(child)
        if new is None:
            replace_layers(child, replacement)
        else:
            setattr(network, name, new.train(child.training))


def two_sided_like(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of the same shape, without weights worth keeping, that sees six channels."""
    return nn.Conv2d(6, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=False)  # type: ignore[arg-type]
