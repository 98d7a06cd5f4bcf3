"""A layer of anybody's network as a backbone: ``foreign/package.module:make``."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor, nn

from ibd import registry
from ibd.backbones.base import STATISTICS, Backbone, Normalize
from ibd.errors import ConfigError, UnsupportedError, did_you_mean, told

PREFIX = "foreign/"
"""What stands before the place of a network in a configuration."""

_FED = {"unit": STATISTICS["none"], "imagenet": STATISTICS["imagenet"], "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}


class ForeignBackbone(Backbone):
    """The map (B, D, h, w) that a layer of a network of your own puts out; what follows that layer is left out.

    The function is called without arguments, and returns the network with its weights; a checkpoint keeps these, and is
    read with ``--trust`` alone, as reading it calls the function again.

    Args:
        name: "foreign/" and package.module:NAME of a function that makes the network, or of the network itself.
        layer: name of the layer in the network, as of ``named_modules()``.
        preprocess: what the network is fed with: "unit" (pixels in [0, 1] as they are), "imagenet" (less its mean, over
            its deviation) or "half" (0.5 and 0.5). There is no default: a wrong one makes figures wrong in silence.
        probed_size: side in pixels of the blank image that tells the number of channels.

    Raises:
        ConfigError: there is no such network or layer, or it puts out no map.
        UnsupportedError: the network cannot be cut at the layer (torch.fx cannot follow it).
    """

    config_excludes = ("name",)

    def __init__(
        self, name: str, layer: str, preprocess: Literal["unit", "imagenet", "half"], probed_size: int = 224
    ) -> None:
        super().__init__("none")
        self.name = name
        if preprocess not in _FED:
            raise ConfigError(f"preprocess: '{preprocess}' is not one of {', '.join(_FED)}")
        self.normalize = Normalize(*_FED[preprocess])
        self.layer = layer
        self.network = _cut(_found(name), layer)
        with torch.no_grad():
            features = self.eval()(torch.zeros(1, 3, probed_size, probed_size))
        if not isinstance(features, Tensor) or features.dim() != 4:
            what = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise ConfigError(f"layer: '{layer}' puts out {what}, a map (B, D, h, w) is needed")
        self.out_channels = int(features.shape[1])

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, D, h, w) features of (B, 3, H, W) images in [0, 1]."""
        features: Tensor = self.network(self.normalize(image))[self.layer]
        return features


def _found(name: str) -> nn.Module:
    """Return the network that ``foreign/package.module:NAME`` makes or is.

    Raises:
        ConfigError: there is none.
        UntrustedError: a run or checkpoint that is not trusted names it.
    """
    given = registry.own_object(name.removeprefix(PREFIX), f"backbone '{name}'")
    try:
        network = given if isinstance(given, nn.Module) else given()
    except Exception as error:  # whatever the code of a stranger does
        raise ConfigError(f"backbone '{name}' fails: {told(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"backbone '{name}': what it makes is no torch.nn.Module ({type(network).__name__})")
    return network


def _cut(network: nn.Module, layer: str) -> nn.Module:
    """Return the network up to a layer, as a graph that returns ``{layer: output}``.

    Raises:
        ConfigError: there is no such layer.
        UnsupportedError: torch.fx cannot follow the network, or does not see the layer.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        raise ConfigError(f"layer: the network has no '{layer}'.{did_you_mean(layer, names)}")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        cut: nn.Module = create_feature_extractor(network, [layer])
    except Exception as error:  # whatever a stranger's network does while it is traced
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UnsupportedError(f"layer: the network cannot be cut at '{layer}' (torch.fx): {reason}") from None
    finally:
        logging.disable(before)
    return cut
