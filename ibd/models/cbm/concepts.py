"""What networks with labeled concepts share: probabilities, truth values, and what a correction makes of them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ibd.backbones.base import Backbone
from ibd.errors import ConfigError, did_you_mean
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.groups import CERTAIN, complete, group_log_odds, group_probabilities, group_truth_logits
from ibd.models.quantities import Measured, deviations
from ibd.models.values import Values
from ibd.types import DataSpec, Units


class ConceptNetwork(InterpretableNetwork, abc.ABC):
    """A network whose first K units are labeled concepts, with a logit each; others, if any, have no name.

    Shapes: K concepts, U >= K units, R numbers that the head reads.

    Args:
        backbone: feature extractor.
        spec: description of the data, with the K concepts, their groups and the C classes.
        softmax_groups: exclusive groups whose probabilities are a softmax over their concepts and "none of them".
        unnamed: names of the units after the concepts; they are in no group and have no truth value.

    Attributes:
        concept_count: K.
        measured: which concepts are quantities, and how these are standardized: in the place of a logit such a concept
            has its standardized value.
    """

    unit_kind = "concept"
    truth_values = True
    dependent = False
    """Whether concepts that are corrected move others."""

    def __init__(
        self, backbone: Backbone, spec: DataSpec, softmax_groups: Sequence[str] = (), unnamed: Sequence[str] = ()
    ) -> None:
        super().__init__(backbone, [*spec.concept_names, *unnamed], spec.class_names, spec.concept_groups)
        self.concept_count = len(spec.concept_names)
        if self.concept_count == 0:
            raise ConfigError("a concept bottleneck needs concepts, and this data has none (no concepts.csv?)")
        for name in softmax_groups:
            if name not in spec.exclusive_groups:
                known = did_you_mean(name, spec.exclusive_groups) or " This data has no exclusive group."
                raise ConfigError(f"model.softmax_groups: '{name}' is not an exclusive group of this data.{known}")
        self.quantities = spec.measured
        self.measured = Measured(spec.measured, self.concept_count)
        self.softmax_groups = [list(spec.concept_groups[name]) for name in softmax_groups]
        self.exclusive_groups = [list(spec.concept_groups[name]) for name in spec.exclusive_groups]

    @abc.abstractmethod
    def head_input(self, units: Units) -> Tensor:
        """Return what the head reads, (B, R): `decode` is `classify` of it."""

    @abc.abstractmethod
    def classify(self, head_input: Tensor) -> Tensor:
        """Apply the head, in float32 also under autocast: (..., R) -> (..., C)."""

    @abc.abstractmethod
    def certain(self, units: Units, truth: float) -> Tensor:
        """Return what the head would read of each concept by itself if it certainly held (1), or not (0): (B, R)."""

    def labelled(self, concepts: Tensor) -> Tensor:
        """Return what is known of the network's concepts, (N, K), of those of the data: here the same."""
        return concepts

    @property
    def columns(self) -> Tensor:
        """Which of the R numbers are a concept's, (K, r): no others change when it is corrected."""
        return torch.arange(self.concept_count).unsqueeze(1)

    def typical_error(self) -> Tensor | None:
        """Return how far what the head reads of a quantity is off, (K,), NaN for truth values; None without any."""
        return None

    def head_weight(self) -> Tensor | None:
        """Return the (C, R) weight of a linear head; None where it is not linear."""
        return None

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return concept probabilities (..., K) of the logits of all units (..., U); NaN for quantities."""
        concepts = logits[..., : self.concept_count]
        return self._by_group(concepts.sigmoid(), concepts, group_probabilities)

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return ``log(p / (1 - p))`` of the probabilities, (..., K): it still ranks what is all but certain.

        NaN for quantities.
        """
        concepts = logits[..., : self.concept_count]
        return self._by_group(concepts, concepts, group_log_odds)

    def _by_group(self, values: Tensor, logits: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return (..., K) `values`, in the softmax groups replaced by a function of the group's logits."""
        for group in self.softmax_groups:
            index = torch.tensor(group, device=logits.device)
            values = values.index_copy(-1, index, function(logits[..., group]))
        return self.measured.truth(values)

    def with_unnamed(self, concepts: Tensor, units: Tensor) -> Tensor:
        """Return (..., K) values of the concepts, and after them those of (..., U) that are no concept's: (..., U)."""
        if units.shape[-1] == self.concept_count:
            return concepts
        return torch.cat([concepts, units[..., self.concept_count :].to(concepts.dtype)], -1)

    def truth_logits(self, logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Return unit logits that say `truth` where it is `known`: those whose probability is the truth value.

        Args:
            logits: (..., U) logits as predicted.
            truth: (..., K) truth values in [0, 1], quantities in their units; ignored where not known.
            known: (..., K) bool, whether the truth is known.
        """
        concepts = logits[..., : self.concept_count]
        result = torch.where(known, torch.logit(truth.clamp(0, 1)).clamp(-CERTAIN, CERTAIN), concepts)
        for group in self.softmax_groups:
            edited = group_truth_logits(concepts[..., group], truth[..., group], known[..., group])
            result = result.index_copy(-1, torch.tensor(group, device=logits.device), edited)
        numbers = torch.where(known, self.measured.standardized(truth), concepts)
        return self.with_unnamed(self.measured.numbers(numbers, result), logits)

    def edit(self, units: Units, values: Values) -> Units:
        """Set concepts to truth values in [0, 1], quantities in their unit; the rest of an exclusive group follows a 1.

        Raises:
            ConfigError: as for `told`.
            UnsupportedError: as for `truth_logits`.
        """
        truth, known = self.told(units, values)
        return self.given(units, truth.masked_fill(~known, torch.nan))

    def given(self, units: Units, truth: Tensor) -> Units:
        """Return the units with concepts set to their truth, (B, K) in [0, 1], NaN where it is unknown.

        Raises:
            UnsupportedError: as for `truth_logits`.
        """
        known = ~truth.isnan()
        scores = self.truth_logits(units.scores, truth.masked_fill(~known, 0.0), known)
        return Units(scores, units.maps, units.state)

    def told(self, units: Units, values: Values) -> tuple[Tensor, Tensor]:
        """Return what `values` say: the truth of concepts, and which are known by them or follow, both (B, K).

        Raises:
            ConfigError: an unknown concept, a unit without a name, a value outside of [0, 1], or values of an exclusive
                group that add up to more than 1.
        """
        truth = torch.zeros_like(units.scores[:, : self.concept_count])
        known = torch.zeros_like(truth, dtype=torch.bool)
        for index, value in self.resolve_values(values).items():
            if index >= self.concept_count:
                raise ConfigError(f"'{self.unit_names[index]}' is no concept: it has no name, so no truth value either")
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
        return complete(truth, known, self.exclusive_groups)

    def rounded(self, units: Units) -> Units:
        """Return the concepts set to true or false, each by itself: those of an exclusive group may all be true.

        Quantities stay as they are.
        """
        truth = (self.probabilities(units.scores) > 0.5).to(units.scores.dtype)
        scores = self.truth_logits(units.scores, truth, ~self.measured.flags.expand_as(truth))
        return Units(scores, units.maps, units.state)

    def readable(self, units: Units) -> Tensor:
        """Return concept probabilities, quantities in their units, and the scores of units without a name, (B, U)."""
        concepts = self.measured.in_units(units.scores[:, : self.concept_count])
        return self.with_unnamed(self.measured.numbers(concepts, self.probabilities(units.scores)), units.scores)

    def named_units(self) -> Tensor:
        """Return which units are concepts, (U,) bool."""
        return torch.arange(len(self.unit_names)) < self.concept_count

    def unit_scale(self) -> Tensor:
        """Return what changes of `readable` are measured in, (U,), see `InterpretableNetwork`; NaN without a name."""
        return torch.where(self.named_units(), deviations(self.quantities, len(self.unit_names)), torch.nan)
