"""torchvision's classification networks, cut off before their pooling."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torchvision import models

from ibd.backbones import weights as files
from ibd.backbones.base import Backbone, Normalization, Statistics, initialize
from ibd.errors import ConfigError, did_you_mean

_FAMILIES = ("resnet", "resnext", "wide_resnet", "vgg", "densenet", "mobilenet_v3", "efficientnet", "convnext")
_HEAD = ("avgpool", "classifier", "fc")


def torchvision_names() -> list[str]:
    """Return the names of the networks that `TorchvisionBackbone` can be."""
    return [name for name in models.list_models(module=models) if name.startswith(_FAMILIES)]


class TorchvisionBackbone(Backbone):
    """A ResNet, VGG, DenseNet, MobileNetV3, EfficientNet or ConvNeXt; (B, 3, H, W) -> (B, D, ~H/32, ~W/32).

    Modules have torchvision's own names (``layer4.1.bn1``, ``features.norm5``), so its weights load as they are.

    Args:
        name: torchvision's name of the network.
        weights: Name of torchvision's weights ("DEFAULT", "IMAGENET1K_V1"), or a file, or null for random ones.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else "imagenet".
    """

    config_excludes = ("name",)

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        if name not in torchvision_names():
            raise ConfigError(f"no torchvision backbone '{name}'.{did_you_mean(name, torchvision_names())}")
        super().__init__(normalize, cast(Statistics, files.statistics(name)))
        self.name = name
        for child, layer in _network(name).named_children():
            if child not in _HEAD:
                self.add_module(child, layer)
        if name.startswith("densenet"):  # a function in torchvision; not in place, so that `features` keeps its output
            self.relu = nn.ReLU()
        if name.startswith("convnext"):  # measured: its 7x7 depthwise convolutions train at 0.83 of the speed
            self.channels_last_on = frozenset({"cuda"})
        self.out_channels = list(self.parameters())[-1].shape[0]
        self.start_from(weights, init_from)

    def published(self, weights: str) -> files.State | None:
        """Return torchvision's published weights, or None where `weights` is a path."""
        return files.download(self.name, weights)


def _network(name: str) -> nn.Module:
    if not name.startswith("vgg"):
        return cast(nn.Module, models.get_model(name, weights=None))
    with torch.device("meta"):  # its classifier, which nobody needs, is half a gigabyte and seconds of random numbers
        network = cast(nn.Module, models.get_model(name, weights=None))
    features = cast(nn.Module, network.features).to_empty(device=torch.get_default_device())
    initialize(features)
    return nn.ModuleDict({"features": features})
