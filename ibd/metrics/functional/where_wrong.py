"""Where a classifier is wrong: by class, by concept, by how sure it was, and image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from ibd.errors import ConfigError, DataError
from ibd.metrics.concepts import decided
from ibd.metrics.functional.bins import Reliability, reliability
from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.by_class import ClassFigures, Confusion, by_class, confusion_matrix, confusions
from ibd.metrics.functional.by_concept import (
    ConceptFigures,
    QuantityFigures,
    by_concept,
    concept_errors,
    concepts_right,
)
from ibd.metrics.functional.checks import check_same, double
from ibd.metrics.functional.shares import share_interval
from ibd.types import Quantity

_NONE: Mapping[int, Quantity] = MappingProxyType({})


@dataclass(frozen=True)
class WhereWrong:
    """Where a classifier is wrong on N images, with C classes and K concepts; tensors are on the device of the input.

    Attributes:
        class_names: names of the classes.
        concept_names: names of the concepts; empty where none are predicted.
        labels: (N,) true classes.
        predicted: (N,) most probable classes.
        confidence: (N,) float64, their probabilities.
        silent: (N,) bool, the images for which there is no prediction; `predicted` says nothing of them, and they count
            as errors.
        right: (N,) bool.
        rank: (N,) int64, place of the true class among the classes by probability, 1 where that is the first.
        concept_values: (N, K) float64, what is predicted of each concept: probabilities, numbers in their units.
        concept_truth: (N, K), what is known of it; NaN where unknown.
        concept_errors: (N, K) float64, how far each concept is off: probability less truth value, of a number in
            standard deviations; NaN where unknown.
        concept_right: (N, K) float64, 1 where a concept is predicted rightly at probability 0.5, 0 where not; NaN
            where it is unknown, or a number.
        matrix: (C, C) int64, images of each class (row) that are taken for each; silent ones are in none.
        accuracy: share of the images that is right, with its score interval of 95 %.
        classes: figures of each class.
        concepts: figures of each concept that is true or false.
        quantities: figures of each concept that is a number.
        class_reliability: how often predicted classes are right, by their stated probability; without silent images.
        concept_reliability: how often concepts hold, by their stated probability, over all known pairs of an image and
            a concept that is true or false; None without any.
    """

    class_names: tuple[str, ...]
    concept_names: tuple[str, ...]
    labels: Tensor
    predicted: Tensor
    confidence: Tensor
    silent: Tensor
    right: Tensor
    rank: Tensor
    concept_values: Tensor
    concept_truth: Tensor
    concept_errors: Tensor
    concept_right: Tensor
    matrix: Tensor
    accuracy: Interval
    classes: tuple[ClassFigures, ...]
    concepts: tuple[ConceptFigures, ...]
    quantities: tuple[QuantityFigures, ...]
    class_reliability: Reliability
    concept_reliability: Reliability | None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def balanced_accuracy(self) -> float:
        """Mean share that is right over the classes that have images."""
        shares = [found.recall.mean for found in self.classes if found.images]
        return sum(shares) / len(shares)

    @property
    def auroc(self) -> float:
        """Mean area under the ROC curve of a class against the rest, over the classes that have one; NaN without."""
        return float(torch.tensor([found.auroc for found in self.classes], dtype=torch.float64).nanmean())

    @cached_property
    def surplus(self) -> Interval:
        """Confidence less what is right, over the images with a prediction, with its bootstrap interval of 95 %.

        Above 0 the classifier claims too much.
        """
        return mean_interval((self.confidence - self.right.double())[~self.silent])

    def confusions(self) -> list[Confusion]:
        """Return which classes are taken for which, the most frequent first."""
        return confusions(self.matrix, self.class_names, self._silent_by_class())

    def worst_classes(self) -> list[ClassFigures]:
        """Return the classes that have images, the lowest share of right ones first."""
        there = [found for found in self.classes if found.images]
        return sorted(there, key=lambda found: (found.recall.mean, -found.images))

    def worst_concepts(self) -> list[ConceptFigures]:
        """Return the concepts of which both values are known, the lowest area under the ROC curve first."""
        there = [found for found in self.concepts if found.yes and found.no]
        return sorted(there, key=lambda found: (found.auroc, found.accuracy.mean))

    def worst_images(self) -> Tensor:
        """Return the positions of the wrong images, (W,), the most confident first; the silent ones last."""
        wrong = (~self.right).nonzero().flatten()
        sure = self.confidence.masked_fill(self.silent, -1.0)[wrong]
        return wrong[sure.argsort(descending=True, stable=True)]

    def worst_concepts_of(self, image: int, count: int) -> list[int]:
        """Return the concepts of an image that are furthest off, the worst first, at most `count` that are known."""
        errors = self.concept_errors[image]
        known = (~errors.isnan()).nonzero().flatten()
        return [int(k) for k in known[errors[known].argsort(descending=True, stable=True)][:count]]

    def _silent_by_class(self) -> Tensor:
        return torch.bincount(self.labels[self.silent], minlength=len(self.class_names))


def where_wrong(
    probabilities: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    silent: Tensor | None = None,
    concepts: Tensor | None = None,
    truth: Tensor | None = None,
    concept_names: Sequence[str] = (),
    quantities: Mapping[int, Quantity] = _NONE,
) -> WhereWrong:
    """Return where a classifier is wrong.

    Args:
        probabilities: (N, C) of the classes, calibrated or not; of logits take the softmax in float64 first.
        labels: (N,) int64 true classes.
        class_names: names of the C classes.
        silent: (N,) bool, the images for which there is no prediction: they count as errors; None is none.
        concepts: (N, K) predicted probabilities of concepts, numbers in their units; None where there are none.
        truth: (N, K) in [0, 1], numbers in their units, NaN where unknown; needed where concepts are given.
        concept_names: names of the K concepts.
        quantities: column -> quantity, of the concepts that are numbers.

    Raises:
        ConfigError: shapes that do not fit.
        DataError: no images, or probabilities that are no numbers.
    """
    probabilities = double(probabilities)
    labels = labels.to(probabilities.device)
    silent = torch.zeros_like(labels, dtype=torch.bool) if silent is None else silent.to(labels.device)
    said, true = _concepts(concepts, truth, labels, concept_names)
    _check(probabilities, labels, class_names, silent)
    confidence, predicted = probabilities.max(1)
    right = (predicted == labels) & ~silent
    matrix = confusion_matrix(labels[~silent], predicted[~silent], len(class_names))
    without = torch.bincount(labels[silent], minlength=len(class_names))
    figures, numbers = by_concept(said, true, concept_names, quantities)
    return WhereWrong(
        tuple(class_names),
        tuple(concept_names),
        labels,
        predicted,
        confidence,
        silent,
        right,
        _rank(probabilities, labels, predicted),
        said,
        true,
        concept_errors(said, true, quantities),
        concepts_right(said, true, quantities),
        matrix,
        share_interval(int(right.sum()), len(right)),
        by_class(probabilities, labels, matrix, without, class_names),
        figures,
        numbers,
        reliability(confidence[~silent], right[~silent]),
        _concept_reliability(said, true, quantities),
    )


def _concepts(
    concepts: Tensor | None, truth: Tensor | None, labels: Tensor, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return predictions and truth of the concepts, (N, 0) where there are none."""
    if concepts is None or truth is None:
        if names or concepts is not None or truth is not None:
            raise ConfigError("concepts need their probabilities, their truth and their names")
        none = torch.empty(len(labels), 0, dtype=torch.float64, device=labels.device)
        return none, none
    check_same("truth", truth, "concepts", concepts)
    if concepts.shape != (len(labels), len(names)):
        raise ConfigError(
            f"concepts of shape {tuple(concepts.shape)} given for {len(labels)} labels, {len(names)} names"
        )
    return double(concepts).to(labels.device), truth.to(labels.device)


