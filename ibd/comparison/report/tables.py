"""The main tables: explainers by metrics, one table for each family of models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ibd.comparison import groups
from ibd.comparison.groups import METRICS
from ibd.comparison.methods import ORACLE
from ibd.comparison.report import names
from ibd.comparison.report.differences import many_intervals
from ibd.comparison.report.marks import OVER_NOISE, best_and_tied
from ibd.comparison.report.numbers import digits_for
from ibd.comparison.report.outcomes import at_chance
from ibd.comparison.results import Comparison, ExplainerInfo, ModelInfo
from ibd.metrics.functional.bootstrap import Interval, normalized_score

Scored = TypeVar("Scored", bound=tuple[str, ...])

REAL = ("intrinsic", "posthoc")
"""Kinds of explainers that are compared; the others are what they are compared with."""


@dataclass(frozen=True)
class Column:
    """A metric as a column.

    Attributes:
        name: name of the metric.
        title: title of the column.
        question: question whose group it stands in.
        definition: definition in a sentence; empty for a metric that `ibd.comparison.groups` does not know.
        source: paper that it is from.
        range: range in words.
        higher_is_better: whether higher values are better; None where neither is.
        digits: decimals of its values.
    """

    name: str
    title: str
    question: str
    definition: str
    source: str
    range: str
    higher_is_better: bool | None
    digits: int

    @property
    def arrow(self) -> str:
        """The direction as a sign; empty where there is none."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def direction(self) -> str:
        """The direction in words."""
        return {True: "higher is better", False: "lower is better", None: "neither is better"}[self.higher_is_better]


@dataclass(frozen=True)
class Cell:
    """A score of an explainer.

    Attributes:
        interval: mean over models and images, with its interval.
        normalized: 0 for noise, 1 for the oracle; NaN without them.
        best: whether no other explainer's mean is better, and some other one differs clearly from it; see `marks`.
        tied: whether it shows no clear difference from the best.
    """

    interval: Interval
    normalized: float
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Row:
    """An explainer's scores, by metric; what does not apply is absent."""

    explainer: ExplainerInfo
    title: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """The scores of a family of models.

    Attributes:
        family: registered name of the family.
        title: title of the family.
        models: models of the family, its trainings.
        columns: columns by question, in their order.
        rows: explainers that are compared.
        references: reference maps and the oracle.
    """

    family: str
    title: str
    models: list[ModelInfo]
    columns: dict[str, list[Column]]
    rows: list[Row]
    references: list[Row]

    @property
    def scaled(self) -> bool:
        """Whether any score stands between noise and the oracle, which exists only for drawn data."""
        cells = [cell for row in (*self.rows, *self.references) for cell in row.cells.values()]
        return any(math.isfinite(cell.normalized) for cell in cells)

    def row(self, explainer: str) -> Row | None:
        """Return the row of an explainer, reference maps and oracle included."""
        return next((row for row in (*self.rows, *self.references) if row.explainer.name == explainer), None)


def families(comparison: Comparison) -> dict[str, list[ModelInfo]]:
    """Return the models by family, in the order given."""
    groups: dict[str, list[ModelInfo]] = {}
    for model in comparison.models:
        groups.setdefault(model.family, []).append(model)
    return groups


def family_values(comparison: Comparison, models: Iterable[ModelInfo], explainer: str, metric: str) -> Tensor | None:
    """Return the (M, N) scores of an explainer, NaN for a model that was not measured; None where none was.

    A metric with one figure for all images gives (M, 1).
    """
    scores = [comparison.scores.get((model.name, explainer, metric)) for model in models]
    there = [torch.from_numpy(values).double() for values in scores if values is not None]
    if not there or bool(torch.cat(there).isnan().all()):
        return None
    missing = torch.full_like(there[0], torch.nan)
    return torch.stack([missing if values is None else torch.from_numpy(values).double() for values in scores])


def score_intervals(values: Mapping[Scored, Tensor]) -> dict[Scored, Interval]:
    """Return the intervals of scores, by a key that ends with the metric, within the range that the metric has.

    Scores that are bounded have means that are: from few trainings an interval may be wider than the range itself.
    """
    intervals = zip(values, many_intervals(list(values.values())), strict=True)
    return {key: _within(interval, key[-1]) for key, interval in intervals}


