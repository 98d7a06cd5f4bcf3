"""The small tables: sanity, self-consistency, cost, shortcut, and what was skipped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ibd.comparison.groups import FIGURES
from ibd.comparison.report import names
from ibd.comparison.report.numbers import digits_for, listed, number
from ibd.comparison.report.tables import Table, metric_title
from ibd.comparison.results import Comparison, CostInfo


@dataclass(frozen=True)
class SanityCell:
    """A check over the models of a family: how many passed of how many it applies to, and its mean figure."""

    passed: int
    asked: int
    value: str

    @property
    def outcome(self) -> str:
        """The result in a word: "pass", "fail", "mixed", or "" where it does not apply."""
        if not self.asked:
            return ""
        return "pass" if self.passed == self.asked else "mixed" if self.passed else "fail"


@dataclass(frozen=True)
class SanityRow:
    """An explainer's checks, by name."""

    name: str
    title: str
    cells: dict[str, SanityCell]

    @property
    def passed(self) -> tuple[int, int]:
        """How many checks all models passed, of how many apply."""
        asked = [cell for cell in self.cells.values() if cell.asked]
        return sum(check.outcome == "pass" for check in asked), len(asked)


@dataclass(frozen=True)
class SelfConsistencyRow:
    """A figure of a family: its mean, that of every model, and how to read it."""

    title: str
    mean: str
    by_seed: str
    reading: str


@dataclass(frozen=True)
class CostRow:
    """What an explainer takes for one image, a mean over the models of a family."""

    name: str
    title: str
    kind: str
    forwards: float
    backwards: float
    heads: float
    seconds: float


@dataclass(frozen=True)
class SkippedRow:
    """What was not measured, in words, and why."""

    what: str
    why: str


def sanity_rows(comparison: Comparison, table: Table) -> list[SanityRow]:
    """Return the checks of every explainer of a family that was checked."""
    rows = []
    for explainer in comparison.explainers:
        keys = [(model.name, explainer.name) for model in table.models]
        some = [comparison.sanity[key] for key in keys if key in comparison.sanity]
        checks = dict.fromkeys(check for row in some for check in (*row.passed, *row.values))
        cells = {}
        for check in checks:
            results = [r for row in some if (r := row.passed.get(check)) is not None]
            value = _mean(row.values.get(check, float("nan")) for row in some)
            cells[check] = SanityCell(sum(results), len(results), number(value, 2))
        if some:
            rows.append(SanityRow(explainer.name, names.explainer_title(explainer.name), cells))
    return rows


def self_consistency_rows(comparison: Comparison, table: Table) -> list[SelfConsistencyRow]:
    """Return the figures of a family's own account of itself."""
    accounts = [
        comparison.self_consistency[model.name].named()
        for model in table.models
        if model.name in comparison.self_consistency
    ]
    rows = []
    for key in dict.fromkeys(key for account in accounts for key in account):
        values = [account.get(key, float("nan")) for account in accounts]
        if np.isfinite(values).any():
            digits = digits_for(values)
            title, reading = _figure_title(*key), FIGURES[key[0]].reading if key[0] in FIGURES else ""
            seeds = listed(number(value, digits) or "unknown" for value in values) if len(values) > 1 else ""
            rows.append(SelfConsistencyRow(title, number(_mean(values), digits), seeds, reading))
    return rows


def cost_rows(comparison: Comparison, table: Table) -> list[CostRow]:
    """Return what every explainer takes, reference maps and oracle included."""
    rows = []
    for explainer in comparison.explainers:
        keys = [(model.name, explainer.name) for model in table.models]
        some: list[CostInfo] = [comparison.costs[key] for key in keys if key in comparison.costs]
        if some:
            means = [
                _mean(getattr(cost, name) for cost in some) for name in ("forwards", "backwards", "heads", "seconds")
            ]
            rows.append(CostRow(explainer.name, names.explainer_title(explainer.name), explainer.kind, *means))
    return rows


def metric_seconds(comparison: Comparison, table: Table) -> list[tuple[str, float]]:
    """Return (group of metrics, seconds) over all models and explainers of a family, the longest first."""
    total: dict[str, float] = {}
    members = {model.name for model in table.models}
    for (model, _), cost in comparison.costs.items():
        for group, seconds in cost.metric_seconds.items() if model in members else ():
            total[group] = total.get(group, 0.0) + seconds
    return sorted(((names.capital(names.plain(k)), v) for k, v in total.items()), key=lambda pair: -pair[1])


def shortcut_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return (figure, its value for every model that has any)."""
    models = [tagged.named() for tagged in comparison.shortcut.values()]
    rows = []
    for key in dict.fromkeys(key for figures in models for key in figures):
        values = [figures.get(key, float("nan")) for figures in models]
        rows.append((_figure_title(*key), [number(value, digits_for(values)) for value in values]))
    return rows


def skipped_rows(comparison: Comparison) -> list[SkippedRow]:
    """Return what was left out, the metrics, models and explainers of one reason together."""
    reasons: dict[tuple[str | None, str], tuple[dict[str, None], dict[str, None]]] = {}
    for entry in comparison.skipped:
        models, explainers = reasons.setdefault((entry.metric, entry.why), ({}, {}))
        models[entry.model or "all models"] = None
        explainers[names.explainer_title(entry.explainer) if entry.explainer else "all explainers"] = None
    alike: dict[tuple[str, str], list[str]] = {}
    for (metric, why), (models, explainers) in reasons.items():
        of = f"{listed(explainers)}, {listed(models)}"
        alike.setdefault((of, why), []).append(metric_title(metric) if metric else "All metrics")
    return [SkippedRow(f"{listed(metrics)}, {of}", why) for (of, why), metrics in alike.items()]


def _figure_title(name: str, of: str) -> str:
    """Return the title of a figure, which may be that of one explainer, unit or part."""
    title = names.capital(names.plain(name))
    return f"{title}: {names.EXPLAINERS.get(of, of)}" if of else title


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
