"""The stochastic concept bottleneck: image -> a Gaussian over concept logits -> class logits."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from ibd.backbones.base import Backbone
from ibd.backbones.precision import full_precision
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.cbm.network import Bottleneck, ConceptBottleneckNetwork, Head
from ibd.models.scbm.covariance import Covariance
from ibd.models.scbm.gaussian import Marginals, condition, posterior, widening
from ibd.models.scbm.placement import confidence_bound
from ibd.models.sliders import Sliders, plain
from ibd.models.values import Values
from ibd.types import DataSpec, Units

Kind = Literal["global", "amortized"]
Placement = Literal["posterior", "confidence", "percentile"]

_MOST_VALUES = 2**22
"""Entries of covariances that are computed with at a time: 32 MB for each of a handful of tensors."""


class StochasticConceptBottleneckNetwork(ConceptBottleneckNetwork):
    """A concept bottleneck that knows how its concepts depend on each other.

    A score is a concept's marginal logit, and the mean of its map, as in a plain bottleneck; without corrections the
    two answer alike. Correcting concepts moves the others to where the Gaussian has them, given the corrected ones.

    The ``state`` of units is the (B, K) scores as read from the image, the (B, K) truth that was told, NaN where none
    was, and of an amortized covariance the (B, P) numbers that it is made of. Every edit starts from there, so that
    several edits give what one of all of them gives.

    Args:
        backbone: feature extractor with D channels.
        spec: description of the data.
        bottleneck: as in `ConceptBottleneckNetwork`.
        head: as there.
        hidden_units: as there.
        covariance: "global" for all images, or "amortized": predicted from the features of each.
        rank: number of columns that concepts share; None for full rank.
        placement: where the logits of corrected concepts go, from which the others move: the most probable ones
            ("posterior"), to the bound of the "confidence" region, or to the training "percentile" of true and false.
        level: level of the confidence region.
    """

    dependent = True

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        bottleneck: Bottleneck = "probabilities",
        head: Head = "linear",
        hidden_units: int = 128,
        covariance: Kind = "global",
        rank: int | None = None,
        placement: Placement = "posterior",
        level: float = 0.99,
    ) -> None:
        if spec.quantities:
            raise UnsupportedError(
                f"a covariance is of concepts that are true or false, and '{min(spec.quantities)}' is a quantity: take "
                "model.name=cbm"
            )
        super().__init__(backbone, spec, bottleneck, head, hidden_units)
        if not 0 < level < 1:
            raise ConfigError(f"model.level: {level} given, more than 0 and less than 1 is needed")
        self.placement, self.level = placement, level
        self.covariance = Covariance(
            len(spec.concept_names), rank, backbone.out_channels if covariance == "amortized" else None
        )
        self.amortized = covariance == "amortized"

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into concept logits, their maps, and what is needed to correct them."""
        units = super().encode_features(features)
        given = torch.full_like(units.scores, torch.nan)
        if not self.amortized:
            return Units(units.scores, units.maps, (units.scores, given))
        with full_precision(features):
            return Units(units.scores, units.maps, (units.scores, given, self.covariance(features)))

    def factor(self, units: Units) -> Tensor:
        """Return the factors of the covariances, (B, K, R) or (1, K, R) where all images have the same."""
        values = units.state[2] if self.amortized else self.covariance(units.scores)
        return self.covariance.factor(values)

    def edit(self, units: Units, values: Values) -> Units:
        """Set concepts to truth values in [0, 1]; the others follow.

        Raises:
            ConfigError, UnsupportedError: as of a plain bottleneck.
        """
        truth, known = self.told(units, values)
        return self.given(units, torch.where(known, truth, units.state[1]))

    def given(self, units: Units, truth: Tensor) -> Units:
        """Return the units when the truth of some concepts is known, in place of what was before.

        Args:
            units: units from `encode`, edited or not.
            truth: (B, K) in [0, 1], NaN where unknown.
        """
        scores = self.told_scores(units, truth, self.marginals(units, truth))
        return Units(scores, units.maps, (units.state[0], truth, *units.state[2:]))

    def marginals(self, units: Units, truth: Tensor) -> Marginals:
        """Return what each concept logit is like, given the truth of some, (B, K) with NaN where unknown."""
        scores = units.state[0]
        parts = max(1, _MOST_VALUES // scores.shape[1] ** 2)
        factor = self.factor(units).expand(len(scores), -1, -1)
        pieces = (torch.split(whole, parts) for whole in (scores, truth, factor))
        found = [self._given(*part) for part in zip(*pieces, strict=True)]
        return Marginals(*(torch.cat(same) for same in zip(*found, strict=True)))

    def told_scores(self, units: Units, truth: Tensor, found: Marginals) -> Tensor:
        """Return the scores, (B, K), with the truth where it is known, and the marginals found given it elsewhere.

        Where nothing is new they are to the bit as predicted.
        """
        known, scores = ~truth.isnan(), units.state[0]
        variance = self.factor(units).double().square().sum(2)
        new = (found.mean != scores.double() * widening(variance)) | (found.variance != variance)
        moved = torch.where(new, (found.mean / widening(found.variance)).to(scores.dtype), scores)
        return self.truth_logits(moved, truth.masked_fill(~known, 0.0), known)

    def _given(self, scores: Tensor, truth: Tensor, factor: Tensor) -> Marginals:
        known, factor = ~truth.isnan(), factor.double()
        variance = factor.square().sum(2)
        covariance = factor @ factor.mT
        covariance.diagonal(dim1=1, dim2=2).copy_(variance)
        return self.place(scores.double() * widening(variance), covariance, truth.masked_fill(~known, 0.0), known)

    def place(self, mean: Tensor, covariance: Tensor, truth: Tensor, known: Tensor) -> Marginals:
        """Return the marginals of all concepts given some, by the `placement`.

        Args:
            mean: (B, K) float64.
            covariance: (B, K, K) float64.
            truth: (B, K) in [0, 1], ignored where not known.
            known: (B, K) bool.
        """
        if self.placement == "posterior":
            return posterior(mean, covariance, truth, known)
        certain = known & ((truth == 0) | (truth == 1))
        value = torch.logit(truth.double().clamp(1e-6, 1 - 1e-6)) * widening(covariance.diagonal(dim1=1, dim2=2))
        if self.placement == "percentile":
            ends = self.between_percentiles(truth) * widening(covariance.diagonal(dim1=1, dim2=2))
            value = torch.where(certain, ends, value)
        else:
            value = torch.where(certain, confidence_bound(mean, covariance, truth, certain, self.level), value)
        return condition(mean, covariance, value, known)

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that set concepts to truth values, with the Gaussian by which the others move.

        Raises:
            UnsupportedError: as for a plain bottleneck; its bottleneck is evidence, or its placement no posterior.
        """
        if self.placement != "posterior" or self.bottleneck == "evidence":
            what = f"placement {self.placement}" if self.placement != "posterior" else "bottleneck of evidence"
            raise UnsupportedError(f"how concepts move others in a {what}, the network itself tells")
        told, factor = super().sliders(units, seen), self.factor(units).double()
        variance, covariance = factor.square().sum(2), factor @ factor.mT
        covariance.diagonal(dim1=1, dim2=2).copy_(variance)
        return dataclasses.replace(
            told,
            moved="logit" if self.by_percentiles else "probability",
            scores=plain(units.scores),
            mean=plain(units.scores.double() * widening(variance)),
            covariance=plain(covariance if self.amortized else covariance[0]),
        )

    def unmoved(self, units: Units) -> Units:
        """Return the units with the concepts that nobody set where the image had them."""
        read, truth = units.state[:2]
        return Units(torch.where(truth.isnan(), read, units.scores), units.maps, units.state)
