"""How well each concept is predicted; those that are numbers apart. What is unknown (NaN) counts for nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.functional.regression import r2_score

from ibd.metrics.concepts import auroc_per_concept, decided
from ibd.metrics.functional.bins import calibration_error
from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.shares import share_interval
from ibd.types import Quantity


@dataclass(frozen=True)
class ConceptFigures:
    """How well a concept that is true or false is predicted.

    Attributes:
        name: name of the concept.
        yes: number of images in which it is known to hold.
        no: number of those in which it is known not to hold; a soft annotation of 0.5 is neither.
        unknown: number of the others.
        accuracy: share of the known that is predicted rightly at probability 0.5, with the score interval of 95 %.
        sensitivity: share of `yes` that is predicted so, with the interval.
        specificity: share of `no` that is predicted so, with the interval.
        auroc: chance that an image in which it holds gets the higher probability; NaN without both kinds of images.
        average_precision: mean precision over the images in which it holds, in the order of its probability; `yes` of
            all known by chance; NaN without both kinds of images.
        ece: expected calibration error in 15 bins; NaN where nothing is known.
    """

    name: str
    yes: int
    no: int
    unknown: int
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    auroc: float
    average_precision: float
    ece: float

    @property
    def constant(self) -> float:
        """Accuracy of whoever says of every image what holds for most: an accuracy no higher shows nothing."""
        known = self.yes + self.no
        return max(self.yes, self.no) / known if known else math.nan


@dataclass(frozen=True)
class QuantityFigures:
    """How well a concept that is a number is predicted.

    Attributes:
        name: name of the concept.
        unit: its unit.
        known: number of images in which it is known.
        unknown: number of the others.
        error: mean absolute error in the unit, with its bootstrap interval of 95 % over images.
        bias: mean of prediction less truth in the unit, with the interval.
        r2: coefficient of determination, at most 1, 0 for the mean; NaN without two different known values.
    """

    name: str
    unit: str
    known: int
    unknown: int
    error: Interval
    bias: Interval
    r2: float


def by_concept(
    probabilities: Tensor, truth: Tensor, names: Sequence[str], quantities: Mapping[int, Quantity]
) -> tuple[tuple[ConceptFigures, ...], tuple[QuantityFigures, ...]]:
    """Return how well each concept is predicted: those that are true or false, and those that are numbers.

    Args:
        probabilities: (N, K) float64; numbers in their units.
        truth: (N, K) in [0, 1], numbers in their units; NaN where unknown.
        names: names of the K concepts.
        quantities: column -> quantity, of the concepts that are numbers.
    """
    truths = [column for column in range(len(names)) if column not in quantities]
    areas = auroc_per_concept(probabilities[:, truths], truth[:, truths]).tolist() if truths else []
    concepts = [
        _concept(names[column], probabilities[:, column], truth[:, column], area)
        for column, area in zip(truths, areas, strict=True)
    ]
    numbers = [
        _quantity(names[column], quantity.unit, probabilities[:, column], truth[:, column])
        for column, quantity in quantities.items()
    ]
    return tuple(concepts), tuple(numbers)


def _concept(name: str, probability: Tensor, truth: Tensor, auroc: float) -> ConceptFigures:
    known = decided(truth)
    stated, holds = probability[known], truth[known] > 0.5
    said = stated > 0.5
    yes, no = int(holds.sum()), int((~holds).sum())
    hits, passes = int((said & holds).sum()), int((~said & ~holds).sum())
    both = yes > 0 and no > 0
    return ConceptFigures(
        name,
        yes,
        no,
        len(truth) - yes - no,
        share_interval(hits + passes, yes + no),
        share_interval(hits, yes),
        share_interval(passes, no),
        auroc,
        float(binary_average_precision(stated, holds.long())) if both else math.nan,
        calibration_error(stated, holds),
    )


def _quantity(name: str, unit: str, predicted: Tensor, truth: Tensor) -> QuantityFigures:
    known = ~truth.isnan()
    said, true = predicted[known], truth[known].double()
    spread = len(true) > 1 and bool((true != true[0]).any())
    r2 = float(r2_score(said, true)) if spread else math.nan
    surplus = said - true
    count = len(true)
    return QuantityFigures(
        name, unit, count, len(truth) - count, mean_interval(surplus.abs()), mean_interval(surplus), r2
    )


def concept_errors(probabilities: Tensor, truth: Tensor, quantities: Mapping[int, Quantity]) -> Tensor:
    """Return how far each concept of each image is off, (N, K) float64; NaN where unknown, or annotated as 0.5.

    A probability less the truth value, in [0, 1]; of a number the difference in standard deviations of the training
    images. Args as of `by_concept`.
    """
    error = (probabilities - truth.double()).abs()
    error = error.masked_fill(~decided(truth) & ~_numbers(truth, quantities), torch.nan)
    for column, quantity in quantities.items():
        error[:, column] /= quantity.deviation
    return error


def concepts_right(probabilities: Tensor, truth: Tensor, quantities: Mapping[int, Quantity]) -> Tensor:
    """Return which concepts of each image are predicted rightly at probability 0.5, (N, K) float64 of 0 and 1.

    NaN where unknown, annotated as 0.5, or a number. Args as of `by_concept`.
    """
    right = ((probabilities > 0.5) == (truth > 0.5)).double()
    return right.masked_fill(~decided(truth) | _numbers(truth, quantities), torch.nan)


def _numbers(truth: Tensor, quantities: Mapping[int, Quantity]) -> Tensor:
    """Return which of the K columns are numbers, (K,) bool."""
    found = [column in quantities for column in range(truth.shape[1])]
    return torch.tensor(found, dtype=torch.bool, device=truth.device)
