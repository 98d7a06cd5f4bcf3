"""The layers between backbone and prototypes (Chen et al. 2019, section 2.1; its code's `add_on_layers_type`)."""

from __future__ import annotations

from typing import Literal

from torch import nn

AddOn = Literal["regular", "bottleneck", "none"]


def build_add_on(kind: AddOn, channels: int, dimension: int, sigmoid: bool = True) -> nn.Module:
    """Return 1x1 convolutions from `channels` to `dimension`, with Kaiming weights and zero biases.

    Args:
        kind: "regular" is convolution, ReLU, convolution; "bottleneck" halves the channels again and again; "none" is
            nothing, and the prototypes then live among the backbone's own channels.
        channels: D of the backbone's feature map.
        dimension: dimension of the prototypes; for "none" it must be `channels`.
        sigmoid: whether to end with a sigmoid, as published; else the last convolution is the end.
    """
    if kind == "none":
        return nn.Identity()
    layers: list[nn.Module] = []
    if kind == "regular":
        layers += [nn.Conv2d(channels, dimension, 1), nn.ReLU(), nn.Conv2d(dimension, dimension, 1)]
    else:
        current = channels
        while current > dimension or not layers:
            following = max(dimension, current // 2)
            layers += [nn.Conv2d(current, following, 1), nn.ReLU(), nn.Conv2d(following, following, 1), nn.ReLU()]
            current = following
        layers.pop()  # the sigmoid takes its place
    if sigmoid:
        layers.append(nn.Sigmoid())
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
