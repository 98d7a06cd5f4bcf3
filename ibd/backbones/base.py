"""What every backbone is: image in [0, 1] in, feature map before any pooling out."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ibd.backbones import weights as files
from ibd.backbones.bcos.fading import SHARE
from ibd.errors import ConfigError

Norm = Literal["batch", "group"]
Normalization = Literal["auto", "imagenet", "half", "none"]
Account = Literal["units", "cells", "pixels"]
"""Down to where a network's account of itself is exact: what each unit adds, each cell of its map, or each pixel."""
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]

STATISTICS: dict[str, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""name -> mean and standard deviation per channel."""
_CHANNELS_AT_A_TIME = 16
"""Of a CPU's vector instructions in float32, with AVX-512; half as many with AVX2."""


class Normalize(nn.Module):
    """The first layer of every backbone: ``(image - mean) / std``.

    The statistics are part of the state dict, so weights never come apart from the scale they were trained with.

    Args:
        mean: Mean of the red, green and blue channel.
        std: Standard deviation of each.
    """

    learns_nothing = True  # a network that forgets what it learned keeps it: the unit of the pixels
    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, 3, H, W) image at zero mean and unit variance."""
        return (image - self.mean) / self.std


class Backbone(nn.Module):
    """A feature extractor; its children are its layers, in the order in which they run.

    Args:
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with.
        default: Mean and standard deviation for "auto" where the weights say nothing.

    Attributes:
        out_channels: D, the channels of the feature map; a subclass sets it.
        name: name for messages.
        channels_last_on: the types of device on which the family is faster with ``torch.channels_last``.
    """

    out_channels: int
    channels_last_on: frozenset[str] = frozenset({"cpu", "cuda"})
    account: Account = "cells"
    """"pixels" where the features are, for the image at hand, a linear map of what the first layer puts out.

    Of a network that is converted (`ibd.backbones.bcosify`): as soon as it has wholly faded.
    """
    fade_share: float = SHARE
    """Share of a training that a conversion takes."""

    def __init__(self, normalize: Normalization = "auto", default: Statistics = STATISTICS["half"]) -> None:
        super().__init__()
        self.name = type(self).__name__
        self._auto = normalize == "auto"
        if normalize not in ("auto", *STATISTICS):
            raise ConfigError(f"normalize: '{normalize}' is not one of auto, {', '.join(STATISTICS)}")
        self.normalize: nn.Module = Normalize(*(default if self._auto else STATISTICS[normalize]))

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, D, h, w) features of (B, 3, H, W) images in [0, 1]."""
        for layer in self.children():
            image = layer(image)
        return image

    def start_from(self, weights: str | None, init_from: str | None) -> None:
        """Replace the random weights; the last thing that a subclass's constructor does.

        Args:
            weights: a file, or a name that `published` knows.
            init_from: a run folder or checkpoint whose backbone has the same architecture.

        Raises:
            ConfigError: both are given, or `weights` is neither a known name nor a path.
            CheckpointError: the weights cannot be had, or do not fit.
        """
        given = self.initial_state(weights, init_from)
        if given is not None:
            self.copy_state(*given)

    def initial_state(self, weights: str | None, init_from: str | None) -> tuple[files.State, str] | None:
        """Return the weights to start from, and where they are from in words; None where nothing says so.

        Args and errors are those of `start_from`.
        """
        if weights is not None and init_from is not None:
            raise ConfigError("weights and init_from both say where the backbone's weights come from: give one of them")
        if init_from is not None:
            return files.read_run(init_from), f"init_from '{init_from}'"
        if weights is not None:
            return self.published(weights) or files.read_file(weights), f"weights '{weights}'"
        return None

    def copy_state(self, state: files.State, source: str) -> None:
        """Replace the weights by those of the same architecture.

        Raises:
            CheckpointError: they do not fit.
        """
        files.copy_into(self, state, source, take_statistics=self._auto)

    def published(self, weights: str) -> files.State | None:
        """Return the state dict of downloadable weights, or None where `weights` is a path.

        Raises:
            ConfigError: it is neither.
        """
        if not files.is_path(weights):
            raise ConfigError(
                f"weights: {self.name} has no published weights '{weights}', and there is no such file; drop "
                "them with model.backbone.weights=null"
            )
        return None


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return batch normalization, or group normalization with up to 8 groups."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    raise ConfigError(f"norm: '{norm}' is not one of batch, group")


def initialize(module: nn.Module) -> None:
    """Draw Kaiming weights (fan out, ReLU) for every convolution; reset every normalization layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            layer.reset_parameters()


def prefers_channels_last(backbone: nn.Module, device: torch.device | str) -> bool:
    """Return whether the backbone is faster on the device after ``.to(memory_format=torch.channels_last)``, and safe.

    Values are the same to rounding.
    """
    kind = torch.device(device).type
    if kind == "cpu" and any(map(_overruns, backbone.modules())):
        return False
    return kind in getattr(backbone, "channels_last_on", ())


def _overruns(layer: nn.Module) -> bool:
    """Return whether the backward pass of a layer with its channels last writes past its memory on a CPU.

    It kills the process, or spoils the gradients: oneDNN, issue 6035, strided 1x1 convolutions of fewer channels than
    it takes at a time.
    """
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or max(layer.stride) == 1:
        return False
    return layer.in_channels // layer.groups < _CHANNELS_AT_A_TIME
