"""What a discovery leaves in its folder: the page, tables, names, and the directions."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ibd.app.discovery.found import DIRECTIONS, NAMES, Discovery
from ibd.app.discovery.naming import write_names
from ibd.app.discovery.page import render
from ibd.errors import ConfigError


def write(found: Discovery, folder: Path) -> Path:
    """Write all of it; return where the page is.

    Raises:
        ConfigError: a file cannot be written.
    """
    called = found.directions.details["called"]
    names = {old: new for old, new in zip(called, found.directions.names, strict=True) if old != new}
    page = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page.write_text(render(found), encoding="utf-8")
        _table(folder / "concepts.csv", _concepts(found))
        _table(folder / "tried.csv", _tried(found))
    except OSError as error:
        raise ConfigError(f"cannot write to '{folder}': {error.strerror or error}") from None
    write_names(folder / NAMES, called, names, found.proposals)
    found.directions.save(folder / DIRECTIONS)
    return page


def _table(path: Path, rows: Iterator[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _concepts(found: Discovery) -> Iterator[Sequence[object]]:
    """Yield a row for each concept: all that is known of it in numbers."""
    classes = found.subject.data.spec.class_names
    worth = found.importance
    columns = ["concept", "name", "found_again", *(f"auroc of class {name}" for name in classes)]
    columns += [f"{worth.kind} importance for {name}" for name in classes] if worth else []
    overlaps = [(what, over) for what, over in (("auroc", found.labels), ("iou", found.masks)) if over is not None]
    columns += [f"{what} of {name}" for what, over in overlaps for name in over.names]
    yield columns
    called = found.directions.details["called"]
    for index, name in enumerate(found.directions.names):
        row: list[object] = [called[index], name, _number(found.again[index])]
        row += [_number(value) for value in found.classes[index]]
        row += [_number(value) for value in worth.values[index]] if worth else []
        row += [_number(value) for _, over in overlaps for value in over.value[index]]
        yield row


def _tried(found: Discovery) -> Iterator[Sequence[object]]:
    yield ["k", "found_again", "explained", "explained_unseen", "active", "chosen"]
    for tried in found.tried:
        numbers = [_number(value) for value in (tried.stability, tried.explained, tried.unseen, tried.active)]
        yield [tried.k, *numbers, int(tried is found.chosen)]


def _number(value: object) -> str:
    """Return a number with its digits; nothing where there is none."""
    number = float(value)  # type: ignore[arg-type]  # a number, or a tensor of one
    return "" if number != number else f"{number:.5g}"
