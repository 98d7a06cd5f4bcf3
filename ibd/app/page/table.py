"""The images of a split as a table: which rows are wanted, in which order, and what each says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ibd.app.page.split_answers import Answers
from ibd.errors import ConfigError, did_you_mean
from ibd.metrics.concepts import decided
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.models.calibration.calibration import known_values
from ibd.models.prediction import read_out
from ibd.models.thresholds import called_true
from ibd.models.trained import TrainedModel
from ibd.types import Quantity

State = Literal["all", "right", "wrong", "answered", "abstains"]
Having = Literal["true", "false", "unknown", "called", "not called", "wrong"]
Order = Literal["image", "name", "truth", "predicted", "confidence", "right", "concepts", "concept"]
STATES, HAVINGS, ORDERS = get_args(State), get_args(Having), get_args(Order)


@dataclass(frozen=True)
class Rows:
    """N images with what a model says of them, and K concepts.

    Attributes:
        split: split of the images.
        class_names: names of the classes.
        concept_names: names of the concepts; none where units are not the concepts of the data.
        quantities: concept -> quantity, of those that are numbers.
        names: what a person calls the images.
        index: (N,) positions in the split.
        labels: (N,) true classes.
        predicted: (N,) predicted classes; -1 where the network itself has no answer.
        confidence: (N,) probabilities of the predicted classes; NaN without one.
        right: (N,) bool.
        abstains: (N,) bool, also where the model is not sure enough to answer.
        values: (N, K) what is said of the concepts.
        truth: (N, K) what is known of them, NaN where that is not.
        called: (N, K) bool, which are called true.
        errors: (N, K) how far each is off, NaN where unknown.
    """

    split: str
    class_names: tuple[str, ...]
    concept_names: tuple[str, ...]
    quantities: Mapping[int, Quantity]
    names: list[str]
    index: Tensor
    labels: Tensor
    predicted: Tensor
    confidence: Tensor
    right: Tensor
    abstains: Tensor
    values: Tensor
    truth: Tensor
    called: Tensor
    errors: Tensor

    @cached_property
    def folded(self) -> list[str]:
        """The names without capitals."""
        return [name.casefold() for name in self.names]

    @cached_property
    def known(self) -> Tensor:
        """Where a concept is known to be true or false, (N, K) bool; never of a quantity."""
        truths = torch.tensor([k not in self.quantities for k in range(len(self.concept_names))], dtype=torch.bool)
        return decided(self.truth) & truths

    @cached_property
    def concept_wrong(self) -> Tensor:
        """Where a concept is called other than it is, (N, K) bool."""
        return self.known & (self.called != (self.truth > 0.5))

    @cached_property
    def mean_errors(self) -> Tensor:
        """How far the known concepts of each image are off on average, (N,); NaN without any."""
        return self.errors.nanmean(1)


@dataclass(frozen=True)
class Wanted:
    """Which rows are wanted: those for which all of this holds.

    Attributes:
        state: whether the class is right, wrong, answered or not.
        truth: true class.
        predicted: predicted class; -1 is none.
        least: lowest confidence.
        most: highest confidence.
        concept: a concept, see `having`.
        having: what holds of it: it is true, false, unknown, called true, not called true, or called wrongly.
        text: part of the name.
    """

    state: State = "all"
    truth: int | None = None
    predicted: int | None = None
    least: float = 0.0
    most: float = 1.0
    concept: int | None = None
    having: Having = "wrong"
    text: str = ""


def rows_of(model: TrainedModel, answers: Answers, wrong: WhereWrong) -> Rows:
    """Return the table of what a model says of a split.

    Args:
        model: the model.
        answers: what it says.
        wrong: where it is wrong, of the same images.
    """
    network, count = model.network, len(answers)
    names = wrong.concept_names
    units = [network.unit_index(name) for name in names]
    truth = known_values(network, answers.read.concepts)
    none = torch.zeros(count, 0)
    called = called_true(network, answers.values, model.thresholds)[:, units] if units else none.bool()
    silent = wrong.silent
    return Rows(
        answers.split,
        wrong.class_names,
        names,
        {k: network.quantities[unit] for k, unit in enumerate(units) if unit in network.quantities},
        answers.names,
        answers.index,
        wrong.labels,
        wrong.predicted.masked_fill(silent, -1),
        wrong.confidence.masked_fill(silent, torch.nan),
        wrong.right,
        answers.abstains,
        answers.values[:, units] if units else none,
        none if truth is None or not units else truth[:, units],
        called,
        wrong.concept_errors,
    )


def selected(rows: Rows, wanted: Wanted) -> Tensor:
    """Return the positions of the rows that are wanted, (M,), in the order of the images."""
    keep = _state(rows, wanted.state)
    if wanted.truth is not None:
        keep = keep & (rows.labels == wanted.truth)
    if wanted.predicted is not None:
        keep = keep & (rows.predicted == wanted.predicted)
    if wanted.least > 0:
        keep = keep & (rows.confidence >= wanted.least)
    if wanted.most < 1:
        keep = keep & (rows.confidence <= wanted.most)
    if wanted.concept is not None:
        keep = keep & _having(rows, wanted.concept, wanted.having)
    if wanted.text:
        part = wanted.text.casefold()
        keep = keep & torch.tensor([part in name for name in rows.folded], dtype=torch.bool)
    return keep.nonzero().flatten()


def _state(rows: Rows, state: State) -> Tensor:
    found = {"right": rows.right, "wrong": ~rows.right, "abstains": rows.abstains, "answered": ~rows.abstains}
    return found.get(state, torch.ones_like(rows.right))


def _having(rows: Rows, concept: int, having: Having) -> Tensor:
    known, true, called = rows.known[:, concept], rows.truth[:, concept] > 0.5, rows.called[:, concept]
    return {
        "true": known & true,
        "false": known & ~true,
        "unknown": rows.truth[:, concept].isnan(),
        "called": called,
        "not called": ~called,
        "wrong": rows.concept_wrong[:, concept],
    }[having]


def ordered(rows: Rows, positions: Tensor, by: Order, descending: bool = False, concept: int | None = None) -> Tensor:
    """Return positions of rows in another order; equal ones stay in theirs, and what has no value comes last.

    Args:
        rows: the table.
        positions: (M,) positions in it.
        by: what they are ordered by; "right" has the wrong ones first, "concepts" is how far these are off on average,
            "concept" the value of one.
        descending: whether the largest comes first.
        concept: the one of "concept".
    """
    if by == "name":
        order = sorted(range(len(positions)), key=lambda i: rows.folded[int(positions[i])], reverse=descending)
        return positions[torch.tensor(order, dtype=torch.long)]
    if by == "image" or (by == "concept" and concept is None):
        return positions.flip(0) if descending else positions
    keys = {
        "truth": rows.labels,
        "predicted": rows.predicted,
        "confidence": rows.confidence,
        "right": rows.right,
        "concepts": rows.mean_errors,
        "concept": rows.values[:, concept or 0] if rows.values.shape[1] else rows.confidence,
    }
    key = keys[by][positions].double()
    key = (-key if descending else key).nan_to_num(torch.inf)
    return positions[key.argsort(stable=True)]


def described(rows: Rows, position: int, chosen: int | None = None, shown: int = 3) -> dict[str, Any]:
    """Return a row as plain values.

    Args:
        rows: the table.
        position: place of the row in it.
        chosen: a concept that is named in any case.
        shown: number of concepts that are named, those that are furthest off first.
    """
    predicted = int(rows.predicted[position])
    errors = rows.errors[position]
    there = (~errors.isnan()).nonzero().flatten()
    worst = there[errors[there].argsort(descending=True, stable=True)][:shown].tolist()
    return {
        "image": f"{rows.split}:{int(rows.index[position])}",
        "name": rows.names[position],
        "truth": int(rows.labels[position]),
        "predicted": None if predicted < 0 else predicted,
        "confidence": float(rows.confidence[position]),
        "right": bool(rows.right[position]),
        "abstains": bool(rows.abstains[position]),
        "concepts": [_concept(rows, position, k) for k in worst],
        "chosen": None if chosen is None else _concept(rows, position, chosen),
        "known": int(rows.known[position].sum()),
        "wrong": int(rows.concept_wrong[position].sum()),
    }


def _concept(rows: Rows, position: int, concept: int) -> dict[str, Any]:
    quantity, truth = rows.quantities.get(concept), float(rows.truth[position, concept])
    whole = {0.0: "no", 1.0: "yes"} if quantity is None else {}
    known = "unknown" if truth != truth else whole.get(truth) or read_out(truth, quantity)
    return {
        "name": rows.concept_names[concept],
        "truth": known,
        "value": read_out(float(rows.values[position, concept]), quantity),
        "wrong": bool(rows.concept_wrong[position, concept]),
    }


def index_of(what: str, name: str, names: tuple[str, ...]) -> int:
    """Return the position of a name.

    Raises:
        ConfigError: there is no such name.
    """
    if name not in names:
        raise ConfigError(f"{what}: there is no '{name}'.{did_you_mean(name, names)}")
    return names.index(name)
