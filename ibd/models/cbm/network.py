"""The concept bottleneck network: image -> concept maps -> concept logits -> class logits (Koh et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ibd.backbones.base import Account, Backbone
from ibd.backbones.precision import full_precision
from ibd.errors import UnsupportedError
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.sliders import concept_sliders
from ibd.models.linear_head import linear_contributions, replaced
from ibd.models.painting import spatial_mean
from ibd.models.sliders import Form, Sliders, between
from ibd.models.sparse_heads import FewHeads
from ibd.types import DataSpec, Painting, Units

Bottleneck = Literal["probabilities", "logits", "evidence", "hard"]
Head = Literal["linear", "sparse", "mlp"]


_FORMS: dict[Bottleneck, Form] = {"probabilities": "line", "logits": "line", "evidence": "positive", "hard": "rounded"}
_PERCENTILES = "0 and 1 are the 5th and the 95th percentile of the concept's training logits"
RARE = -3.0
"""Where the offsets of a B-cos bottleneck start: a concept is absent unless something speaks for it."""


class ConceptBottleneckNetwork(ConceptNetwork):
    """A concept's logit is exactly the mean of its map; the classes see nothing but the concepts, and the `residual`.

    On a B-cos backbone a concept's logit is an offset, the logit without any image, and a sum over pixels.
    Contributions are counted from there: a concept adds what the head makes of the difference between what passes the
    bottleneck and what would without evidence, and `bias` is what the head makes of the latter. So a concept that
    nothing speaks for or against adds nothing, and paints nothing, whatever the form of the bottleneck.

    Args:
        backbone: feature extractor with D channels.
        spec: description of the data, with the K concepts, their groups and the C classes.
        bottleneck: form of the concept logits that the head reads: their "probabilities", the "logits" themselves, the
            "evidence", which is the positive part of the logits (on a B-cos backbone, of what they are above the
            offset), or "hard" zeros and ones (with the straight-through gradient).
        head: "linear"; "sparse", which is linear with few concepts, and with the heads of `few` beside it; or "mlp"
            with one hidden layer.
        hidden_units: width of the hidden layer of an "mlp" head.
        softmax_groups: exclusive groups whose probabilities are a softmax over their concepts and "none of them".
        residual: number of units beside the concepts that nobody named: the head reads their scores as they are.

    Attributes:
        low, high: (U,) the 5th and 95th percentile of each unit's logit over the training images, which stand
            for "absent" and "present" where the bottleneck is logits; NaN until training has ended.
        few: heads with so many effective concepts a class, of a "sparse" head; else None.
        error: (K,) how far a standardized quantity is off in the validation images, root mean square; NaN for truth
            values, and until training has ended.
    """

    linear_units = True
    low: Tensor
    high: Tensor
    error: Tensor

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        bottleneck: Bottleneck = "probabilities",
        head: Head = "linear",
        hidden_units: int = 128,
        softmax_groups: Sequence[str] = (),
        residual: int = 0,
    ) -> None:
        super().__init__(backbone, spec, softmax_groups, [f"residual {index}" for index in range(residual)])
        count, classes = len(self.unit_names), len(spec.class_names)
        self.bottleneck = bottleneck
        self.concepts = nn.Conv2d(backbone.out_channels, count, kernel_size=1)
        self.from_offset = getattr(backbone, "account", "cells") == "pixels"
        if self.from_offset:
            assert self.concepts.bias is not None
            self.concepts.bias.data[: self.concept_count] = torch.where(self.measured.flags, 0.0, RARE)
        self.additive = head != "mlp"
        self.proportional = self.additive and bottleneck == "logits"
        self.head: nn.Module = (
            nn.Linear(count, classes)
            if self.additive
            else nn.Sequential(nn.Linear(count, hidden_units), nn.ReLU(), nn.Linear(hidden_units, classes))
        )
        self.few = FewHeads(count, classes) if head == "sparse" else None
        self.register_buffer("low", torch.full((count,), torch.nan))
        self.register_buffer("high", torch.full((count,), torch.nan))
        error = torch.full((self.concept_count,), torch.nan)
        self.register_buffer("error", error, persistent=bool(self.quantities))

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into unit logits (B, U) and their maps (B, U, h, w)."""
        return self.encode_features(self.backbone(image))

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into unit logits and their maps."""
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
        """Return the (U,) unit logits without any image on a B-cos backbone; zeros on any other."""
        if not self.from_offset:
            return torch.zeros_like(self.low)
        assert self.concepts.bias is not None
        return self.concepts.bias.to(torch.promote_types(self.concepts.bias.dtype, torch.float32))

    def linear_pass(self, image: Tensor) -> tuple[Units, Tensor]:
        """Return the units, and the (B, U) logits above the offset."""
        units = self.encode(image)
        return units, units.scores - self.offset()

    def shares(self, units: Units, painting: Painting = "pooling") -> Tensor:
        """Return where each logit, above the offset, came from: (B, U, h, w), adding up to 1."""
        offset = self.offset()
        above = Units(units.scores - offset, units.maps - offset.view(-1, 1, 1))
        return super().shares(above, painting)

    def decode(self, units: Units) -> Tensor:
        """Turn unit logits into (B, C) class logits, in float32 also under autocast."""
        return self.classify(self.head_input(units))

    def head_input(self, units: Units) -> Tensor:
        """Return what passes the bottleneck, (B, U)."""
        return self.activation(units.scores)

    def classify(self, head_input: Tensor) -> Tensor:
        """Apply the head to what passes the bottleneck: (..., U) -> (..., C)."""
        with full_precision(head_input):
            return self.head(head_input.to(self.concepts.weight.dtype))  # type: ignore[no-any-return]

    def activation(self, logits: Tensor) -> Tensor:
        """Return what the head reads, (..., U), of unit logits (..., U): quantities and the residual as they are."""
        concepts = self.measured.numbers(logits[..., : self.concept_count], self._formed(logits))
        return self.with_unnamed(concepts, logits)

    def _formed(self, logits: Tensor) -> Tensor:
        """Return what the head reads of concepts that are truth values, (..., K)."""
        if self.bottleneck == "logits":
            return logits[..., : self.concept_count]
        if self.bottleneck == "evidence":
            return (logits - self.offset())[..., : self.concept_count].relu()
        probability = self.probabilities(logits)
        if self.bottleneck == "probabilities":
            return probability
        hard = (probability > 0.5).to(probability.dtype)
        return hard + (probability - probability.detach())  # straight-through: the value of hard, the other's gradient

    def truth_logits(self, logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Return unit logits that say `truth` where it is `known`.

        The translation is the published one: for a bottleneck of logits, or of evidence, ``(1 - c) P5 + c P95`` with
        the training percentiles of each concept (Koh et al. 2020, section 3), else the logit whose probability is c.

        Args:
            logits: (..., U) logits as predicted.
            truth: (..., K) truth values in [0, 1], quantities in their units; ignored where not known.
            known: (..., K) bool, whether the truth is known.

        Raises:
            UnsupportedError: the bottleneck is logits, or evidence, and the checkpoint has no training percentiles.
        """
        if not self.by_percentiles:
            return super().truth_logits(logits, truth, known)
        told = torch.where(known, self.between_percentiles(truth), logits[..., : self.concept_count])
        return self.with_unnamed(told, logits)

    def certain(self, units: Units, truth: float) -> Tensor:
        """Return what the head would read of a concept that certainly holds (1), or not (0): (B, U)."""
        told = torch.full_like(self.low[: self.concept_count], truth)
        if self.by_percentiles:
            told = self.activation(self.truth_logits(self.low, told, torch.ones_like(told, dtype=torch.bool)))
        return self.with_unnamed(told[: self.concept_count], torch.zeros_like(self.low)).expand(len(units.scores), -1)

    def typical_error(self) -> Tensor | None:
        """Return how far standardized quantities are off, (K,), NaN until training has ended; None without any."""
        return self.error if self.quantities else None

    def head_weight(self) -> Tensor | None:
        """Return the (C, U) weight of a linear head."""
        return self.linear_weight()

    def between_percentiles(self, truth: Tensor) -> Tensor:
        """Return ``(1 - c) P5 + c P95``, (..., K), of (..., K) truth values; of quantities the standardized value.

        Raises:
            UnsupportedError: the checkpoint has no training percentiles.
        """
        if not torch.compiler.is_compiling() and self.low.isnan().any():  # who exports has tried an edit before
            raise UnsupportedError(
                "this checkpoint has no training percentiles, which stand for true and false in a "
                "bottleneck of logits: its run was killed before the end; continue it with `ibd fit resume=RUN`"
            )
        low, high = self.low[: self.concept_count], self.high[: self.concept_count]
        return self.measured.numbers(self.measured.standardized(truth), (1 - truth) * low + truth * high)

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

    def contributions(self, units: Units) -> Tensor:
        """Return what each unit adds to each class logit, (B, U, C).

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
        """Return what passes the bottleneck, (B, U): on a B-cos backbone, beyond what does without evidence."""
        return self.activation(units.scores) - self._nothing()

    def _nothing(self) -> Tensor:
        """Return what passes the bottleneck without evidence, (U,): zeros but on a B-cos backbone."""
        return self.activation(self.offset()) if self.from_offset else torch.zeros_like(self.low)

    def decode_without(self, units: Units, off: Tensor, value: Tensor | float = 0.0) -> Tensor:
        """Return the (B, C) logits with some units replaced in the bottleneck."""
        return self.classify(replaced(self.passed(units), off, value) + self._nothing())

    def linear_weight(self) -> Tensor | None:
        """Return the (C, U) weight of a linear head."""
        return self.head.weight if isinstance(self.head, nn.Linear) else None

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that set concepts to truth values, and quantities in their unit; a residual has none.

        Raises:
            UnsupportedError: the head is not linear, or the checkpoint has no training percentiles that it takes.
        """
        if not isinstance(self.head, nn.Linear):
            raise UnsupportedError("the head has a hidden layer: what setting a concept does, it alone tells")
        head = self.activation(units.scores), self.head.weight.t(), self.head.bias
        form = _FORMS[self.bottleneck]
        if not self.by_percentiles:
            return concept_sliders(self, units, self.probabilities(units.scores), *head, form=form)
        truth = torch.tensor([[0.0], [1.0]], device=units.scores.device).expand(-1, self.concept_count)
        low, high = self.between_percentiles(truth)
        values = between(units.scores[:, : self.concept_count], low, high)
        offset = self.offset()[: self.concept_count] if self.bottleneck == "evidence" else torch.zeros_like(low)
        return concept_sliders(self, units, values, *head, (low - offset, high - offset), form, _PERCENTILES)

    def value_range(self, passed: Tensor | None = None) -> tuple[float, float] | None:
        """Return 0 and 1, or what stands for them in the bottleneck; None before the percentiles are known.

        None, too, where there is a residual, which has another range. Quantities have bounds of their own.
        """
        if len(self.unit_names) > self.concept_count:
            return None
        if not self.by_percentiles:
            return 0.0, 1.0
        ends = (self.measured.numbers(torch.zeros_like(end), self.activation(end)) for end in (self.low, self.high))
        low, high = (float(end.detach()) for end in (next(ends).min(), next(ends).max()))
        return None if math.isnan(low) or math.isnan(high) else (low, high)
