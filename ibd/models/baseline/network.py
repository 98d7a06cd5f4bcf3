"""The plain CNN: backbone, spatial mean, linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibd.backbones.base import Backbone
from ibd.backbones.precision import full_precision
from ibd.models.base import InterpretableNetwork
from ibd.models.linear_head import linear_contributions
from ibd.models.painting import spatial_mean
from ibd.models.sliders import Sliders
from ibd.models.values import Values
from ibd.types import Units


class BaselineNetwork(InterpretableNetwork):
    """Global average pooling and a linear layer, so that CAM (Zhou et al. 2016) is its exact decomposition.

    Its units are the D channels of the last feature map; they have no meaning that a person gave them.
    """

    unit_kind = "channel"
    linear_units = True
    proportional = True  # with that its own explanation is CAM, exactly

    def __init__(self, backbone: Backbone, class_names: Sequence[str]) -> None:
        names = [f"channel {index}" for index in range(backbone.out_channels)]
        super().__init__(backbone, names, class_names)
        self.head = nn.Linear(backbone.out_channels, len(class_names))

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into channel activations."""
        return self.encode_features(self.backbone(image))

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into channel activations, whose maps they are."""
        return Units(spatial_mean(features), features)

    def decode(self, units: Units) -> Tensor:
        """Turn channel activations into (B, C) logits, in float32 also under autocast."""
        with full_precision(units.scores):
            return self.head(units.scores.to(self.head.weight.dtype))  # type: ignore[no-any-return]

    def edit(self, units: Units, values: Values) -> Units:
        """Set channels to an activation, or scale it: ``{"channel 17": 0}`` switches it off."""
        scores = units.scores.clone()
        for index, value in self.resolve_values(values).items():
            scores[:, index] = self.changed(value, scores[:, index])
        return Units(scores, units.maps, units.state)

    def contributions(self, units: Units) -> Tensor:
        """Return activation times weight, (B, D, C)."""
        return linear_contributions(units.scores, self.head.weight)

    def bias(self) -> Tensor:
        """Return the (C,) bias of the linear layer."""
        return self.head.bias

    def linear_weight(self) -> Tensor:
        """Return the (C, D) weight of the linear layer."""
        return self.head.weight

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that set channels to an activation."""
        return self._value_sliders(units, seen)

    def named_units(self) -> Tensor:
        """Return that no channel has a meaning, (D,) bool."""
        return torch.zeros(len(self.unit_names), dtype=torch.bool)

    def readable(self, units: Units) -> Tensor:
        """Return the pooled activations, (B, D)."""
        return units.scores
