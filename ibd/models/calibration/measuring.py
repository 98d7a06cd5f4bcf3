"""What a calibration is worth on images that it was not chosen on: figures before and after, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.metrics.concepts import decided
from ibd.metrics.functional.bins import calibration_error
from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.shares import share_interval
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.calibration import Calibration, class_scores, known_truth
from ibd.models.calibration.reading import ReadOutputs
from ibd.types import Units


@dataclass(frozen=True)
class Reading:
    """What is said of some images, and whether it is so: for figures of calibration.

    Attributes:
        stated: (M,) stated probabilities.
        true: (M,) bool, whether that has come.
    """

    stated: Tensor
    true: Tensor


@torch.no_grad()
def readings(network: InterpretableNetwork, calibration: Calibration, read: ReadOutputs) -> dict[str, Reading]:
    """Return stated probabilities as they are and calibrated, of the predicted classes and of all known concepts.

    Returns:
        "classes", "classes, calibrated", and, where concepts are calibrated, "concepts" and "concepts, calibrated".
    """
    found = {}
    for name, scores in (
        ("classes", class_scores(network, read.logits)),
        ("classes, calibrated", calibration.scaled(network, read.logits)),
    ):
        top, chosen = scores.softmax(1).max(1)
        found[name] = Reading(top, chosen == read.labels)
    if calibration.concepts is not None:
        units, concepts = _units(read), _truth(network, read)
        known = decided(concepts)
        truth = concepts[known] > 0.5
        found["concepts"] = Reading(network.readable(units)[known].double(), truth)
        found["concepts, calibrated"] = Reading(calibration.values(network, units)[known].double(), truth)
    return found


def _units(read: ReadOutputs) -> Units:
    """Return units of which the scores are known alone."""
    return Units(read.scores, read.scores.new_zeros(*read.scores.shape, 1, 1))


def _truth(network: InterpretableNetwork, read: ReadOutputs) -> Tensor:
    """Return what is known of the units of a network with calibrated concepts, (N, U)."""
    truth = known_truth(network, read.concepts)
    assert truth is not None
    return truth


@torch.no_grad()
def measure(network: InterpretableNetwork, calibration: Calibration, read: ReadOutputs) -> dict[str, float | Interval]:
    """Return the figures of a calibration on a split.

    Expected calibration errors have no interval: few images make them larger, and a bootstrap would once more.

    Returns:
        "ece" and "nll" of the classes, "concept_ece", each as it was and ``_calibrated``; "accuracy_calibrated"
        where the classes may have changed; "set_coverage", "set_size"; "kept_share", "kept_accuracy". What was not
        chosen is not there.
    """
    before, after = class_scores(network, read.logits), calibration.scaled(network, read.logits)
    figures: dict[str, float | Interval] = {}
    for ending, scores in (("", before), ("_calibrated", after)):
        figures[f"ece{ending}"] = class_error(scores.softmax(1), read.labels)
        figures[f"nll{ending}"] = mean_interval(F.cross_entropy(scores, read.labels, reduction="none"))
    if calibration.classes.method == "vector":
        figures["accuracy_calibrated"] = share_interval(int((after.argmax(1) == read.labels).sum()), len(after))
    if calibration.concepts is not None:
        units, concepts = _units(read), _truth(network, read)
        figures["concept_ece"] = concept_error(network.readable(units), concepts)
        figures["concept_ece_calibrated"] = concept_error(calibration.values(network, units), concepts)
    if calibration.sets is not None:
        inside = calibration.sets.sets(after.softmax(1), calibration.draw(len(after)))
        hits = inside.gather(1, read.labels.unsqueeze(1))
        figures["set_coverage"] = share_interval(int(hits.sum()), len(hits))
        figures["set_size"] = mean_interval(inside.sum(1).double())
    if calibration.abstention is not None:
        kept = ~calibration.abstains(network, read.logits)
        right = (after.argmax(1) == read.labels) & kept
        figures["kept_share"] = share_interval(int(kept.sum()), len(kept))
        figures["kept_accuracy"] = share_interval(int(right.sum()), int(kept.sum()))
    return figures


def flat(figures: Mapping[str, float | Interval]) -> dict[str, float]:
    """Return figures as numbers alone: an interval is three, NAME, NAME_low and NAME_high."""
    numbers: dict[str, float] = {}
    for name, value in figures.items():
        numbers[name] = value.mean if isinstance(value, Interval) else value
        if isinstance(value, Interval):
            numbers |= {f"{name}_low": value.low, f"{name}_high": value.high}
    return numbers


def class_error(probabilities: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error of the predicted classes (Guo et al. 2017), in [0, 1]; 0 is best.

    Args:
        probabilities: (N, C).
        labels: (N,) true classes.
    """
    stated, chosen = probabilities.max(1)
    return calibration_error(stated, chosen == labels)


def concept_error(probabilities: Tensor, truth: Tensor) -> float:
    """Return the expected calibration error over all known (image, concept) pairs; NaN where nothing is known.

    Args:
        probabilities: (N, K).
        truth: (N, K) in [0, 1], NaN where unknown; 0.5 says neither.
    """
    known = decided(truth)
    return calibration_error(probabilities[known], truth[known] > 0.5)
