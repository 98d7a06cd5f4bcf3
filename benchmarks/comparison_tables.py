"""The main findings of a comparison as Markdown: explainers by families of models, in the report's own figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ibd.app.compare import summary
from ibd.comparison.groups import METRICS
from ibd.comparison.report import Report
from ibd.comparison.report.names import explainer_title, family_title
from ibd.comparison.report.numbers import number, span
from ibd.comparison.report.tables import Cell, Table, metric_title
from ibd.metrics.functional.bootstrap import Interval

_DIRECTION = {True: "higher is better", False: "lower is better", None: "neither is better"}


def findings(
    report: Report,
    metrics: Sequence[str],
    trained: Mapping[str, Sequence[Mapping[str, Any]]],
    differences: Sequence[str] = (),
) -> str:
    """Return accuracies, one table for each metric, what own maps score more than other explainers, and the verdicts.

    Args:
        report: of the comparison.
        metrics: which get a table.
        trained: model -> for each seed what its training and its test gave.
        differences: metrics that get a table of paired differences.
    """
    tables = [view.table for view in report.views]
    models, images = len(report.comparison.models), len(report.comparison.image_ids)
    parts = [accuracies(trained), *(metric_table(tables, metric) for metric in metrics)]
    parts += [difference_table(report, metric) for metric in differences]
    head = f"{models} trainings, {images} images. Mean [95 % interval]; bold: the best of its column."
    return "\n\n".join([head, *parts, "```\n" + summary(report) + "\n```"]) + "\n"


def accuracies(trained: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the accuracy on the test images by model, mean and standard deviation over trainings."""
    lines = ["| model | trainings | test accuracy, % | training, min |", "|---|---|---|---|"]
    for model, runs in trained.items():
        right = [100 * float(run["test/accuracy"]) for run in runs]
        spread = f" ± {number(statistics.stdev(right), 1)}" if len(right) > 1 else ""
        minutes = statistics.fmean(float(run["wall_s"]) for run in runs) / 60
        name = family_title(model)
        lines.append(f"| {name} | {len(runs)} | {number(statistics.fmean(right), 1)}{spread} | {number(minutes, 1)} |")
    return "\n".join(lines)


def metric_table(tables: Sequence[Table], metric: str) -> str:
    """Return the scores of all explainers, reference maps and oracle by one metric, a column for each family."""
    entry = METRICS[metric]
    title = f"**{metric_title(metric)}** (`{metric}`, {_DIRECTION[entry.higher_is_better]})"
    rows = [row for table in tables for row in (*table.rows, *table.references) if metric in row.cells]
    if not rows:
        return f"{title}: not measured on this data."
    lines = [title, "", "| | " + " | ".join(table.title for table in tables) + " |", "|---" * (len(tables) + 1) + "|"]
    for name in _order(tables):
        cells = [_shown(table, name, metric) for table in tables]
        if any(cells):
            lines.append(f"| {explainer_title(name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference_table(report: Report, metric: str) -> str:
    """Return what the own map of a family scores more than each other explainer, paired, a column for each family."""
    title = f"**{metric_title(metric)}**: the model's own map less another explainer's, paired (`{metric}`)"
    views = report.views
    found = {
        (verdict.other, view.table.family): verdict
        for view in views
        for verdict in view.verdicts
        if verdict.metric == metric and verdict.kind in ("posthoc", "intrinsic")
    }
    if not found:
        return f"{title}: not measured on this data."
    lines = [title, "", f"| | {' | '.join(view.table.title for view in views)} |", "|---" * (len(views) + 1) + "|"]
    for other in dict.fromkeys(name for name, _ in found):
        cells = [found.get((other, view.table.family)) for view in views]
        texts = ["" if cell is None else _signed(cell.interval) for cell in cells]
        lines.append(f"| {explainer_title(other)} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _signed(value: Interval) -> str:
    return f"{'+' if value.mean > 0 else ''}{number(value.mean, 2)} {span(value.low, value.high, 2)}".strip()


def _order(tables: Sequence[Table]) -> list[str]:
    """Return the explainers of all families, then the reference maps and the oracle."""
    names = [row.explainer.name for table in tables for row in table.rows]
    names += [row.explainer.name for table in tables for row in table.references]
    return list(dict.fromkeys(names))


def _shown(table: Table, explainer: str, metric: str) -> str:
    row = table.row(explainer)
    cell = None if row is None else row.cells.get(metric)
    return "" if cell is None else _text(cell, _digits(table, metric))


def _text(cell: Cell, digits: int) -> str:
    mean = number(cell.interval.mean, digits)
    ends = span(cell.interval.low, cell.interval.high, digits)
    return f"**{mean}** {ends}".strip() if cell.best else f"{mean} {ends}".strip()


def _digits(table: Table, metric: str) -> int:
    return next(column.digits for columns in table.columns.values() for column in columns if column.name == metric)
