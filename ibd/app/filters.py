"""What the verb `filters` writes: how far the units of a run keep to parts of objects, a table, a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ibd.app.terminal import save_figure, writing
from ibd.data.base import Split
from ibd.io import find_run
from ibd.models.interpretable_cnn.evaluation import FilterReport, evaluate_filters, load_with_masks
from ibd.models.interpretable_cnn.figures import filters_figure, shown_filters


def show_filters(run: str, changes: Sequence[str], split: Split, top: int, out: Path | None) -> Iterator[str]:
    """Measure and draw the filters of a run; yield lines on it for a person, as they come.

    Args:
        run: RUN of the command line.
        changes: changes to its data.
        split: images to measure, and to draw.
        top: filters to draw; 0 for none.
        out: folder to write into.

    Raises:
        UnsupportedError: the units have no maps.
        ConfigError: a file cannot be written.
    """
    model, data = load_with_masks(run, *changes)
    folder = out or find_run(run) / "figures" / "filters"
    report = evaluate_filters(model, data, split)
    for name, value in report.figures.items():
        yield f"{name:<24} {value:.4g}"
    table = folder / "filters.csv"
    with writing(table):
        _save(report, data.spec.class_names, table)
    yield f"table:   {table} ({len(report.unit_names)} rows)"
    chosen = shown_filters(report, top)
    if chosen:
        figure = filters_figure(model, data.dataset(split), report, chosen)
        yield f"figure:  {save_figure(figure, folder / 'filters.png')}"


def _save(report: FilterReport, classes: Sequence[str], path: Path) -> None:
    """Write a row for each filter."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        parts = [f"{kind} {name}" for kind in ("purity", "instability") for name in report.part_names]
        writer.writerow(["filter", "class", "part_interpretability", *parts])
        for unit, name in enumerate(report.unit_names):
            label = int(report.category[unit])
            values = [report.interpretability[unit]]
            if report.part_names:
                values += [*report.purity[unit], *report.instability[unit]]
            row = ["" if bool(value.isnan()) else f"{float(value):.6g}" for value in values]
            writer.writerow([name, classes[label] if label >= 0 else "", *row])
