"""The concept bottleneck network: image -> concept maps -> concept logits -> class logits (Koh et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ibd.backbones.base import Account, Backbone
from ibd.backbones.precision import full_precision
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.groups import CERTAIN, complete, group_log_odds, group_probabilities, group_truth_logits
from ibd.models.linear_head import LinearHead, linear_contributions, replaced
from ibd.models.painting import spatial_mean
from ibd.models.quantities import Measured
from ibd.models.values import Values
from ibd.types import DataSpec, Painting, Units

Bottleneck = Literal["probabilities", "logits", "evidence", "hard"]


RARE = -3.0
"""Where the offsets of a B-cos bottleneck start: a concept is absent unless something speaks for it."""


class ConceptBottleneckNetwork(InterpretableNetwork):
    """A concept's logit is exactly the mean of its map; the classes see nothing but the concepts.

    On a B-cos backbone a concept's logit is an offset, the logit without any image, and a sum over pixels.
    Contributions are counted from there: a concept adds what the head makes of the difference between what passes the
    bottleneck and what would without evidence, and `bias` is what the head makes of the latter. So a concept that
    nothing speaks for or against adds nothing, and paints nothing, whatever the form of the bottleneck.

    Of a quantity, a concept that is a number, the "logit" is its standardized value, which passes as it is.

    Args:
        backbone: feature extractor with D channels.
        spec: description of the data, with the K concepts, their groups and the C classes.
        bottleneck: form of the concept logits that the head reads: their "probabilities", the "logits" themselves, the
            "evidence", which is the positive part of the logits (on a B-cos backbone, of what they are above the
            offset), or "hard" zeros and ones (with the straight-through gradient).
        head: "linear", or "mlp" with one hidden layer.
        hidden_units: width of the hidden layer of an "mlp" head.
        softmax_groups: exclusive groups whose probabilities are a softmax over their concepts and "none of them".

    Attributes:
        low, high: (K,) the 5th and 95th percentile of each concept's logit over the training images, which stand
            for "absent" and "present" where the bottleneck is logits; NaN until training has ended.
        measured: which concepts are quantities, and how these are standardized.
        error: (K,) how far a standardized quantity is off in the validation images, root mean square; NaN for truth
            values, and until training has ended.
    """

    unit_kind = "concept"
    linear_units = True
    truth_values = True
    low: Tensor
    high: Tensor
    error: Tensor

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        bottleneck: Bottleneck = "probabilities",
        head: Literal["linear", "mlp"] = "linear",
        hidden_units: int = 128,
        softmax_groups: Sequence[str] = (),
    ) -> None:
        super().__init__(backbone, spec.concept_names, spec.class_names, spec.concept_groups)
        count, classes = len(spec.concept_names), len(spec.class_names)
        if count == 0:
            raise ConfigError("a concept bottleneck needs concepts, and this data has none (no concepts.csv?)")
        for name in softmax_groups:
            if name not in spec.exclusive_groups:
                known = did_you_mean(name, spec.exclusive_groups) or " This data has no exclusive group."
                raise ConfigError(f"model.softmax_groups: '{name}' is not an exclusive group of this data.{known}")
        self.bottleneck = bottleneck
        self.softmax_groups = [list(spec.concept_groups[name]) for name in softmax_groups]
        self.exclusive_groups = [list(spec.concept_groups[name]) for name in spec.exclusive_groups]
        self.quantities = spec.measured
        self.measured = Measured(spec.measured, count)
        self.concepts = nn.Conv2d(backbone.out_channels, count, kernel_size=1)
        self.from_offset = getattr(backbone, "account", "cells") == "pixels"
        if self.from_offset:
            assert self.concepts.bias is not None
            self.concepts.bias.data.copy_(torch.where(self.measured.flags, 0.0, RARE))
        self.additive = head == "linear"
        self.proportional = self.additive and bottleneck == "logits"
        self.head: nn.Module = (
            nn.Linear(count, classes)
            if head == "linear"
            else nn.Sequential(nn.Linear(count, hidden_units), nn.ReLU(), nn.Linear(hidden_units, classes))
        )
        self.register_buffer("low", torch.full((count,), torch.nan))
        self.register_buffer("high", torch.full((count,), torch.nan))
        self.register_buffer("error", torch.full((count,), torch.nan), persistent=bool(self.quantities))

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into concept logits (B, K) and their maps (B, K, h, w)."""
        return self.encode_features(self.backbone(image))

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into concept logits and their maps."""
        if self.from_offset:  # in half precision the offset would swallow what is above it
            with full_precision(features):
                maps = self.concepts(features.to(self.concepts.weight.dtype))
        else:
            maps = self.concepts(features)
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        return Units(spatial_mean(maps), maps)

    @property
    def account(self) -> Account:
        """Down to where the account is exact: not to pixels where a concept's probability hangs on others."""
        known = super().account
        return "units" if known == "pixels" and self.softmax_groups else known

    def offset(self) -> Tensor:
        """Return the (K,) concept logits without any image on a B-cos backbone; zeros on any other."""
        if not self.from_offset:
            return torch.zeros_like(self.low)
        assert self.concepts.bias is not None
        return self.concepts.bias.to(torch.promote_types(self.concepts.bias.dtype, torch.float32))

    def linear_pass(self, image: Tensor) -> tuple[Units, Tensor]:
        """Return the units, and the (B, K) concept logits above the offset."""
        units = self.encode(image)
        return units, units.scores - self.offset()

    def shares(self, units: Units, painting: Painting = "pooling") -> Tensor:
        """Return where each logit, above the offset, came from: (B, K, h, w), adding up to 1."""
        offset = self.offset()
        above = Units(units.scores - offset, units.maps - offset.view(-1, 1, 1))
        return super().shares(above, painting)

    def decode(self, units: Units) -> Tensor:
        """Turn concept logits into (B, C) class logits, in float32 also under autocast."""
        return self.classify(self.activation(units.scores))

    def classify(self, activation: Tensor) -> Tensor:
        """Apply the head to what passes the bottleneck: (..., K) -> (..., C)."""
        with full_precision(activation):
            return self.head(activation.to(self.concepts.weight.dtype))  # type: ignore[no-any-return]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return concept probabilities (..., K) of concept logits (..., K); NaN for quantities, which have none."""
        return self._by_group(logits.sigmoid(), logits, group_probabilities)

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return ``log(p / (1 - p))`` of the probabilities, (..., K): it still ranks what is all but certain.

        NaN for quantities.
        """
        return self._by_group(logits, logits, group_log_odds)

    def _by_group(self, values: Tensor, logits: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return (..., K) `values`, in the softmax groups replaced by a function of the group's logits."""
        for group in self.softmax_groups:
            index = torch.tensor(group, device=logits.device)
            values = values.index_copy(-1, index, function(logits[..., group]))
        return self.measured.truth(values)

    def activation(self, logits: Tensor) -> Tensor:
        """Return what the head reads, (..., K), of concept logits (..., K)."""
        return logits if self.bottleneck == "logits" else self.measured.numbers(logits, self._activation(logits))

    def _activation(self, logits: Tensor) -> Tensor:
        """Return what the head reads of truth values."""
        if self.bottleneck == "evidence":
            return (logits - self.offset()).relu()
        probability = self.probabilities(logits)
        if self.bottleneck == "probabilities":
            return probability
        hard = (probability > 0.5).to(probability.dtype)
        return hard + (probability - probability.detach())  # straight-through: the value of hard, the other's gradient

    def truth_logits(self, logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Return concept logits that say `truth` where it is `known`.

        The translation is the published one: for a bottleneck of logits, or of evidence, ``(1 - c) P5 + c P95`` with
        the training percentiles of each concept (Koh et al. 2020, section 3), else the logit whose probability is c.

        Args:
            logits: (..., K) logits as predicted.
            truth: (..., K) truth values in [0, 1], quantities in their units; ignored where not known.
            known: (..., K) bool, whether the truth is known.

        Raises:
            UnsupportedError: the bottleneck is logits, or evidence, and the checkpoint has no training percentiles.
        """
        if self.by_percentiles:
            if self.low.isnan().any():
                raise UnsupportedError(
                    "this checkpoint has no training percentiles, which stand for true and false in a "
                    "bottleneck of logits: its run was killed before the end; continue it with `ibd fit resume=RUN`"
                )
            percentile = (1 - truth) * self.low + truth * self.high
            return torch.where(known, self.measured.numbers(self.measured.standardized(truth), percentile), logits)
        result = torch.where(known, torch.logit(truth.clamp(0, 1)).clamp(-CERTAIN, CERTAIN), logits)
        for group in self.softmax_groups:
            edited = group_truth_logits(logits[..., group], truth[..., group], known[..., group])
            result = result.index_copy(-1, torch.tensor(group, device=logits.device), edited)
        numbers = torch.where(known, self.measured.standardized(truth), logits)
        return self.measured.numbers(numbers, result)

    @property
    def by_percentiles(self) -> bool:
        """Whether true and false are percentiles of the training logits: what the head reads has no bounds."""
        return self.bottleneck in ("logits", "evidence")

    @property
    def edit_note(self) -> str:
        """Where the bottleneck has no bounds, true and false are shown as what stands for them."""
        if not self.by_percentiles:
            return ""
        return "; true and false are the 95th and 5th percentile of the concept's training logits, here as probability"

    def edit(self, units: Units, values: Values) -> Units:
        """Set concepts to truth values in [0, 1], quantities in their unit; the rest of an exclusive group follows a 1.

        Raises:
            ConfigError: an unknown concept, a value outside of [0, 1], or values of an exclusive group that add up to
                more than 1.
            UnsupportedError: as for `truth_logits`.
        """
        truth = torch.zeros_like(units.scores)
        known = torch.zeros_like(units.scores, dtype=torch.bool)
        for index, value in self.resolve_values(values).items():
            truth[:, index], known[:, index] = self.column(value, units.scores), True
            outside = truth[:, index][~((truth[:, index] >= 0) & (truth[:, index] <= 1))]
            if len(outside) and index not in self.quantities:
                raise ConfigError(
                    f"concept '{self.unit_names[index]}' is set to {float(outside[0]):g}: a truth value from 0 to 1 is "
                    "needed"
                )
        for group in self.exclusive_groups:
            total = truth[:, group].sum(1)
            if bool((total > 1 + 1e-6).any()):
                row = truth[total.argmax()]
                given = " and ".join(f"{self.unit_names[i]}={float(row[i]):g}" for i in group if row[i] > 0)
                raise ConfigError(f"{given} exclude each other: their sum can be 1 at most")
        truth, known = complete(truth, known, self.exclusive_groups)
        return Units(self.truth_logits(units.scores, truth, known), units.maps, units.state)

    def contributions(self, units: Units) -> Tensor:
        """Return what each concept adds to each class logit, (B, K, C).

        Exact for a linear head. For an MLP head the entry is the drop of the logit when that concept alone is set to
        nothing in the bottleneck; these do not add up to the logit (`additive` is False).
        """
        passed = self.passed(units)
        if isinstance(self.head, nn.Linear):
            return linear_contributions(passed, self.head.weight)
        count = passed.shape[1]
        without = passed.unsqueeze(1) * (1 - torch.eye(count, device=passed.device, dtype=passed.dtype))
        return self.decode(units).unsqueeze(1) - self.classify(without + self._nothing())

    def bias(self) -> Tensor:
        """Return the (C,) logits of a bottleneck with nothing in it."""
        return self.classify(self._nothing())

    def passed(self, units: Units) -> Tensor:
        """Return what passes the bottleneck, (B, K): on a B-cos backbone, beyond what does without evidence."""
        return self.activation(units.scores) - self._nothing()

    def _nothing(self) -> Tensor:
        """Return what passes the bottleneck without evidence, (K,): zeros but on a B-cos backbone."""
        return self.activation(self.offset()) if self.from_offset else torch.zeros_like(self.low)

    def decode_without(self, units: Units, off: Tensor, value: Tensor | float = 0.0) -> Tensor:
        """Return the (B, C) logits with some concepts replaced in the bottleneck."""
        return self.classify(replaced(self.passed(units), off, value) + self._nothing())

    def linear_weight(self) -> Tensor | None:
        """Return the (C, K) weight of a linear head."""
        return self.head.weight if isinstance(self.head, nn.Linear) else None

    def slider_values(self, units: Units) -> Tensor:
        """Return what passes the bottleneck, (B, K), and not what it is above; quantities are in their units."""
        passed = self.activation(units.scores)
        return self.measured.numbers(self.measured.in_units(passed), passed)

    def _linear_head(self, passed: Tensor | None) -> LinearHead | None:
        bounds = self.value_range()
        if not isinstance(self.head, nn.Linear) or bounds is None:
            return None
        head = LinearHead.of_tensors(self.unit_names, self.class_names, self.head.weight, self.head.bias, bounds)
        return head.in_units(self.quantities)

    def value_range(self, passed: Tensor | None = None) -> tuple[float, float] | None:
        """Return 0 and 1, or what stands for them in the bottleneck; None before the percentiles are known.

        Quantities have bounds of their own.
        """
        if not self.by_percentiles:
            return 0.0, 1.0
        ends = (self.measured.numbers(torch.zeros_like(end), self.activation(end)) for end in (self.low, self.high))
        low, high = (float(end.detach()) for end in (next(ends).min(), next(ends).max()))
        return None if math.isnan(low) or math.isnan(high) else (low, high)

    def rounded(self, units: Units) -> Units:
        """Return the concepts set to true or false, each by itself: those of an exclusive group may all be true.

        Quantities stay as they are.
        """
        truth = (self.readable(units) > 0.5).to(units.scores.dtype)
        scores = self.truth_logits(units.scores, truth, ~self.measured.flags.expand_as(truth))
        return Units(scores, units.maps, units.state)

    def readable(self, units: Units) -> Tensor:
        """Return the concept probabilities, (B, K), and the quantities in their units."""
        return self.measured.numbers(self.measured.in_units(units.scores), self.probabilities(units.scores))
