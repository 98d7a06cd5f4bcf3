"""The channels that a network without whitening has where another one has axes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError
from ibd.models.baseline.lightning import Baseline
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.types import DataSpec


class BaselineChannels:
    """A baseline's outputs of the batch normalization that is whitened in another network.

    Args:
        module: module of the baseline.
        model: model that has axes there.
        spec: description of the data that both are to read.

    Raises:
        ConfigError: the baseline has no such layer, or was trained on other classes or at another size.
    """

    def __init__(self, module: Baseline, model: ConceptWhitening, spec: DataSpec) -> None:
        self.module, self.layer = module, _layer(module, model)
        self.device = next(module.parameters()).device
        own = module.spec
        if own.class_names != spec.class_names:
            raise ConfigError(
                f"the baseline (a {type(module).__name__}) was trained on other classes than the data has"
            )
        if own.image_size != spec.image_size:
            sizes = " and ".join(f"{height} x {width}" for height, width in (own.image_size, spec.image_size))
            raise ConfigError(f"the baseline and the data differ in the size of images: {sizes} pixels")

    def read(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, C) logits and (B, D, h, w) channels of (B, 3, H, W) images, on the baseline's device."""
        parts: list[Tensor] = []
        # Cloned: a ReLU that follows may work in place.
        handle = self.layer.register_forward_hook(lambda layer, given, output: parts.append(output.clone()))
        try:
            logits = self.module.network(image.to(self.device)).logits
        finally:
            handle.remove()
        return logits, torch.cat(parts)


def _layer(module: Baseline, model: ConceptWhitening) -> nn.Module:
    """Return the baseline's layer in place of the last whitened one."""
    name, axes = model.network.layer_names[-1], len(model.network.unit_names)
    kind = type(module).__name__
    try:
        layer = module.network.backbone.get_submodule(name)
    except AttributeError:
        layer = nn.Module()
    if not isinstance(layer, nn.BatchNorm2d) or layer.num_features != axes:
        raise ConfigError(
            f"the baseline (a {kind}) has no batch normalization of {axes} channels at '{name}': its backbone must be "
            "that of the whitened network"
        )
    return layer
