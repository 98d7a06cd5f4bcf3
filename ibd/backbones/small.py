"""Small networks to train from nothing: `SmallCNN` for images of 64 pixels, `CifarResNet` for 32."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models.resnet import BasicBlock

from ibd.backbones.base import Backbone, Norm, Normalization, initialize, norm_layer
from ibd.errors import ConfigError, check_range

_MOST_CHANNELS = 2**13
"""More of them make layers of gigabytes."""
_MOST_LAYERS = 1202
"""The deepest network of He et al. (2016)."""


class SmallCNN(Backbone):
    """Stages of 3x3 convolution, normalisation, ReLU; (B, 3, 64, 64) -> (B, width * 2**(depth - 1), 8, 8).

    Each stage doubles the channels; the first three halve the resolution by striding, which trains more than twice as
    fast as the same channels with max-pooling. A cell sees 31 pixels.

    Args:
        width: Channels of the first stage.
        depth: Number of stages, at least 3.
        norm: Kind of normalisation; "group" makes no difference between training and evaluation.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else "half".
    """

    def __init__(
        self,
        width: int = 16,
        depth: int = 4,
        norm: Norm = "batch",
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        super().__init__(normalize)
        check_range("width", width, least=1)
        check_range("depth", depth, least=3)
        if depth > _MOST_CHANNELS.bit_length() or width * 2 ** (depth - 1) > _MOST_CHANNELS:
            raise ConfigError(
                f"width {width}, depth {depth}: the last stage has width * 2**(depth - 1) channels, of which there can "
                f"be {_MOST_CHANNELS}"
            )
        channels = 3
        for stage in range(depth):
            before, channels = channels, width * 2**stage
            layers = OrderedDict(
                conv=nn.Conv2d(before, channels, 3, stride=2 if stage < 3 else 1, padding=1, bias=False),
                norm=norm_layer(norm, channels),
                relu=nn.ReLU(inplace=True),
            )
            self.add_module(f"stage{stage + 1}", nn.Sequential(layers))
        self.out_channels = channels
        initialize(self)
        self.start_from(weights, init_from)


class CifarResNet(Backbone):
    """The residual network of He et al. (2016) for CIFAR; (B, 3, 32, 32) -> (B, 4 * width, 8 / s, 8 / s).

    Three groups of (depth - 2) / 6 basic blocks at full, half and quarter resolution. Shortcuts that change the shape
    are 1x1 convolutions (their option B).

    Args:
        depth: Number of weighted layers with the classifier, 6n + 2; 8, 14, 20, 32, 44, 56, 110.
        width: Channels of the first group.
        stem_stride: s, the stride of the first convolution; 2 quarters the cost, so that twice the width is affordable.
        norm: Kind of normalisation; "group" makes no difference between training and evaluation.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else "half".
    """

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        stem_stride: int = 1,
        norm: Norm = "batch",
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        super().__init__(normalize)
        check_range("width", width, least=1)
        check_range("stem_stride", stem_stride, least=1)
        if 4 * width > _MOST_CHANNELS:
            raise ConfigError(f"width: {width} given, at most {_MOST_CHANNELS // 4} is possible")
        if depth > _MOST_LAYERS:
            raise ConfigError(f"depth: {depth} given, at most {_MOST_LAYERS} is possible")
        if depth < 8 or (depth - 2) % 6:
            nearest = 6 * max(1, round((depth - 2) / 6)) + 2
            raise ConfigError(f"depth: a CIFAR ResNet has 6n + 2 layers, not {depth}. Did you mean {nearest}?")
        self.conv1 = nn.Conv2d(3, width, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = norm_layer(norm, width)
        self.relu = nn.ReLU(inplace=True)
        before = width
        for group, channels in enumerate((width, 2 * width, 4 * width)):
            blocks = []
            for index in range((depth - 2) // 6):
                blocks.append(_block(before, channels, 2 if group and not index else 1, norm))
                before = channels
            self.add_module(f"layer{group + 1}", nn.Sequential(*blocks))
        self.out_channels = before
        initialize(self)
        self.start_from(weights, init_from)


def _block(before: int, channels: int, stride: int, norm: Norm) -> BasicBlock:
    shortcut = None
    if stride != 1 or before != channels:
        shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), norm_layer(norm, channels))
    return BasicBlock(before, channels, stride, shortcut, norm_layer=lambda width: norm_layer(norm, width))
