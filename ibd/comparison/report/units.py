"""What a prediction rests on: units as bars, with sliders where the head is linear, and as pairs of patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ibd.comparison.report.numbers import number, signed
from ibd.comparison.report.pictures import data_uri
from ibd.comparison.results import Comparison, ModelInfo, ShownImage, ShownUnit
from ibd.models.linear_head import LinearHead

_IMAGES, _UNITS, _PAIRS, _CLASSES = 4, 10, 4, 5
_WEIGHTS = 60_000
"""Numbers of a head that a page may hold."""


@dataclass(frozen=True)
class Bar:
    """A unit: its place in the head (None without sliders), value, contribution, and the bar's ends in per cent."""

    name: str
    place: int | None
    value: float
    shown_value: str
    contribution: str
    amount: float
    left: float
    width: float


@dataclass(frozen=True)
class Pair:
    """A prototype: where this image looks like which training patch."""

    name: str
    patch: str
    source: str
    value: str
    contribution: str


@dataclass(frozen=True)
class Panel:
    """An image and the units that its prediction rests on.

    Attributes:
        picture: picture of the image.
        label: true class.
        predicted: explained class.
        bars: the units with the largest contributions.
        rest: number of further units.
        pairs: prototypes that have pictures.
        classes: (name, probability) of the most probable classes; empty without sliders.
        data: data that the page's script needs, by name; None without sliders.
    """

    picture: str
    label: str
    predicted: str
    bars: list[Bar]
    rest: int
    pairs: list[Pair]
    classes: list[tuple[str, float]]
    data: dict[str, Any] | None


@dataclass(frozen=True)
class UnitsPage:
    """The panels of a model; `head` is what its sliders need, None without."""

    model: ModelInfo
    panels: list[Panel]
    head: dict[str, Any] | None


def make_units(comparison: Comparison, model: ModelInfo) -> UnitsPage | None:
    """Return what predictions of a model rest on; None where nothing is shown."""
    shown = [image for image in comparison.shown if image.units.get(model.name)]
    if not shown:
        return None
    head = comparison.heads.get(model.name)
    if head is not None and head.weights.size > _WEIGHTS:
        head = None
    panels = [_panel(image, model.name, head) for image in _varied(shown, model.name)]
    live = head is not None and any(panel.data for panel in panels)
    return UnitsPage(model, panels, _plain(head) if head is not None and live else None)


def head_logits(head: LinearHead, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (C,) logits of (U,) values."""
    logits: np.ndarray[Any, Any] = values @ head.weights + head.bias
    return logits


def head_probabilities(head: LinearHead, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (C,) probabilities of (U,) values, as the page's script computes them."""
    logits = head_logits(head, values)
    odds: np.ndarray[Any, Any] = 1 + np.maximum(logits, 0) ** 2 if head.squared else np.exp(logits - logits.max())
    shares: np.ndarray[Any, Any] = odds / odds.sum()
    return shares


def _varied(shown: list[ShownImage], model: str) -> list[ShownImage]:
    """Return a few images, one that is predicted wrongly among them where there is one."""
    wrong = [image for image in shown if image.predicted.get(model) != image.label]
    right = [image for image in shown if image.predicted.get(model) == image.label]
    few = right[: _IMAGES - min(1, len(wrong))]
    return [*few, *wrong[: _IMAGES - len(few)]]


def _plain(head: LinearHead) -> dict[str, Any]:
    return {
        "classes": head.classes,
        "weights": [[float(f"{weight:.6g}") for weight in row] for row in head.weights.tolist()],
        "bias": [float(f"{value:.6g}") for value in head.bias.tolist()],
        "squared": head.squared,
    }


def _panel(image: ShownImage, model: str, head: LinearHead | None) -> Panel:
    units = image.units[model]
    predicted = image.predicted.get(model, "")
    values = {unit.name: unit.value for unit in units}
    live = head is not None and predicted in head.classes and all(name in values for name in head.names)
    largest = max((abs(unit.contribution) for unit in units), default=0.0) or 1.0
    bars = [_bar(unit, largest, head.names if live and head is not None else []) for unit in units[:_UNITS]]
    pairs = [
        Pair(
            unit.name,
            data_uri(unit.patch),
            data_uri(unit.source),
            number(unit.value, 2),
            signed(unit.contribution, 2),
        )
        for unit in units
        if unit.patch is not None and unit.source is not None
    ][:_PAIRS]
    classes: list[tuple[str, float]] = []
    data = None
    if live and head is not None:
        start = np.array([values[name] for name in head.names])
        data = {"explained": head.classes.index(predicted), "values": [float(f"{value:.6g}") for value in start]}
        data["scale"] = largest
        classes = _probable(head, start)
    return Panel(data_uri(image.image), image.label, predicted, bars, len(units) - len(bars), pairs, classes, data)


def _probable(head: LinearHead, values: npt.NDArray[np.float64]) -> list[tuple[str, float]]:
    """Return the most probable classes with their probabilities."""
    shares = head_probabilities(head, values)
    return [(head.classes[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")[:_CLASSES]]


def _bar(unit: ShownUnit, largest: float, places: list[str]) -> Bar:
    amount = unit.contribution
    half = 50 * min(1.0, abs(amount) / largest)
    return Bar(
        name=unit.name,
        place=places.index(unit.name) if places else None,
        value=unit.value,
        shown_value=number(unit.value, 2),
        contribution=signed(amount, 2),
        amount=amount,
        left=50 - half if amount < 0 else 50.0,
        width=half,
    )
