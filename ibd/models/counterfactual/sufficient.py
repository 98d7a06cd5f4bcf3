"""Which units are enough: the fewest that keep an image's class when all others are set to nothing.

A pertinent positive (Dhurandhar 2018), in units. Nothing is "no" for what is true or false, the mean for a quantity,
0 for a channel, an axis or a prototype's factor. The concepts of an exclusive group are kept, or set to
nothing, together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ibd.distributed import progress
from ibd.models.base import InterpretableNetwork
from ibd.models.counterfactual.options import Floats, Settings, movable, ranks, rounding
from ibd.models.prediction import Prediction

_SECONDS = 20.0


@dataclass(frozen=True)
class Part:
    """Units that are kept together.

    Attributes:
        name: their group, or the one unit.
        nothing: what `intervene` is given so that they say nothing.
    """

    name: str
    nothing: Settings


@dataclass(frozen=True)
class Kept:
    """Parts that are enough.

    Attributes:
        parts: the parts that are kept.
        settings: what sets all others to nothing.
        exact: whether no fewer are enough.
        of: number of the parts that say anything for or against a class.
    """

    parts: list[Part]
    settings: Settings
    exact: bool
    of: int


def parts_of(network: InterpretableNetwork) -> list[Part]:
    """Return what can be kept or set to nothing."""
    nothing = {unit: network.quantities[unit].mean if unit in network.quantities else 0.0 for unit in movable(network)}
    named = {tuple(units): name for name, units in network.unit_groups.items()}
    together = [tuple(group) for group in network.exclusive_groups]
    inside = {unit for group in together for unit in group}
    parts = [Part(named.get(group, network.unit_names[group[0]]), {u: nothing[u] for u in group}) for group in together]
    return parts + [Part(network.unit_names[unit], {unit: nothing[unit]}) for unit in nothing if unit not in inside]


def fewest(prediction: Prediction, label: int, least: float) -> Kept:
    """Return the fewest parts by which a class stays ahead, where what parts say adds up: exactly.

    Args:
        prediction: prediction of one image.
        label: the class.
        least: by how much it must lead all others.
    """
    parts, before = parts_of(prediction.network), ranks(prediction, [{}])
    effects = ranks(prediction, [part.nothing for part in parts]) - before
    matter = [place for place in range(len(parts)) if np.abs(effects[place]).max() > rounding(before)]
    parts, effects = [parts[place] for place in matter], effects[matter]
    bare = before[0] + effects.sum(0)
    ahead = np.delete(bare[label] - bare, label)
    gained = np.delete(effects - effects[:, label : label + 1], label, axis=1)  # by keeping, (N, C - 1)
    kept, exact = _program(gained, least - ahead)
    return _kept(parts, [place for place in range(len(parts)) if kept[place] > 0.5], exact)


def few(prediction: Prediction, label: int, least: float) -> Kept:
    """Return few parts by which a class stays ahead, by trying: the best one more each time, then none in vain.

    Args: as for `fewest`.
    """
    parts = parts_of(prediction.network)
    chosen: list[int] = []

    def leads(sets: Sequence[Sequence[int]]) -> Floats:
        numbers = ranks(prediction, [_kept(parts, each, False).settings for each in sets])
        found: Floats = numbers[:, label] - np.delete(numbers, label, axis=1).max(1)
        return found

    if leads([chosen])[0] < least:
        for _ in progress(range(len(parts)), "which are enough"):
            rest = [place for place in range(len(parts)) if place not in chosen]
            ahead = leads([[*chosen, place] for place in rest])
            chosen.append(rest[int(ahead.argmax())])
            if ahead.max() >= least:
                break
    for place in list(chosen):
        spared = [other for other in chosen if other != place]
        chosen = spared if leads([spared])[0] >= least else chosen
    return _kept(parts, chosen, len(chosen) <= 1)


def _kept(parts: Sequence[Part], chosen: Sequence[int], exact: bool) -> Kept:
    settings = {unit: value for i, part in enumerate(parts) if i not in chosen for unit, value in part.nothing.items()}
    return Kept([parts[place] for place in chosen], settings, exact, len(parts))


def _program(gained: Floats, least: Floats) -> tuple[Floats, bool]:
    """Return which of N parts are kept, fewest, and of these sets the one that leads most; and whether that is proven.

    Args:
        gained: (N, C - 1) what keeping a part gains on each other class.
        least: (C - 1,) what must be gained.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    count = len(gained)
    if not count:
        return np.zeros(0), True
    whole, options = np.ones(count), {"time_limit": _SECONDS, "mip_rel_gap": 0.0}
    gain = LinearConstraint(gained.T, least, np.inf)
    first = milp(whole, integrality=whole, bounds=Bounds(0, 1), constraints=gain, options=options)
    if first.x is None:  # within the rounding of a tie: everything is kept
        return whole, False
    number = round(first.fun)
    more = np.concatenate([gained.T, -np.ones((gained.shape[1], 1))], 1)  # and a lead beyond the least, the last one
    second = milp(
        np.append(np.zeros(count), -1.0),
        integrality=np.append(whole, 0),
        bounds=Bounds(np.zeros(count + 1), np.append(whole, np.inf)),
        constraints=[LinearConstraint(more, least, np.inf), LinearConstraint(np.append(whole, 0)[None], 0, number)],
        options=options,
    )
    return (first.x if second.x is None else second.x[:count]), first.status == 0
