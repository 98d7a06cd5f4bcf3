"""The smallest change of units whose effects do not add up, by trying: each alone, pairs, then more of the best.

What one change does depends on the others there: behind an axis comes the rest of the network, behind a concept of a
stochastic bottleneck come the others. So sets of changes are decoded, as many as a budget allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ibd.models.counterfactual.options import Floats, Options, Settings, Switch, is_truth, ranks
from ibd.models.prediction import Prediction

Lead = Callable[[Floats], Floats]
"""(N, C) numbers by which classes are ranked -> (N,) by how much the wanted answer leads."""

_BEAM = 8
"""Sets that are extended, of each size."""
_PAIRS = 2000
"""Pairs that are all tried; where there are more, the best single ones are paired."""
_MOST = 12
"""Units in the largest set."""

Set = tuple[Switch, ...]


@dataclass(frozen=True)
class Tried:
    """What trying found.

    Attributes:
        chosen: the smallest set that does it; None where none of those tried does.
        exact: whether every smaller set was tried. Of numbers, which are set to a few values alone, they are not.
        decodes: sets that were decoded.
    """

    chosen: Set | None
    exact: bool
    decodes: int


def try_sets(prediction: Prediction, options: Options, lead: Lead, least: float) -> Tried:
    """Return the smallest set of switches that makes the wanted answer lead.

    Args:
        prediction: prediction of one image.
        options: what may be turned.
        lead: how far the wanted answer leads.
        least: by how much it must.
    """
    sets: list[Set] = [(switch,) for switch in options.switches]
    pairs = len(sets) * (len(sets) - 1) // 2 <= _PAIRS
    decodes = 0
    for size in range(1, _MOST + 1):
        leads = lead(ranks(prediction, [settings_of(each) for each in sets], f"sets of {size}"))
        decodes += len(sets)
        reached = [place for place in range(len(sets)) if leads[place] >= least]
        if reached:  # of those of one size, the one that moves least
            best = min(reached, key=lambda place: sum(switch.amount for switch in sets[place]))
            every = size == 1 or all(is_truth(prediction.network, switch.unit) for switch in options.switches)
            return Tried(sets[best], every and (size <= 2 or (size == 3 and pairs)), decodes)
        kept = np.argsort(-leads)[: None if size == 1 and pairs else _BEAM]
        sets = _extended([sets[place] for place in kept], options)
        if not sets:
            break
    return Tried(None, False, decodes)


def _extended(sets: Sequence[Set], options: Options) -> list[Set]:
    """Return the sets with one switch more, each once."""
    found: dict[frozenset[tuple[int, float]], Set] = {}
    for each, switch in itertools.product(sets, options.switches):
        if _fits(each, switch, options.groups):
            larger = (*each, switch)
            found.setdefault(frozenset((s.unit, s.value) for s in larger), larger)
    return list(found.values())


def _fits(each: Set, switch: Switch, groups: Sequence[Sequence[int]]) -> bool:
    """Return whether a switch may be turned beside others: each unit once, and one of a group that turns one on."""
    if any(other.unit == switch.unit for other in each):
        return False
    for group in groups:
        together = [s for s in (*each, switch) if s.unit in group]
        if switch.unit in group and len(together) > 1 and any(s.value == 1 for s in together):
            return False
    return True


def settings_of(chosen: Set) -> Settings:
    """Return unit -> what `intervene` is given for it."""
    return {switch.unit: switch.value for switch in chosen}
