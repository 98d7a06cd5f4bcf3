"""What may be set of one image's units, by the rules of `Prediction.intervene`, and what that does to the classes.

Shapes: N settings, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.distributed import progress
from ibd.errors import UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.prediction import Prediction, ranked
from ibd.models.prototypes import LinearPrototypes
from ibd.types import Units

Floats = npt.NDArray[np.float64]
Settings = dict[int, float]
"""Unit -> what `Prediction.intervene` is given for it: of a prototype a factor, of other units a value."""

_AT_ONCE = 64
"""Settings that are decoded together."""
_STRAIGHT = 1e-3
"""By which share of an effect two settings of a number may differ from a straight line: rounding."""
_LEAST = 1e-6
"""A similarity below that is nothing: no factor makes something of it."""


@dataclass(frozen=True)
class Switch:
    """A unit that is turned on or off.

    Attributes:
        unit: number of the unit.
        value: what it is set to: 1 or 0, or 0 or an end of a number's range.
        amount: how far what is read of units moves by that, those of an exclusive group that follow among them.
        effect: (C,) what it adds to the numbers that classes are ranked by.
    """

    unit: int
    value: float
    amount: float
    effect: Floats


@dataclass(frozen=True)
class Dial:
    """A unit that is set to any number of a range, in what `Prediction.intervene` takes.

    Attributes:
        unit: number of the unit.
        now: what it stands at.
        low: lowest number.
        high: highest number.
        scale: what its changes are measured in.
        slope: (C,) what 1 more adds to the numbers that classes are ranked by.
    """

    unit: int
    now: float
    low: float
    high: float
    scale: float
    slope: Floats


@dataclass(frozen=True)
class Options:
    """All that may be set of one image's units.

    Attributes:
        switches: units that are turned on or off.
        dials: units that are set to any number.
        groups: the exclusive groups: lists of units of which one at most may be on.
    """

    switches: list[Switch]
    dials: list[Dial]
    groups: list[list[int]]


def ranks(prediction: Prediction, settings: Sequence[Settings], title: str = "setting units") -> Floats:
    """Return the numbers by which classes are ranked once units of the one image are set, (N, C)."""
    network, rows = prediction.network, []
    starts = range(0, len(settings), _AT_ONCE)
    with torch.no_grad():
        for start in progress(starts, title):
            units = [network.edit(prediction.units, given) for given in settings[start : start + _AT_ONCE]]
            rows.append(ranked(prediction, network.decode(Units.cat(units))).double().cpu())
    count = len(network.class_names)
    return torch.cat(rows).numpy() if rows else np.zeros((0, count))


def movable(network: InterpretableNetwork) -> list[int]:
    """Return the units that may be set: those with a name; all where none has one, but for pruned prototypes."""
    named = network.named_units().tolist()
    units = [unit for unit, has in enumerate(named) if has or not any(named)]
    if isinstance(network, LinearPrototypes):
        counts = network.weight().detach().abs().amax(0) > 0
        units = [unit for unit in units if bool(counts[unit])]
    return units


def is_truth(network: InterpretableNetwork, unit: int) -> bool:
    """Return whether a unit is true or false, and no number."""
    return network.truth_values and unit not in network.quantities


def bounds(prediction: Prediction, unit: int) -> tuple[float, float, float] | None:
    """Return what a number stands at, and the lowest and highest that it is set to; None where nothing can be made.

    All as `intervene` takes them: of prototypes as factors. A quantity goes three standard deviations to either side of
    its mean, an axis or activation from the 5th to the 95th percentile of the training images where these are known
    (and to 0, which removes it), other units as far as `value_range` says. What is there already is always within.
    """
    network = prediction.network
    now = float(network.readable(prediction.units)[0, unit])
    ends: tuple[Tensor, Tensor] | None = (network.low, network.high) if hasattr(network, "low") else None  # type: ignore
    if unit in network.quantities:
        quantity = network.quantities[unit]
        low, high = quantity.mean - 3 * quantity.deviation, quantity.mean + 3 * quantity.deviation
    elif ends is not None and not math.isnan(float(ends[0][unit])):
        low, high = min(float(ends[0][unit]), 0.0), max(float(ends[1][unit]), 0.0)
    else:
        low, high = network.value_range(network.passed(prediction.units)) or (0.0, now)
    low, high = min(low, now), max(high, now)
    if high <= low:
        return None
    if not isinstance(network, LinearPrototypes):
        return now, low, high
    return None if abs(now) < _LEAST else (1.0, min(low / now, high / now), max(low / now, high / now))


def find_options(prediction: Prediction, amounts: bool) -> Options:
    """Return all that may be set of the one image, where what settings do adds up.

    Args:
        prediction: prediction of one image.
        amounts: whether truth values may be set to anything from 0 to 1, and not to these two alone.

    Raises:
        UnsupportedError: amounts are asked for of a bottleneck that is not linear in its truth values.
    """
    network = prediction.network
    numbers = [unit for unit in movable(network) if amounts or not is_truth(network, unit)]
    truths = [] if amounts else [unit for unit in movable(network) if is_truth(network, unit)]
    if amounts and network.truth_values and not _reads_probabilities(network):
        raise UnsupportedError(
            "smallest=amount: between true and false the classes are linear in the probabilities of a bottleneck of "
            "probabilities without softmax groups alone, and this one is another: ask for smallest=count"
        )
    return Options(_switches(prediction, truths), _dials(prediction, numbers), network.exclusive_groups)


def _reads_probabilities(network: InterpretableNetwork) -> bool:
    """Return whether the head is linear in the probability of each concept, whatever the others are."""
    softmax = getattr(network, "softmax_groups", [])
    return not softmax and getattr(network, "bottleneck", "probabilities") == "probabilities"


def switchable(prediction: Prediction) -> Options:
    """Return what may be set of the one image as switches alone: numbers are set to 0, and to the ends of their range.

    Their effects are those of each alone. One without any is among them: beside others it may have one.
    """
    network = prediction.network
    truths = [unit for unit in movable(network) if is_truth(network, unit)]
    ends: list[tuple[int, float]] = []
    amounts: list[float] = []
    for unit in movable(network):
        if not is_truth(network, unit) and (within := bounds(prediction, unit)) is not None:
            now, low, high = within
            values = sorted({low, high, *([0.0] if low < 0 < high else [])} - {now})
            ends += [(unit, value) for value in values]
            amounts += [abs(value - now) / (high - low) for value in values]
    switches = _switches(prediction, truths, True) + _made(prediction, ends, amounts, True)
    return Options(switches, [], network.exclusive_groups)


def _switches(prediction: Prediction, truths: Sequence[int], every: bool = False) -> list[Switch]:
    """Return the switches of truth values: what is true is turned off, what is false is turned on."""
    read = prediction.network.readable(prediction.units)[0].tolist()
    flips = [(unit, 0.0 if read[unit] > 0.5 else 1.0) for unit in truths]
    amounts = []
    for unit, value in flips:
        others = [group for group in prediction.network.exclusive_groups if unit in group and value == 1.0]
        cleared = sum(read[other] for group in others for other in group if other != unit)
        amounts.append(abs(value - read[unit]) + cleared)
    return _made(prediction, flips, amounts, every)


def _made(
    prediction: Prediction, settings: Sequence[tuple[int, float]], amounts: Sequence[float], every: bool
) -> list[Switch]:
    """Return switches with their effects; without those that have none, unless every one is asked for."""
    before = ranks(prediction, [{}])
    settings = [(unit, float(f"{value:.7g}")) for unit, value in settings]  # as a command writes it
    effects = ranks(prediction, [{unit: value} for unit, value in settings]) - before
    made = [Switch(*setting, *more) for setting, *more in zip(settings, amounts, effects, strict=True)]
    return [switch for switch in made if every or np.abs(switch.effect).max() > rounding(before)]


def rounding(numbers: Floats) -> float:
    """Return what differs in numbers that classes are ranked by without a meaning: of float32, with some to spare."""
    return 1e-5 * max(1.0, float(np.abs(numbers).max(initial=0.0)))


def _dials(prediction: Prediction, units: Sequence[int]) -> list[Dial]:
    """Return the dials of units, with what they do, which is checked at two of their numbers."""
    network, read = prediction.network, prediction.network.readable(prediction.units)[0].tolist()
    scales = network.unit_scale()
    found = []
    for unit in units:
        within = (read[unit], 0.0, 1.0) if is_truth(network, unit) else bounds(prediction, unit)
        if within is not None:
            scale = 0.0 if scales is None else float(scales[unit])
            found.append((unit, *within, scale if scale > 0 else within[2] - within[1]))
    places = [low + share * (high - low) for share in (0.1, 0.8) for _, _, low, high, _ in found]
    given = [{unit: value} for (unit, *_), value in zip(found * 2, places, strict=True)]
    before = ranks(prediction, [{}])
    effects = (ranks(prediction, given) - before).reshape(2, len(found), len(network.class_names))
    dials = []
    for row, (unit, now, low, high, scale) in enumerate(found):
        first, second = places[row], places[row + len(found)]
        slope = (effects[1, row] - effects[0, row]) / (second - first)
        expected = slope * (first - now)
        if np.abs(expected - effects[0, row]).max() > _STRAIGHT * (np.abs(slope).max() * (high - low) + 1e-2):
            raise UnsupportedError(
                f"what '{network.unit_names[unit]}' does to the classes is no straight line from where it is: "
                "ask for smallest=count"
            )
        if np.abs(slope).max() * (high - low) > rounding(before):
            dials.append(Dial(unit, now, low, high, scale, slope))
    return dials
