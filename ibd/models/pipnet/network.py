"""PIP-Net: image -> one prototype at each position -> which are present -> sums of evidence (Nauta et al. 2023)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ibd.backbones.base import Backbone
from ibd.errors import ConfigError, UnsupportedError, check_range, check_weights
from ibd.models.pipnet.losses import log_odds
from ibd.models.prototypes import LinearPrototypes
from ibd.models.sliders import Sliders
from ibd.types import DataSpec, Units


class PIPNetwork(LinearPrototypes):
    """A unit is a channel; its score is its largest share of any position, its presence in the image.

    A logit is the evidence for a class, at least 0. An image with no evidence for any class is not classified: the
    network abstains.

    Args:
        backbone: feature extractor.
        spec: description of the data, with the C classes.
        prototypes: P, by a 1x1 convolution after the backbone; None takes the backbone's own channels.
        threshold: presence below which a prototype counts as absent, 0, in evaluation mode.
        bias: whether a class has evidence of its own, at least 0; then no image is without.
        finer: number of the last stages of the backbone that halve the resolution which keep it.

    Attributes:
        add_on: the 1x1 convolution, or nothing.
        head: linear; starts at weights ~ N(1, 0.1), of which the positive part counts.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        prototypes: int | None = None,
        threshold: float = 0.1,
        bias: bool = False,
        finer: int = 0,
    ) -> None:
        check_range("model.prototypes", 1 if prototypes is None else prototypes, least=1)
        check_range("model.threshold", threshold, least=0)
        check_range("model.finer", finer, least=0)
        count = prototypes or backbone.out_channels
        check_weights("model.prototypes", count, count * len(spec.class_names))
        super().__init__(backbone, count, spec.class_names)
        keep_resolution(backbone, finer)
        self.threshold = threshold
        self.add_on: nn.Module = nn.Identity()
        if prototypes is not None:
            convolution = nn.Conv2d(backbone.out_channels, count, 1)
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
            self.add_on = convolution
        self.has_bias = bias
        self.head = nn.Linear(count, len(spec.class_names), bias=bias)
        nn.init.normal_(self.head.weight, mean=1.0, std=0.1)
        if bias:
            nn.init.zeros_(self.head.bias)

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into presences, (B, P) in [0, 1], and the shares of each position, (B, P, h, w).

        In float32 also under autocast. Shares add up to 1 over the prototypes; the maps show them as they are, the
        scores of an evaluation are 0 below the threshold.
        """
        features = self.add_on(self.backbone_maps(image))
        maps = features.to(torch.promote_types(features.dtype, torch.float32)).softmax(1)
        presence = maps.amax((2, 3))
        if not self.training:
            presence = presence * self.present(presence)
        return Units(presence, maps)

    def present(self, presence: Tensor) -> Tensor:
        """Return which of (B, P) presences reach the threshold."""
        return presence >= self.threshold

    def connections(self) -> Tensor:
        """Return the (C, P) last layer, at least 0: a prototype speaks for classes, and against none."""
        return self.head.weight.relu()

    def abstains(self, logits: Tensor) -> Tensor:
        """Return for which images no prototype that is present counts for any class, (B,) bool."""
        return (logits == self.bias().to(logits.dtype)).all(1)

    def class_probabilities(self, logits: Tensor) -> Tensor:
        """Return (B, C) probabilities as they were trained: ``1 + o^2``, normalized; uniform without evidence."""
        return log_odds(logits).softmax(1)

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that multiply presences, with the rule of `class_probabilities`."""
        return dataclasses.replace(super().sliders(units, seen), squared=True)

    def zeros(self) -> Tensor:
        """Return the share of connections that are exactly 0, in [0, 1]."""
        return (self.weight() == 0).float().mean()

    @torch.no_grad()
    def shrink(self, amount: float) -> None:
        """Take one proximal step of an L1 penalty on non-negative weights: ``W := max(W - amount, 0)``.

        A connection that is 0 has no gradient, so it stays 0.
        """
        self.head.weight.sub_(amount).clamp_(min=0)
        if self.head.bias is not None:
            self.head.bias.clamp_(min=0)


def keep_resolution(backbone: Backbone, stages: int) -> None:
    """Set the strided convolutions of the last stages that have any to stride 1; weights stay as they are.

    Args:
        backbone: backbone whose stages are its children, or within these where one holds several.
        stages: number of stages.

    Raises:
        ConfigError: there are not that many.
        UnsupportedError: one of them lowers the resolution in another way, too, or the backbone takes one size alone.
    """
    if stages and getattr(backbone, "only_size", None) is not None:
        raise UnsupportedError(f"model.finer: {backbone.name} takes images of one size, its resolution is fixed")
    children = [child for child in backbone.children() if child is not backbone.normalize]
    if len(children) == 1:
        children = list(children[0].children())
    strided = [stage for child in children for stage in _stages(child)]
    if stages > len(strided):
        raise ConfigError(f"model.finer: {stages} given, but {backbone.name} has {len(strided)} strided stages")
    for stage in strided[len(strided) - stages :]:
        if any(isinstance(m, nn.AvgPool2d | nn.MaxPool2d) and m.stride not in (1, (1, 1)) for m in stage.modules()):
            raise UnsupportedError(f"model.finer: {stages} given, but {backbone.name} halves the resolution by pooling")
        for convolution in _strided(stage):
            convolution.stride = (1, 1)


def _stages(module: nn.Module) -> list[nn.Module]:
    """Return a module with strided convolutions; what it is a sequence of where several of these have some."""
    parts = [part for part in module.children() if _strided(part)]
    if isinstance(module, nn.Sequential) and len(parts) > 1:
        return [stage for part in parts for stage in _stages(part)]
    return [module] if _strided(module) else []


def _strided(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
