"""What the page says of a prediction, and corrections that were made on it: all by `Prediction`, as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ibd.app.terminal import read_values
from ibd.errors import ConfigError
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.wording import of_prediction
from ibd.models.prediction import MOVED, Prediction
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
            values[name] = float(value)
        else:
            raise ConfigError(f"'{name}' is set to {value!r:.40}, which is neither a number nor a word")
    return {**values, **read_values(words, network)}


def said(prediction: Prediction) -> dict[str, Any]:
    """Return what a prediction for one image says, as plain values."""
    network, best = prediction.network, int(prediction.labels[0])
    calibration, edited = prediction.calibration, bool(prediction.edited.any())
    sets = None
    if calibration is not None and calibration.sets is not None:
        sets = [network.class_names[index] for index in prediction.class_sets[0].nonzero().flatten().tolist()]
    return {
        "label": best,
        "class": network.class_names[best],
        "abstains": bool(prediction.abstains[0]),
        "silent": bool(network.abstains(prediction.logits)[0]),
        "order": prediction.ranking[0].argsort(descending=True),
        "probabilities": prediction.probabilities[0],
        "logits": prediction.logits[0],
        "class_set": sets,
        "coverage": None if calibration is None or calibration.sets is None else calibration.sets.coverage,
        "values": prediction.unit_values[0],
        "contributions": prediction.contributions[0, :, best],
        "bias": network.bias().detach()[best] if network.has_bias and network.additive else None,
        "edited": prediction.edited[0],
        "moved": prediction.moved[0].masked_fill(prediction.moved[0].abs() < MOVED, 0.0),
        "details": [network.detail(unit, best) for unit in range(len(network.unit_names))],
        "notes": [] if calibration is None else of_prediction(calibration, edited),
    }
