"""Thresholds by what a model said of images whose truth is known: set by hand, or by a wanted precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ibd.errors import DataError
from ibd.metrics.concepts import decided
from ibd.models.calibration.abstention import choose_threshold
from ibd.models.calibration.calibration import checksum, known_truth
from ibd.models.calibration.measuring import Reading
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.prediction import Prediction
from ibd.models.thresholds import Threshold, Thresholds, calibration_number
from ibd.models.trained import TrainedModel
from ibd.types import Units


class Statements(NamedTuple):
    """What a model said of the images of a split, and whether it was so.

    Attributes:
        confidence: probabilities of the predicted classes, -1 where there is no answer whatever the threshold (by the
            network itself, or by its calibration), and whether the class is right, which it is not where the network
            itself has no answer.
        concepts: concept -> its probabilities in the images where it is known, and whether it is true there; empty
            where units are not true or false.
    """

    confidence: Reading
    concepts: dict[str, Reading]


def prediction_of(model: TrainedModel, read: ReadOutputs) -> Prediction:
    """Return what a model put out for a split as a prediction, without maps: for what is read of scores and logits."""
    return model.prediction(read.logits, Units(read.scores, read.scores.new_zeros(*read.scores.shape, 1, 1)), [])


@torch.no_grad()
def statements(model: TrainedModel, read: ReadOutputs) -> Statements:
    """Return what a model said of a split, as its predictions are read: calibrated where it is."""
    prediction = prediction_of(model, read)
    silent = replace(prediction, thresholds=None).abstains
    confidence = prediction.probabilities.amax(1).masked_fill(silent, -1.0)
    truth = known_truth(model.network, read.concepts)
    concepts = dict[str, Reading]()
    if truth is not None:
        known, values = decided(truth), prediction.unit_values
        for unit in known.any(0).nonzero().flatten().tolist():
            there = known[:, unit]
            concepts[model.network.unit_names[unit]] = Reading(values[there, unit], truth[there, unit] > 0.5)
    right = (prediction.labels == read.labels) & ~model.network.abstains(read.logits)
    return Statements(Reading(confidence, right), concepts)


def at(reading: Reading, value: float, wanted: float | None = None) -> Threshold:
    """Return a threshold with what it comes to.

    Args:
        reading: what was said, and whether it was so.
        value: the threshold, in [0, 1].
        wanted: precision that it was chosen by.
    """
    called = reading.stated >= value
    right = int((reading.true & called).sum())
    return Threshold(value, len(called), int(reading.true.sum()), int(called.sum()), right, wanted)


def along(reading: Reading, values: Sequence[float]) -> list[Threshold]:
    """Return what each of several thresholds comes to: what a slider shows."""
    return [at(reading, value) for value in values]


def by_precision(reading: Reading, wanted: float, key: str) -> Threshold:
    """Return the smallest threshold at which what is called true is so as often as wanted.

    It lies midway to the next lower probability, so that rounding in another batch of images changes no answer. It is
    chosen by these images, and so flatters: new ones are likely to be a little worse.

    Args:
        reading: what was said, and whether it was so.
        wanted: precision, in (0, 1].
        key: what the precision is called, for the line where none reaches it.

    Raises:
        DataError: none does, or none is true.
    """
    if not len(reading.stated):
        raise DataError(f"{key}: {wanted:g} given, but of no image it is known what is true")
    if not bool(reading.true.any()):
        raise DataError(f"{key}: {wanted:g} given, but it is true in none of the {len(reading.true)} images")
    value = choose_threshold(reading.stated, reading.true, wanted, key=key).threshold
    below = reading.stated[(reading.stated < value) & (reading.stated >= 0)]
    if len(below):
        value = _between(below.amax(), value)
    return at(reading, value, wanted)


def _between(below: Tensor, above: float) -> float:
    """Return the middle of two values as their own type can tell it; the upper one where they are neighbors."""
    middle = (below + above) / 2
    return float(middle) if bool(middle > below) else above


def changed(
    model: TrainedModel, split: str, confidence: Threshold | None, concepts: dict[str, Threshold | None]
) -> Thresholds | None:
    """Return a model's thresholds with some replaced, or taken away where there is None; None if none is left.

    Args:
        model: model that they are of.
        split: split that they are set on.
        confidence: that of the predicted class, in the place of the one that there is.
        concepts: concept -> its threshold; those of others stay.
    """
    old = model.thresholds
    if old is None:
        old = Thresholds(split, checksum(model.network), calibration_number(model.calibration))
    merged = {**old.concepts, **concepts}
    kept = {name: one for name in model.network.unit_names if (one := merged.get(name)) is not None}
    found = replace(old, split=split, confidence=confidence, concepts=kept)
    return found if found.confidence is not None or found.concepts else None
