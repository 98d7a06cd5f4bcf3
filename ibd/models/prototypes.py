"""What networks share whose units are prototypes and whose logits are a linear function of how present these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ibd.backbones.base import Backbone
from ibd.backbones.precision import full_precision
from ibd.models.base import InterpretableNetwork
from ibd.models.linear_head import linear_contributions
from ibd.models.painting import Pooling
from ibd.models.sliders import Sliders, plain
from ibd.models.values import Factors, Values
from ibd.types import Units


class LinearPrototypes(InterpretableNetwork):
    """Units are prototypes; a logit is the sum over them of score times weight.

    Args:
        backbone: feature extractor.
        count: P, the number of prototypes.
        class_names: the C classes.
        unit_groups: group name -> indices of its prototypes.

    Attributes:
        head: linear; a subclass sets it.
        mask: (P,) bool, False for a prototype that was switched off by the training.
        factor: (P,) what a person multiplies the scores with, 1 unless edited.
    """

    unit_kind = "prototype"
    has_bias = False
    pooling: Pooling = "max"
    fixed_backbone = False
    """Set where training need not go back through the backbone."""
    head: nn.Linear
    mask: Tensor
    factor: Tensor

    def __init__(
        self,
        backbone: Backbone,
        count: int,
        class_names: Sequence[str],
        unit_groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(backbone, [f"prototype {j}" for j in range(count)], class_names, unit_groups)
        self.register_buffer("mask", torch.ones(count, dtype=torch.bool))
        self.register_buffer("factor", torch.ones(count))

    def backbone_maps(self, image: Tensor) -> Tensor:
        """Return the backbone's features, outside of the autograd graph where it is fixed."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not (self.training and self.fixed_backbone)):
            return self.backbone(image)  # type: ignore[no-any-return]

    def connections(self) -> Tensor:
        """Return the (C, P) last layer as it was trained."""
        return self.head.weight

    def weight(self) -> Tensor:
        """Return the (C, P) last layer as it counts: without pruned prototypes, and with what a person has set.

        In float32 or better, as all that follows from it: a sum of bfloat16 is no explanation.
        """
        weight = self.connections()
        return weight.to(torch.promote_types(weight.dtype, torch.float32)) * (self.mask * self.factor)

    def bias(self) -> Tensor:
        """Return the (C,) bias of the last layer; zeros where it has none."""
        if self.head.bias is None:
            return self.weight().new_zeros(len(self.class_names))
        return self.head.bias.to(self.weight().dtype)

    def decode(self, units: Units) -> Tensor:
        """Turn scores into (B, C) logits, in float32 also under autocast."""
        with full_precision(units.scores):
            weight = self.weight()
            logits = units.scores.to(weight.dtype) @ weight.t()
            return logits if self.head.bias is None else logits + self.bias()

    def edit(self, units: Units, values: Values) -> Units:
        """Multiply scores: ``{"prototype 17": 0}`` switches a prototype off, 2 doubles what it counts."""
        scores = units.scores.clone()
        for index, value in self.resolve_values(values).items():
            scores[:, index] = units.scores[:, index] * self.column(value, scores)
        return Units(scores, units.maps, units.state)

    @property
    def edit_note(self) -> str:
        """A prototype is edited by a factor."""
        return "; a prototype's similarity is multiplied by what is given"

    def contributions(self, units: Units) -> Tensor:
        """Return score times weight, (B, P, C); with the bias they add up to the logits exactly."""
        return linear_contributions(units.scores.to(self.weight().dtype), self.weight())

    def linear_weight(self) -> Tensor:
        """Return the (C, P) last layer as it counts."""
        return self.weight()

    def perfect_score(self) -> float:
        """Return the score of a prototype that is there as much as can be: all of a position."""
        return 1.0

    def value_range(self, passed: Tensor | None = None) -> tuple[float, float] | None:
        """Return the scores of a prototype that is not there at all, and as much as can be."""
        return 0.0, self.perfect_score()

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that multiply scores: 0 switches a prototype off, 1 leaves it, 2 doubles what it counts."""
        scores, count = plain(units.scores), len(self.unit_names)
        return Sliders(
            names=self.unit_names,
            classes=self.class_names,
            groups=self.unit_groups,
            asked=["factor"] * count,
            low=np.zeros(count),
            high=np.full(count, 2.0),
            values=np.ones_like(scores),
            zero=np.zeros(count),
            slope=scores,
            forms=["line"] * count,
            reads=scores,
            weights=plain(self.linear_weight().t()),
            bias=plain(self.bias()),
            note="a prototype's similarity is multiplied by what is set: 0 switches it off, 1 leaves it as it is",
        )

    def readable(self, units: Units) -> Tensor:
        """Return the scores, (B, P)."""
        return units.scores

    def detail(self, unit: int, class_index: int) -> str:
        """Return the weight to a class."""
        weight = float(
            self.connections().detach()[class_index, unit]
        )  # not `weight`: all of it, for each of many prototypes
        return f"x {weight * float(self.mask[unit] * self.factor[unit]):+.2f}"

    def reweight(self, factors: Factors) -> None:
        """Multiply what prototypes count by factors, for good: saved with the model. 0 switches off, 1 restores.

        Raises:
            ConfigError: an unknown prototype, or a factor that is not finite.
        """
        for index, value in self.resolve_values(factors).items():
            self.factor[index] = self.column(value, self.factor.unsqueeze(0))[0]
