"""Matrices: agreement of explainers, coherency of metrics, locality of concepts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ibd.comparison.groups.agreement import MAIN_AGREEMENT
from ibd.comparison.report import names
from ibd.comparison.report.numbers import number
from ibd.comparison.report.tables import Table, metric_title
from ibd.comparison.results import Comparison, Floats
from ibd.explain.tcav_results import LEVEL
from ibd.metrics.functional.ranks import kendall_tau

_MOST_CELLS = 4000
"""Cells that a page holds of one matrix."""
_FEWEST = 3
"""Explainers that a ranking must have."""


@dataclass(frozen=True)
class Matrix:
    """Numbers by rows and columns, in [low, high]; NaN where unknown."""

    name: str
    title: str
    note: str
    rows: list[str]
    columns: list[str]
    values: Floats
    low: float
    high: float

    def cells(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return (row, [(text, strength of its color from -1 to 1)])."""
        return [
            (row, [(number(value, 2), f"{self._strength(value):.2f}") for value in line])
            for row, line in zip(self.rows, self.values, strict=True)
        ]

    def _strength(self, value: float) -> float:
        if not np.isfinite(value):
            return 0.0
        return float(np.clip(value / max(abs(self.low), abs(self.high)), -1, 1))


def agreement_matrix(comparison: Comparison, table: Table) -> Matrix | None:
    """Return the mean agreement of explainers, over the models of a family; None where none was measured."""
    measured = dict.fromkeys(key[1] for key in comparison.agreement)
    for measure in sorted(measured, key=lambda explainer: explainer != MAIN_AGREEMENT):
        models = [m.name for m in table.models if (m.name, measure) in comparison.agreement]
        order = comparison.agreement_names.get(models[0], []) if models else []
        values = [comparison.agreement[name, measure] for name in models if comparison.agreement_names[name] == order]
        if values:
            titles = [names.explainer_title(explainer) for explainer in order]
            words = "Spearman's correlation over pixels" if measure == MAIN_AGREEMENT else metric_title(measure)
            note = f"Mean {words} of each pair of maps; 1 is the same order of pixels, 0 an unrelated one."
            return Matrix("agreement", "Agreement of explainers", note, titles, titles, _mean(values), -1.0, 1.0)
    return None


def coherency_matrix(table: Table) -> Matrix | None:
    """Return Kendall's tau between the rankings that metrics give the explainers; None with fewer than two metrics.

    Reference maps and oracle are left out: that all metrics put noise last would look like agreement. Every ranking is
    from better to worse. A pair of metrics is compared on the explainers that have both; NaN with fewer than three.
    """
    columns = [c for some in table.columns.values() for c in some if c.higher_is_better is not None]
    scores = {
        column.name: np.array(
            [
                (1 if column.higher_is_better else -1) * row.cells[column.name].interval.mean
                if column.name in row.cells
                else np.nan
                for row in table.rows
            ]
        )
        for column in columns
    }
    columns = [column for column in columns if np.isfinite(scores[column.name]).sum() >= _FEWEST]
    if len(columns) < 2:
        return None
    values = np.full((len(columns), len(columns)), np.nan)
    for i, one in enumerate(columns):
        for j, other in enumerate(columns):
            both = np.isfinite(scores[one.name]) & np.isfinite(scores[other.name])
            if both.sum() >= _FEWEST:
                pair = [torch.from_numpy(scores[explainer.name][both]) for explainer in (one, other)]
                values[i, j] = float(kendall_tau(*pair))
    titles = [column.title for column in columns]
    note = "Kendall's τ between the rankings of the explainers by two metrics; −1 is the opposite order."  # noqa: RUF001
    return Matrix("coherency", "Coherency of metrics", note, titles, titles, values, -1.0, 1.0)


def locality_matrix(comparison: Comparison, table: Table) -> Matrix | None:
    """Return how far each part moves each group of concepts, over the models of a family; None without concepts."""
    accounts = [
        h for m in table.models if (h := comparison.self_consistency.get(m.name)) is not None and h.matrix is not None
    ]
    if not accounts:
        return None
    first = accounts[0]
    values = [h.matrix for h in accounts if h.matrix is not None and (h.rows, h.columns) == (first.rows, first.columns)]
    note = (
        "Row: the part that was replaced. Column: a group of concepts; the cell shows how far it moved at most. "
        "Only the diagonal should stand out."
    )
    return Matrix("locality", "Locality of concepts", note, first.rows, first.columns, _mean(values), 0.0, 1.0)


def concepts_matrix(comparison: Comparison, table: Table) -> Matrix | None:
    """Return which classes rest on which concepts, over the models of a family; None where that was not asked."""
    tests = [test for m in table.models if (test := comparison.concept_tests.get(m.name)) is not None]
    if not tests or tests[0].scores.size > _MOST_CELLS:
        return None
    first = tests[0]
    same = [test for test in tests if (test.concepts, test.classes) == (first.concepts, first.classes)]
    values = [np.where(test.p_values < LEVEL, 2 * test.scores - 1, np.nan) for test in same]
    note = (
        "Row: a concept; column: a class. 1: in all images of the class more of the concept, by the model's "
        f"{first.layer}, speaks for the class; −1: against it in all. Empty: not apart from random directions "  # noqa: RUF001
        f"(p ≥ {LEVEL:g}, corrected)."
    )
    return Matrix(
        "concepts", "What classes rest on (TCAV)", note, first.concepts, first.classes, _mean(values), -1.0, 1.0
    )


def _mean(values: list[Floats]) -> Floats:
    """Return the mean of what is known; NaN where nothing is."""
    stack = np.stack(values)
    count = np.isfinite(stack).sum(0)
    total = np.where(np.isfinite(stack), stack, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
