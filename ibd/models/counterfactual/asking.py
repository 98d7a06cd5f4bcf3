"""Asking why an image is taken for one class and not another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from ibd.errors import ConfigError, UnsupportedError, check_range, did_you_mean
from ibd.models.base import InterpretableNetwork
from ibd.models.counterfactual.answer import Why
from ibd.models.counterfactual.options import Floats, find_options, ranks, rounding, switchable
from ibd.models.counterfactual.program import Change, Program, Smallest
from ibd.models.counterfactual.search import settings_of, try_sets
from ibd.models.counterfactual.sufficient import Kept, few, fewest
from ibd.models.prediction import Prediction

_TRIES = 6
"""Times that a program is solved with a wider lead, where rounding took what there was."""


@dataclass(frozen=True)
class Wanted:
    """What is to come out.

    Attributes:
        label: the class that is to win (`wins`), or no longer to.
        wins: which of both.
        margin: lead that is needed, of the numbers that classes are ranked by.
    """

    label: int
    wins: bool
    margin: float

    def lead(self, numbers: Floats) -> Floats:
        """Return by how much (N, C) numbers say what is wanted, (N,)."""
        ahead: Floats = numbers[:, self.label] - np.delete(numbers, self.label, axis=1).max(1)
        return ahead if self.wins else -ahead

    def goals(self, numbers: Floats, least: float) -> list[tuple[Floats, Floats]]:
        """Return the goals of a `Program`, one of which is to be reached, of the (C,) numbers as they are."""
        ahead = np.delete(np.eye(len(numbers)), self.label, axis=0)
        ahead = np.eye(len(numbers))[self.label] - ahead  # (C - 1, C): the label's numbers less each other's
        if self.wins:
            return [(ahead, least - ahead @ numbers)]
        return [(-row[None], np.array([least + row @ numbers])) for row in ahead]


def why(
    prediction: Prediction,
    index: int = 0,
    not_class: str | int | None = None,
    is_class: str | int | None = None,
    smallest: Smallest = "count",
    margin: float = 0.0,
) -> Why:
    """Return the smallest change of an image's units after which its class is another, and which units are enough.

    Where what units say adds up (linear heads), both are exact: a linear program with some whole numbers. Elsewhere
    sets of changes are tried, and `Why.exact` says whether every smaller one was.

    What may be set follows `Prediction.intervene`: what is true is turned off, what is false on, a 1 clears the rest of
    an exclusive group; quantities move within three standard deviations, prototypes from nothing to a perfect match,
    channels and axes within the range that is known of them. Units without a name stay where others have one.

    Args:
        prediction: predictions.
        index: which of its images.
        not_class: class, by name or number, that the image is no longer to be taken for; by default the predicted one.
        is_class: class that it is to be taken for instead.
        smallest: what is to be small: "count", the units that are set (and of as many, how far they move); or "amount",
            how far they move in all: truth values by anything from 0 to 1, quantities in standard deviations, axes
            and prototypes in shares of their range.
        margin: by how much the logits must say so.

    Raises:
        ConfigError: an unknown class, both classes, or one that the image is taken for already, or is not.
        UnsupportedError: amounts of a network whose classes are no sum over what may be set.
    """
    one = prediction[index]
    check_range("margin", margin, least=0)
    names = one.network.class_names
    label, wins = wanted_class(names, int(one.labels[0]), not_class, is_class)
    wanted, asked = Wanted(label, wins, margin), names[label] if wins else f"not {names[label]}"
    if smallest not in get_args(Smallest):
        raise ConfigError(f"smallest: '{smallest}' is not one of {', '.join(get_args(Smallest))}")
    change = None
    if adds_up := _adds_up(one):
        change = _program(one, wanted, smallest)
    elif smallest == "amount":
        raise UnsupportedError(
            f"smallest=amount: what {one.network.unit_plural} of this network say does not add up: ask for "
            "smallest=count"
        )
    else:
        change = _search(one, wanted)
    label, least = int(one.labels[0]), rounding(ranks(one, [{}]))
    kept = fewest(one, label, least) if adds_up else few(one, label, least)
    return _answer(one, asked, smallest, change, kept)


def wanted_class(
    names: Sequence[str], label: int, not_class: str | int | None, is_class: str | int | None
) -> tuple[int, bool]:
    """Return the class that is asked about, and whether it is to win, or no longer to.

    Args:
        names: names of the classes.
        label: the class that the image is taken for.
        not_class: class that it is no longer to be taken for, by default the predicted one.
        is_class: class that it is to be taken for.

    Raises:
        ConfigError: both are given, there is no such class, or the image is taken for it already, or is not.
    """
    if not_class is not None and is_class is not None:
        raise ConfigError("why: the class that it is not to be, or the one that it is to be: give one of both")
    if len(names) < 2:
        raise ConfigError("why: a model of one class has no other")
    if is_class is not None:
        chosen = _class(is_class, names)
        if chosen == label:
            raise ConfigError(f"why: it is taken for '{names[label]}' already: ask not={names[label]}")
        return chosen, True
    chosen = label if not_class is None else _class(not_class, names)
    if chosen != label:
        raise ConfigError(
            f"why: it is taken for '{names[label]}', and not for '{names[chosen]}': ask is={names[chosen]} for what "
            "would make it that"
        )
    return chosen, False


def _class(given: str | int, names: Sequence[str]) -> int:
    """Return the number of a class."""
    if isinstance(given, str) and given in names:
        return list(names).index(given)
    if isinstance(given, int) and 0 <= given < len(names):
        return given
    near = did_you_mean(given, names) if isinstance(given, str) else f" There are {len(names)}, counted from 0."
    raise ConfigError(f"why: there is no class '{given}'.{near}")


def _adds_up(one: Prediction) -> bool:
    """Return whether what is set of several units adds up, in what classes are ranked by."""
    network, calibration = one.network, one.calibration
    if calibration is not None and calibration.classes.method == "vector":
        plain = type(network).class_probabilities is InterpretableNetwork.class_probabilities
        return network.additive and plain and not getattr(network, "dependent", False)
    return network.additive and not getattr(network, "dependent", False)


def _program(one: Prediction, wanted: Wanted, smallest: Smallest) -> Change | None:
    """Return the smallest change, solved, and checked by what the network then says."""
    before = ranks(one, [{}])
    program = Program(find_options(one, smallest == "amount"), smallest)
    step = rounding(before)
    for _ in range(_TRIES):
        found = program.solve(wanted.goals(before[0], wanted.margin + step))
        if found is None:
            return None
        settings = {unit: float(f"{value:.7g}") for unit, value in found.settings.items()}
        lead = float(wanted.lead(ranks(one, [settings]))[0])
        if lead > 0 and lead >= wanted.margin:
            return dataclasses.replace(found, settings=settings)
        step *= 4
    raise UnsupportedError("why: what was found to change the class does not once it is set: the logits are too large")


def _search(one: Prediction, wanted: Wanted) -> Change | None:
    """Return the smallest change that trying finds."""
    least = wanted.margin + rounding(ranks(one, [{}]))
    tried = try_sets(one, switchable(one), wanted.lead, least)
    if tried.chosen is None:
        return None
    return Change(settings_of(tried.chosen), len(tried.chosen), tried.exact)


def _answer(one: Prediction, asked: str, smallest: Smallest, change: Change | None, kept: Kept) -> Why:
    names = one.network.unit_names
    values = {} if change is None else {names[unit]: value for unit, value in change.settings.items()}
    others = {names[unit]: value for unit, value in kept.settings.items()}
    return Why(
        before=one,
        asked=asked,
        smallest=smallest,
        values=values,
        after=one.intervene(values) if values else None,
        size=0.0 if change is None else change.size,
        exact=change is not None and change.exact,
        kept=tuple(part.name for part in kept.parts),
        of=kept.of,
        others=others,
        alone=one.intervene(others) if others else one,
        kept_exact=kept.exact,
    )
