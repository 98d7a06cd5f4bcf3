"""What a classifier is worth for each class, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.metrics.concepts import auroc_per_concept
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.shares import share_interval

_COLUMNS = 64
"""Classes whose curves are computed at a time: sorting all of a thousand classes at once would fill the memory."""


@dataclass(frozen=True)
class ClassFigures:
    """What a classifier is worth for one class.

    Attributes:
        name: name of the class.
        images: number of its images.
        right: how many of them are taken for it.
        recall: share of its images that are right, its accuracy, with the score interval of 95 %; NaN without images.
        taken: number of images of any class that are taken for it.
        precision: share of these that are of it, with the interval; NaN where none is taken for it.
        auroc: chance that an image of it gets a higher probability of it than an image of another class; NaN where
            there are no images of it, or no others.
        taken_for: the class that its images are most often taken for in error; "" where that never happens.
        times: how many are.
        silent: how many of its images get no prediction.
    """

    name: str
    images: int
    right: int
    recall: Interval
    taken: int
    precision: Interval
    auroc: float
    taken_for: str
    times: int
    silent: int


@dataclass(frozen=True)
class Confusion:
    """One class that is taken for another.

    Attributes:
        truth: the class that the images are of.
        predicted: the one that they are taken for.
        count: how many are.
        share: share of the images of the class.
    """

    truth: str
    predicted: str
    count: int
    share: float


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Return how many images of each class are taken for each, (C, C) int64: a row is a true class.

    Args:
        labels: (M,) true classes.
        predicted: (M,) classes that they are taken for.
        classes: C.
    """
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def by_class(
    probabilities: Tensor, labels: Tensor, matrix: Tensor, silent: Tensor, names: Sequence[str]
) -> tuple[ClassFigures, ...]:
    """Return what a classifier is worth for each class, in the order of the classes.

    Args:
        probabilities: (N, C) float64.
        labels: (N,) true classes.
        matrix: (C, C), see `confusion_matrix`, without the images for which there is no prediction.
        silent: (C,) number of those of each class.
        names: names of the C classes.
    """
    curves = _areas(probabilities, labels)
    images, taken, right = (matrix.sum(1) + silent).tolist(), matrix.sum(0).tolist(), matrix.diagonal().tolist()
    wrong = matrix - matrix.diagonal().diag()
    times, most = wrong.max(1)
    rows = zip(names, images, right, taken, curves, most.tolist(), times.tolist(), silent.tolist(), strict=True)
    return tuple(
        ClassFigures(
            name, n, hit, share_interval(hit, n), of, share_interval(hit, of), area, names[other] if k else "", k, none
        )
        for name, n, hit, of, area, other, k, none in rows
    )


def _areas(probabilities: Tensor, labels: Tensor) -> list[float]:
    """Return the area under the ROC curve of each class against the rest."""
    found: list[float] = []
    for start in range(0, probabilities.shape[1], _COLUMNS):
        some = probabilities[:, start : start + _COLUMNS]
        of_class = labels.unsqueeze(1) == torch.arange(start, start + some.shape[1], device=labels.device)
        found += auroc_per_concept(some, of_class.double()).tolist()
    return found


def confusions(matrix: Tensor, names: Sequence[str], silent: Tensor) -> list[Confusion]:
    """Return which classes are taken for which, the most frequent first, in the order of the classes where equal.

    Args:
        matrix: (C, C), see `confusion_matrix`.
        names: names of the C classes.
        silent: (C,) number of images of each class for which there is no prediction.
    """
    images = (matrix.sum(1) + silent).tolist()
    wrong = matrix - matrix.diagonal().diag()
    pairs = [(int(wrong[i, j]), i, j) for i, j in wrong.nonzero().tolist()]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [Confusion(names[i], names[j], count, count / images[i]) for count, i, j in pairs]
