"""What a prediction rests on: all units as bars, by group, with sliders where setting them is known as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ibd.comparison.report.numbers import number, signed
from ibd.comparison.report.pictures import Picture, small_picture
from ibd.comparison.report.slider_data import image_data, rows_with_sliders, shared_data
from ibd.comparison.results import Comparison, ModelInfo, ShownImage, ShownModel, ShownUnit
from ibd.models.sliders import Sliders

_IMAGES, _ROWS = 4, 4000
"""Images of a model that are shown, and units on all of them; one image is always shown."""
_OPEN, _OF_GROUP, _PAIRS, _CLASSES = 10, 12, 4, 5


@dataclass(frozen=True)
class Bar:
    """A unit: its place among the units, value, contribution, and the bar's ends in per cent."""

    name: str
    place: int
    value: str
    contribution: str
    amount: float
    left: float
    width: float


@dataclass(frozen=True)
class Block:
    """Units of a group, the largest contributions first.

    Attributes:
        title: name of the group; "" for units of none.
        exclusive: whether at most one of them is true in an image.
        bars: the first ones.
        folded: the others.
    """

    title: str
    exclusive: bool
    bars: list[Bar]
    folded: list[Bar]


@dataclass(frozen=True)
class Pair:
    """A prototype: where this image looks like which training patch."""

    name: str
    patch: Picture
    source: Picture
    value: str
    contribution: str


@dataclass(frozen=True)
class Panel:
    """An image and the units that its prediction rests on.

    Attributes:
        position: position of the image among those compared.
        picture: picture of the image.
        label: true class.
        predicted: explained class.
        open: groups with the largest contributions.
        folded: the other groups.
        count: number of all units.
        hidden: number of units in the other groups.
        pairs: prototypes that have pictures.
        classes: (name, probability) of the most probable classes.
        data: what its sliders begin with; None without any.
    """

    position: int
    picture: Picture
    label: str
    predicted: str
    open: list[Block]
    folded: list[Block]
    count: int
    hidden: int
    pairs: list[Pair]
    classes: list[tuple[str, float]]
    data: dict[str, Any] | None

    @property
    def right(self) -> bool:
        """Whether the explained class is the true one."""
        return self.predicted == self.label


@dataclass(frozen=True)
class UnitsPage:
    """The panels of a model.

    Attributes:
        model: model that is shown.
        panels: images, some that it gets right and some that it gets wrong.
        shared: what all sliders share; None without any.
        note: what a reader has to know of the sliders, or why there are none.
    """

    model: ModelInfo
    panels: list[Panel]
    shared: dict[str, Any] | None
    note: str


def make_units(comparison: Comparison, model: ModelInfo) -> UnitsPage | None:
    """Return what predictions of a model rest on; None where nothing is shown."""
    shown = [image for image in comparison.shown if image.units.get(model.name)]
    about = comparison.shown_models.get(model.name)
    if not shown or about is None:
        return None
    few = max(1, min(_IMAGES, _ROWS // max(len(image.units[model.name]) for image in shown)))
    sliders = about.sliders if about.sliders is not None and rows_with_sliders(about.sliders) >= 1 else None
    room = rows_with_sliders(sliders) if sliders else 0
    panels = [
        _panel(image, model.name, about, sliders if number < room else None)
        for number, image in enumerate(varied(shown, model.name, few))
    ]
    shared = shared_data(sliders) if sliders else None
    return UnitsPage(model, panels, shared, _note(about, sliders, room < len(panels)))


def _note(about: ShownModel, sliders: Sliders | None, cut: bool) -> str:
    """Return what there is to say of the sliders, or of why there are none."""
    if about.sliders is None:
        return f"No sliders: {about.why}. `ibd serve` has them, and `ibd intervene`."
    if sliders is None or cut:
        return "Sliders of all these images would make this page too large: `ibd serve` has them, and `ibd intervene`."
    return f"{sliders.note[:1].upper()}{sliders.note[1:]}." if sliders.note else ""


def varied(shown: list[ShownImage], model: str, count: int) -> list[ShownImage]:
    """Return a few images, half of which a model gets wrong, if there are as many."""
    wrong = [image for image in shown if image.predicted.get(model) != image.label]
    right = [image for image in shown if image.predicted.get(model) == image.label]
    few = right[: max(count - len(wrong), (count + 1) // 2)]
    return [*few, *wrong[: count - len(few)]]


def _panel(image: ShownImage, model: str, about: ShownModel, sliders: Sliders | None) -> Panel:
    units, row = image.units[model], about.positions.index(image.position)
    names = sliders.names if sliders else [unit.name for unit in units]
    blocks = _blocks(units, about, {name: place for place, name in enumerate(names)}, sliders)
    opened = 0
    while opened < len(blocks) and sum(len(block.bars) for block in blocks[:opened]) < _OPEN:
        opened += 1
    likely = np.argsort(-about.probabilities[row], kind="stable")[:_CLASSES]
    predicted = image.predicted.get(model, "")
    data = None
    if sliders:
        largest = max((abs(unit.contribution) for unit in units), default=0.0) or 1.0
        data = image_data(sliders, row) | {"explained": sliders.classes.index(predicted), "scale": largest}
    return Panel(
        position=image.position,
        picture=small_picture(image.image, f"an image of {image.label}"),
        label=image.label,
        predicted=predicted,
        open=blocks[:opened],
        folded=blocks[opened:],
        count=len(units),
        hidden=sum(len(block.bars) + len(block.folded) for block in blocks[opened:]),
        pairs=_pairs(units),
        classes=[(about.classes[c], float(about.probabilities[row, c])) for c in likely],
        data=data,
    )


def _blocks(units: list[ShownUnit], about: ShownModel, places: dict[str, int], sliders: Sliders | None) -> list[Block]:
    """Return units by group, the group with the largest contribution first; those of one unit stand together."""
    group_of = {name: group for group, members in about.groups.items() if len(members) > 1 for name in members}
    exclusive = {sliders.names[group[0]] for group in sliders.exclusive} if sliders else set()
    largest = max((abs(unit.contribution) for unit in units), default=0.0) or 1.0
    found: dict[str, list[ShownUnit]] = {}
    for unit in units:
        found.setdefault(group_of.get(unit.name, ""), []).append(unit)
    blocks = []
    for title, members in found.items():
        bars = [_bar(unit, largest, places[unit.name]) for unit in members]
        one = bool(title) and about.groups[title][0] in exclusive
        blocks.append(Block(title, one, bars[:_OF_GROUP], bars[_OF_GROUP:]))
    return blocks


def _bar(unit: ShownUnit, largest: float, place: int) -> Bar:
    amount = unit.contribution
    half = 50 * min(1.0, abs(amount) / largest)
    return Bar(
        name=unit.name,
        place=place,
        value=number(unit.value, 2),
        contribution=signed(amount, 2),
        amount=amount,
        left=50 - half if amount < 0 else 50.0,
        width=half,
    )


def _pairs(units: list[ShownUnit]) -> list[Pair]:
    """Return the prototypes that have pictures, the largest contributions first."""
    return [
        Pair(
            unit.name,
            small_picture(unit.patch, f"a patch of this image, which looks like {unit.name}"),
            small_picture(unit.source, f"the training patch of {unit.name}"),
            number(unit.value, 2),
            signed(unit.contribution, 2),
        )
        for unit in units
        if unit.patch is not None and unit.source is not None
    ][:_PAIRS]
