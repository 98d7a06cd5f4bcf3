"""What the page says of a prediction, and corrections that were made on it: all by `Prediction`, as everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ibd.app.terminal import read_values
from ibd.errors import ConfigError
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.wording import of_prediction
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.prediction import MOVED, Prediction
from ibd.models.sliders import between
from ibd.models.thresholds import confidence_note, detail_of
from ibd.models.values import Value


def corrected(prediction: Prediction, edits: Any) -> Prediction:
    """Return a prediction with units set by hand, as ``ibd intervene`` would.

    Args:
        prediction: prediction for one image, with nothing edited.
        edits: unit -> number, or a word of the command line: ``x0.5`` for a factor, the member of a group.

    Raises:
        ConfigError: they are no such mapping, or a unit cannot take its value.
    """
    return prediction.intervene(values_of(edits, prediction.network))


def values_of(edits: Any, network: InterpretableNetwork) -> dict[str, Value]:
    """Return what edits that came as JSON set units to.

    Raises:
        ConfigError: they are no mapping of names to numbers or words.
    """
    if not isinstance(edits, Mapping):
        raise ConfigError("'edits': values by the names of units are needed")
    words, values = dict[str, str](), dict[str, Value]()
    for name, value in edits.items():
        if isinstance(value, str):
            words[name] = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[name] = as_float(value)
        else:
            raise ConfigError(f"'{name}' is set to {value!r:.40}, which is neither a number nor a word")
    return {**values, **read_values(words, network)}


def as_float(number: int | float) -> float:
    """Return a number that came as JSON; infinite where it has more digits than a float can hold."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def said(
    prediction: Prediction,
    target: int | None = None,
    contributions: Tensor | None = None,
    details: bool = True,
) -> dict[str, Any]:
    """Return what a prediction for one image says, as plain values.

    Args:
        prediction: prediction for one image.
        target: class whose logit the units add to; None is the most probable one.
        contributions: (1, U, C) of the prediction, where they are known already.
        details: whether to say in words what else is known of the units: of thousands that takes a while.
    """
    network, best = prediction.network, int(prediction.labels[0])
    shown = best if target is None else target
    parts = prediction.contributions if contributions is None else contributions
    moved = prediction.moved[0]
    return {
        "label": best,
        "class": network.class_names[best],
        "abstains": bool(prediction.abstains[0]),
        "silent": bool(network.abstains(prediction.logits)[0]),
        "order": prediction.ranking[0].argsort(descending=True),
        "probabilities": prediction.probabilities[0],
        "logits": prediction.logits[0],
        **_sets(prediction),
        "values": prediction.unit_values[0],
        "stands": _stands(prediction),
        "present": prediction.present[0] if network.truth_values else None,
        "target": shown,
        "contributions": parts[0, :, shown],
        "bias": network.bias().detach()[shown] if network.has_bias and network.additive else None,
        "edited": prediction.edited[0],
        "moved": moved.masked_fill(moved.abs() < MOVED, 0.0),
        "details": _details(prediction, shown) if details else None,
        "notes": _notes(prediction),
    }


def _stands(prediction: Prediction) -> Tensor:
    """Return where sliders stand, (U,): what a unit is set to for nothing to change, as far as it can be set to that.

    A calibration is for reading alone. In a bottleneck of logits a truth value is no probability, but a place between
    what stands for false and for true.
    """
    network, units = prediction.network, prediction.units
    values = network.readable(units)[0]
    if not (isinstance(network, ConceptBottleneckNetwork) and network.by_percentiles and network.truth_values):
        return values
    if bool(network.low.isnan().any()):  # without these nothing can be set
        return values
    truth = [k for k in range(network.concept_count) if k not in network.quantities]
    places = between(units.scores[0], network.low, network.high).clamp(0.0, 1.0)
    return values.index_copy(0, torch.tensor(truth, device=values.device), places[truth])


def _details(prediction: Prediction, label: int) -> list[str]:
    """Return what else a reader should know of each unit, in words."""
    values = prediction.unit_values[0].tolist()
    return [detail_of(prediction.network, k, label, value, prediction.thresholds) for k, value in enumerate(values)]


def _sets(prediction: Prediction) -> dict[str, Any]:
    """Return the set of classes that the image may have, and by which coverage; null where there are no sets."""
    calibration = prediction.calibration
    if calibration is None or calibration.sets is None:
        return {"class_set": None, "coverage": None}
    inside = prediction.class_sets[0].nonzero().flatten().tolist()
    return {
        "class_set": [prediction.network.class_names[index] for index in inside],
        "coverage": calibration.sets.coverage,
    }


def _notes(prediction: Prediction) -> list[str]:
    """Return what a reader must know of the numbers, as below a table of the command line."""
    network, edited = prediction.network, bool(prediction.edited.any())
    notes = [] if network.additive else ["what a unit adds is the logit lost without it alone; these do not add up"]
    if edited and network.edit_note:
        notes.append(network.edit_note.removeprefix("; "))
    if prediction.thresholds is not None:
        notes += confidence_note(prediction.thresholds)
    if prediction.calibration is not None:
        notes += of_prediction(prediction.calibration, edited)
    return notes