def _check(probabilities: Tensor, labels: Tensor, names: Sequence[str], silent: Tensor) -> None:
    if probabilities.shape != (len(labels), len(names)) or silent.shape != labels.shape:
        given = tuple(probabilities.shape)
        raise ConfigError(f"probabilities of shape {given} given for {len(labels)} labels, {len(names)} classes")
    if not len(labels):
        raise DataError("there are no images to say where a model is wrong")
    if unknown := int(probabilities.isnan().any(1).sum()):
        raise DataError(f"the network answers no number (NaN) for {unknown} of {len(labels)} images")


def _rank(probabilities: Tensor, labels: Tensor, predicted: Tensor) -> Tensor:
    """Return the place of the true class: 1 just where it is the predicted one, also among equals."""
    above = (probabilities > probabilities.gather(1, labels.unsqueeze(1))).sum(1)
    return torch.where(predicted == labels, 1, (above + 1).clamp(min=2))


def _concept_reliability(said: Tensor, true: Tensor, quantities: Mapping[int, Quantity]) -> Reliability | None:
    truths = [column for column in range(said.shape[1]) if column not in quantities]
    known = decided(true[:, truths])
    if not bool(known.any()):
        return None
    return reliability(said[:, truths][known], true[:, truths][known] > 0.5)
