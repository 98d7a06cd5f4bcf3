"""Small networks to train from nothing: `SmallCNN` for images of 64 pixels, `CifarResNet` for 32."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from ibd.backbones.base import Backbone, Norm, Normalization, initialize, norm_layer
from ibd.errors import ConfigError, check_range

_MOST_WEIGHTS, _MOST_LAYERS = 10**9, 2000
"""More than this is a slip of the hand, and would be drawn at random for hours."""


class SmallCNN(Backbone):
    """Stages of 3x3 convolution, normalization, ReLU; (B, 3, 64, 64) -> (B, width * 2**(depth - 1), 8, 8).

    Each stage doubles the channels; the first three halve the resolution by striding, which trains more than twice as
    fast as the same channels with max-pooling. A cell sees 31 pixels; with `field` fewer, however deep the network is.

    Args:
        width: Channels of the first stage.
        depth: Number of stages, at least 3.
        norm: Kind of normalization; "group" makes no difference between training and evaluation.
        field: Pixels in a row that a cell sees: 1, 3, 7, 15, 31 and 16 more for each further stage; null for all that
            the depth gives. Stages that it leaves no room for have 1x1 convolutions. Cells are 8 pixels apart: with
            fields of 1, 3 and 7 some pixels are seen by none.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else "half".
    """

    def __init__(
        self,
        width: int = 16,
        depth: int = 4,
        norm: Norm = "batch",
        field: int | None = None,
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        super().__init__(normalize)
        check_range("width", width, least=1)
        check_range("depth", depth, least=3)
        _check_size(width, depth, 6 * width**2 * 4 ** min(depth - 1, 40))
        spatial, channels = depth if field is None else _stages_within(field, depth, norm), 3
        for stage in range(depth):
            before, channels = channels, width * 2**stage
            kernel = 3 if stage < spatial else 1
            layers = OrderedDict(
                conv=nn.Conv2d(before, channels, kernel, stride=2 if stage < 3 else 1, padding=kernel // 2, bias=False),
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
        norm: Kind of normalization; "group" makes no difference between training and evaluation.
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
        if depth < 8 or (depth - 2) % 6:
            nearest = 6 * max(1, round((depth - 2) / 6)) + 2
            raise ConfigError(f"depth: a CIFAR ResNet has 6n + 2 layers, not {depth}. Did you mean {nearest}?")
        _check_size(width, depth, 63 * (depth - 2) * width**2)
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


def _stages_within(field: int, depth: int, norm: Norm) -> int:
    """Return how many stages have 3x3 convolutions where a cell sees `field` pixels in a row."""
    sizes = [1]
    for stage in range(depth):  # a stage sees a ring more of cells that are 1, 2, 4, and then 8 pixels apart
        sizes.append(sizes[-1] + 2 * 2 ** min(stage, 3))
    if field not in sizes:
        near = min(sizes, key=lambda size: abs(size - field))
        known = ", ".join(map(str, sizes)) if len(sizes) < 8 else f"1, 3, 7, 15, 31, ..., {sizes[-1]}"
        raise ConfigError(
            f"field: {field} given, but a cell of {depth} stages can see {known} pixels in a row. Did you mean {near}?"
        )
    if norm == "group":
        raise ConfigError(f"field: {field} given, but norm 'group' lets every cell see the whole image; batch does not")
    return sizes.index(field)


def _check_size(width: int, depth: int, weights: int) -> None:
    """Refuse a network of about so many `weights` before anything of it is made."""
    if weights > _MOST_WEIGHTS:
        raise ConfigError(
            f"depth: {depth} given with width {width}, which makes 10^{math.log10(weights):.0f} weights or more; "
            "at most 10^9 are allowed"
        )
    if depth > _MOST_LAYERS:
        raise ConfigError(f"depth: {depth} given, at most {_MOST_LAYERS} is allowed")


def _block(before: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    from torchvision.models.resnet import BasicBlock  # the other networks here do without, and are ready sooner

    shortcut = None
    if stride != 1 or before != channels:
        shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), norm_layer(norm, channels))
    block: nn.Module = BasicBlock(before, channels, stride, shortcut, norm_layer=lambda width: norm_layer(norm, width))
    return block
