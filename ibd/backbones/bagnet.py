"""BagNets: ResNets whose cells see a small patch of the image each, so that what they say is about that patch alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from ibd.backbones.base import STATISTICS, Backbone, Normalization, initialize
from ibd.errors import ConfigError, check_range, check_weights, did_you_mean

STAGES_WITH_3X3 = {"bagnet9": 2, "bagnet17": 3, "bagnet33": 4}
"""name -> the stages whose first block has a 3x3 convolution; the number in the name is the pixels that a cell sees."""
_STRIDES = (2, 2, 2, 1)
_MOST_BLOCKS = 500


class BagNet(Backbone):
    """The bounded-field ResNet-50 of Brendel & Bethge (ICLR 2019); (B, 3, H, W) -> (B, 32 * width, ~H/8, ~W/8).

    All convolutions are 1x1 but for one of 3x3 before the first stage and one in the first block of as many stages as
    the field needs: 3 pixels, then 2, 4, 8 and 16 more. Nothing is padded, so that every cell sees the same number of
    pixels, 9, 17 or 33 in a row, and none of them is made up. A row of 8k + 1 pixels is seen to its end; of any other
    the last 1 to 7 are not (of 64 the last 7). The smallest image is one field.

    Modules have the published names (``layer1.0.conv2``, ``layer4.2.bn3``), so the published weights load as they are.

    Args:
        name: "bagnet9", "bagnet17" or "bagnet33".
        width: Channels of the first stage; 64 as published, fewer to train on a CPU.
        blocks: Residual blocks of each of the four stages; as published those of a ResNet-50.
        weights: File with weights of the same architecture, or null for random ones.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else "imagenet".
    """

    config_excludes = ("name",)

    def __init__(
        self,
        name: str,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        super().__init__(normalize, STATISTICS["imagenet"])
        if name not in STAGES_WITH_3X3:
            raise ConfigError(f"no BagNet '{name}'.{did_you_mean(name, STAGES_WITH_3X3)}")
        self.name = name
        _check(width, blocks)
        self.conv1 = nn.Conv2d(3, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        before = width
        for stage, (count, stride) in enumerate(zip(blocks, _STRIDES, strict=True)):
            channels, kernel = width * 2**stage, 3 if stage < STAGES_WITH_3X3[name] else 1
            layers = [ValidBottleneck(before, channels, kernel, stride)]
            before = channels * ValidBottleneck.expansion
            layers += [ValidBottleneck(before, channels) for _ in range(1, count)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.out_channels = before
        initialize(self)
        self.start_from(weights, init_from)


class ValidBottleneck(Bottleneck):  # type: ignore[misc]
    """A residual block of 1x1, k x k and 1x1 convolutions, none padded; of the shortcut the last rows and columns go.

    Args:
        before: Channels of its input.
        channels: Channels within; its output has four times as many.
        kernel: k, 1 or 3.
        stride: Stride of the second convolution and of the shortcut.
    """

    def __init__(self, before: int, channels: int, kernel: int = 1, stride: int = 1) -> None:
        after, shortcut = channels * self.expansion, None
        if stride != 1 or before != after:
            shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        super().__init__(before, channels, stride, shortcut)
        self.conv2 = nn.Conv2d(channels, channels, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, 4 * channels, h', w') features of (B, before, h, w)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        if self.conv2.kernel_size != (1, 1):
            shortcut = shortcut[:, :, : out.shape[2], : out.shape[3]]
        out += shortcut
        return self.relu(out)  # type: ignore[no-any-return]


def _check(width: int, blocks: Sequence[int]) -> None:
    """Refuse a network that cannot be, or is too large, before anything of it is made."""
    check_range("width", width, least=1)
    if len(blocks) != len(_STRIDES) or min(blocks) < 1 or max(blocks) > _MOST_BLOCKS:
        raise ConfigError(
            f"blocks: {list(blocks)} given, a number from 1 to {_MOST_BLOCKS} is needed for each of the four stages"
        )
    check_weights("width", width, width**2 * sum(8 * 4**stage * count for stage, count in enumerate(blocks)))
