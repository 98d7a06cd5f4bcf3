"""What would change the answer, as corrections that the page can make by one click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.counterfactual import Why
from ibd.models.prediction import Prediction, read_out
from ibd.models.prototypes import LinearPrototypes

Edits = dict[str, float]
"""Name of a unit -> what `Prediction.intervene` is given for it, of the prediction with nothing edited."""
_SAME = 1e-4
"""How far logits may differ that are the same but for rounding, as a share of the largest."""

_NOT_AT_ONCE = "beside what is set already this cannot be set at once"


@dataclass(frozen=True)
class UnitChange:
    """A unit that is set.

    Attributes:
        unit: its number.
        name: its name.
        before: what is read of it, in words.
        after: what is read of it once all is set, in words.
        value: what it is set to, of the prediction with nothing edited.
        clears: corrections that were there, and go for it.
    """

    unit: int
    name: str
    before: str
    after: str
    value: float
    clears: list[str]


def merged(network: InterpretableNetwork, edits: Mapping[str, float], values: Mapping[str, float]) -> Edits:
    """Return corrections as one, which were made one after the other.

    Of a prototype factors multiply; a 1 takes the place of what its exclusive group was set to.

    Args:
        network: the network.
        edits: corrections of the prediction with nothing edited.
        values: further ones, of the prediction with those.
    """
    both = dict(edits)
    for name, value in values.items():
        unit = network.unit_index(name)
        if isinstance(network, LinearPrototypes):
            both[name] = both.get(name, 1.0) * value
            continue
        if value == 1.0:
            for group in (group for group in network.exclusive_groups if unit in group):
                for other in group:
                    both.pop(network.unit_names[other], None)
        both[name] = value
    return both


def as_one(plain: Prediction, edits: Mapping[str, float], values: Mapping[str, float], then: Prediction) -> Edits:
    """Return corrections that were made one after the other as one, which is checked.

    Args:
        plain: the prediction with nothing edited.
        edits: corrections of it.
        values: further ones.
        then: prediction with both.

    Raises:
        UnsupportedError: they cannot be made at once.
    """
    both = merged(plain.network, edits, values)
    try:
        logits = plain.intervene(both).logits if both else plain.logits
    except ConfigError as error:
        raise UnsupportedError(
            f"beside what is set already this cannot be set at once ({error}): reset first"
        ) from None
    largest = max(1.0, float(then.logits.abs().max()))
    if not torch.allclose(logits, then.logits, rtol=0, atol=_SAME * largest):
        raise UnsupportedError(f"{_NOT_AT_ONCE}: reset first")
    return both


def unit_changes(plain: Prediction, edits: Mapping[str, float], found: Why) -> list[UnitChange]:
    """Return the units of a smallest change one by one, each with what setting it alone does to the corrections."""
    if found.after is None:
        return []
    network, rows = plain.network, []
    for name in found.values:
        unit = network.unit_index(name)
        quantity = network.quantities.get(unit)
        old, new = (read_out(float(each.unit_values[0, unit]), quantity) for each in (found.before, found.after))
        both = merged(network, edits, {name: found.values[name]})
        rows.append(UnitChange(unit, name, old, new, both[name], [other for other in edits if other not in both]))
    return rows


def why_in_words(found: Why) -> str:
    """Return how large the smallest change is, and whether that is proven; that there is none, where none was found."""
    network, count = found.before.network, len(found.values)
    if found.after is None:
        return f"no change of its {network.unit_plural} was found after which it is {found.asked}"
    what = f"{count} {network.unit_kind if count == 1 else network.unit_plural}"
    if found.smallest == "amount":
        what += f", by {found.size:.3g} in all"
    return f"{what}; {'no smaller change does' if found.exact else 'found by trying: a smaller one may do'}"


def enough_in_words(found: Why) -> str:
    """Return how many units are enough, of how many, and whether that is proven."""
    return f"{len(found.kept)} of {found.of}; {'the fewest' if found.kept_exact else 'few, perhaps not the fewest'}"