def _within(interval: Interval, metric: str) -> Interval:
    known = METRICS.get(metric)
    if known is None:
        return interval
    low, high = known.range
    return replace(interval, low=max(interval.low, low), high=min(interval.high, high))


def make_table(comparison: Comparison, family: str) -> Table:
    """Return the table of a family of models."""
    models = families(comparison)[family]
    values = {
        (explainer.name, metric): score
        for explainer in comparison.explainers
        for metric in comparison.metrics
        if (score := family_values(comparison, models, explainer.name, metric)) is not None
    }
    means = score_intervals(values)
    columns = [_column(metric, means) for metric in comparison.metrics if any(key[1] == metric for key in means)]
    real = [explainer.name for explainer in comparison.explainers if explainer.kind in REAL]
    higher = {column.name: column.higher_is_better for column in columns if column.higher_is_better is not None}
    noise = reference_of(comparison, "reference")
    asked = {column.name: noise for column in columns if noise and column.question in OVER_NOISE}
    marks = {} if at_chance(comparison, models) else best_and_tied(values, means, real, higher, asked)
    rows = [_row(comparison, explainer, means, marks) for explainer in comparison.explainers]
    grouped = {q: [column for column in columns if column.question == q] for q in names.ORDER}
    return Table(
        family,
        names.family_title(family),
        models,
        {question: some for question, some in grouped.items() if some},
        [row for row in rows if row.explainer.kind in REAL and row.cells],
        [row for row in rows if row.explainer.kind not in REAL and row.cells],
    )


def higher_is_better(metric: str) -> bool | None:
    """Return the direction of a metric; None where there is none, or it is unknown."""
    return METRICS[metric].higher_is_better if metric in METRICS else None


def question_of(metric: str) -> str:
    """Return the question that a metric answers, one of `names.ORDER`."""
    return groups.question_of(metric) if metric in METRICS else "Other"


def metric_title(metric: str) -> str:
    """Return the title of a metric's column."""
    return METRICS[metric].title if metric in METRICS else names.capital(names.plain(metric))


def _column(metric: str, means: dict[tuple[str, str], Interval]) -> Column:
    digits = digits_for(mean.mean for key, mean in means.items() if key[1] == metric)
    entry = METRICS.get(metric)
    if entry is None:
        return Column(metric, metric_title(metric), "Other", "", "", "", None, digits)
    low, high = (f"{end:g}".replace("-", "−").replace("inf", "∞") for end in entry.range)  # noqa: RUF001
    spread = f"{low} to {high}" + (f", {entry.by_chance}" if entry.by_chance else "")
    return Column(
        metric,
        entry.title,
        question_of(metric),
        entry.definition,
        entry.source,
        spread,
        higher_is_better(metric),
        digits,
    )


def _row(
    comparison: Comparison,
    explainer: ExplainerInfo,
    means: dict[tuple[str, str], Interval],
    marks: dict[tuple[str, str], tuple[bool, bool]],
) -> Row:
    cells = {}
    for metric in comparison.metrics:
        key = (explainer.name, metric)
        if key in means:
            ends = [_mean(means, comparison, kind, metric) for kind in ("reference", "oracle")]
            cells[metric] = Cell(means[key], float(normalized_score(means[key].mean, *ends)), *marks.get(key, ()))
    return Row(explainer, names.explainer_title(explainer.name), cells)


def _mean(means: dict[tuple[str, str], Interval], comparison: Comparison, kind: str, metric: str) -> float:
    """Return the mean of noise, or of the oracle; NaN without them."""
    reference = reference_of(comparison, kind)
    value = means.get((reference, metric)) if reference else None
    return value.mean if value else float("nan")


def reference_of(comparison: Comparison, kind: str) -> str | None:
    """Return the name of the reference map that stands for chance (noise, or else the first), or of the oracle.

    Of the two oracles it is the one whose means over parts are right.
    """
    named = [explainer.name for explainer in comparison.explainers if explainer.kind == kind]
    return next((name for name in ("noise", ORACLE) if name in named), next(iter(named), None))
