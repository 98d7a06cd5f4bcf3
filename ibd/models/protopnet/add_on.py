"""The layers between backbone and prototypes (Chen et al. 2019, section 2.1; its code's `add_on_layers_type`)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn

from ibd.backbones.bcos.layers import BcosConv2d

AddOn = Literal["regular", "bottleneck", "none"]


def build_add_on(kind: AddOn, channels: int, dimension: int, sigmoid: bool = True, b: float | None = None) -> nn.Module:
    """Return 1x1 convolutions from `channels` to `dimension`, with Kaiming weights and zero biases.

    Args:
        kind: "regular" is convolution, ReLU, convolution; "bottleneck" halves the channels again and again; "none" is
            nothing, and the prototypes then live among the backbone's own channels.
        channels: D of the backbone's feature map.
        dimension: dimension of the prototypes; for "none" it must be `channels`.
        sigmoid: whether to end with a sigmoid, as published; else the last convolution is the end.
        b: B of B-cos convolutions, after which no ReLU is needed, and which have no bias; None makes plain ones.
    """
    if kind == "none":
        return nn.Identity()
    sizes = [dimension, dimension] if kind == "regular" else _halved(channels, dimension)
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *sizes]):
        layers += [nn.Conv2d(before, after, 1), nn.ReLU()] if b is None else [BcosConv2d(before, after, 1, b=b)]
    if b is None:
        layers.pop()  # the sigmoid takes its place
    if sigmoid:
        layers.append(nn.Sigmoid())
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _halved(channels: int, dimension: int) -> list[int]:
    """Return the channels after each convolution of "bottleneck": two of a size, half as many each time."""
    sizes = list[int]()
    while channels > dimension or not sizes:
        channels = max(dimension, channels // 2)
        sizes += [channels, channels]
    return sizes
