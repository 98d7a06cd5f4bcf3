"""The folded table of a family's own map, painted in every way."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ibd.comparison.groups import METRICS
from ibd.comparison.report import names
from ibd.comparison.report.numbers import digits_for, number, span
from ibd.comparison.report.tables import Table, metric_title, score_intervals
from ibd.comparison.results import Comparison
from ibd.metrics.functional.bootstrap import Interval


@dataclass(frozen=True)
class PaintingRow:
    """One way to paint: its title, what it does, and mean and interval by metric, in words."""

    title: str
    does: str
    cells: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class PaintingTable:
    """All ways to paint a family's own map, under the metrics that are shown: name -> title."""

    metrics: dict[str, str]
    rows: list[PaintingRow]
    means: dict[tuple[str, str], Interval]

    def range_of(self, metric: str) -> str:
        """Return from where to where the other paintings score, as a sentence; empty where there is none."""
        others = [
            mean.mean for (painting, name), mean in self.means.items() if name == metric and painting != "pooling"
        ]
        if not others:
            return ""
        digits = digits_for(others)
        low, high = number(min(others), digits), number(max(others), digits)
        return f" Painted in {len(others)} other ways the same account scores {low} to {high}."


def painting_table(comparison: Comparison, table: Table) -> PaintingTable | None:
    """Return the paintings of a family; None where none were measured."""
    models = [model.name for model in table.models]
    shown = [metric.name for metric in METRICS.values() if metric.by_painting]
    keys = dict.fromkeys((p, metric) for m, p, metric in comparison.paintings if m in models and metric in shown)
    values = []
    for painting, metric in keys:
        paintings = [comparison.paintings.get((model, painting, metric)) for model in models]
        like = next(painting for painting in paintings if painting is not None)
        values.append(
            torch.stack(
                [
                    torch.full((len(like),), torch.nan) if painting is None else torch.from_numpy(painting)
                    for painting in paintings
                ]
            ).double()
        )
    if not values:
        return None
    means = score_intervals(dict(zip(keys, values, strict=True)))
    metrics = {metric: metric_title(metric) for metric in shown if any(key[1] == metric for key in means)}
    digits = {name: digits_for(mean.mean for key, mean in means.items() if key[1] == name) for name in metrics}
    rows = []
    for painting, (title, does) in names.PAINTINGS.items():
        there = {metric: means[painting, metric] for metric in metrics if (painting, metric) in means}
        cells = {m: (number(i.mean, digits[m]), span(i.low, i.high, digits[m])) for m, i in there.items()}
        rows += [PaintingRow(title, does, cells)] if cells else []
    return PaintingTable(metrics, rows, means)
