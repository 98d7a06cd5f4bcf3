"""What a card says of thresholds: from which probability on something is called true, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ibd.app.card.blocks import Absent, Block, Grid, Stale
from ibd.app.card.measured import changed
from ibd.app.card.pieces import number, spread
from ibd.app.card.reading import CardRun, Kept
from ibd.models.thresholds import CONFIDENCE


def thresholds(run: CardRun) -> list[Block]:
    """Return from which probability on a concept is called present, and a class answered."""
    kept, command = run.thresholds, f"ibd threshold {run.given} precision=0.95"
    if kept is None:
        return [Absent("No thresholds of concepts or of answers were set.", command)]
    if kept.stale:
        return [Stale("Thresholds", kept.source, kept.stale, command)]
    named = {CONFIDENCE: kept.plain.get("confidence"), **(kept.plain.get("concepts") or {})}
    given = {name: one for name, one in named.items() if isinstance(one, dict)}
    rows = [
        [_called(name), number(one["value"]), _reached(one), f"{one.get('right')} of {one.get('called')}"]
        for name, one in given.items()
    ]
    columns = ["of", "called true from", "precision", "right"]
    grid = Grid(f"Thresholds, set on {kept.plain.get('split')} images", columns, rows, kept.source)
    return [grid, *_tested(run, {name: one["value"] for name, one in given.items()})]


def _reached(one: Mapping[str, object]) -> str:
    ends = {"value": one.get("precision"), "low": one.get("precision_low"), "high": one.get("precision_high")}
    return spread(ends)


def _called(name: str) -> str:
    return "an answer" if name == CONFIDENCE else name


def _tested(run: CardRun, values: Mapping[str, object]) -> list[Block]:
    """Return what thresholds come to in the tests that were made with them."""
    tests = {split: (kept, _rows(kept, values)) for split, kept in run.tested.items() if not kept.stale}
    blocks = [block for split, (kept, rows) in tests.items() if rows for block in _grid(split, kept, rows)]
    missing = Absent("What these thresholds come to on other images was not measured.", f"ibd test {run.given}")
    return blocks or [missing]


def _rows(kept: Kept, values: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return the thresholds of a test that are still those of the run."""
    return [one for one in kept.plain.get("thresholds") or [] if values.get(one["of"]) == one["from"]]


def _grid(split: str, kept: Kept, rows: list[dict[str, Any]]) -> list[Block]:
    shares = [[spread(one[share]) for share in ("precision", "recall")] for one in rows]
    texts = [[_called(one["of"]), *pair, number(one["called_true"])] for one, pair in zip(rows, shares, strict=True)]
    columns = ["of", "precision", "recall", "called true"]
    grid = Grid(f"What they come to, {split} images", columns, texts, f"{kept.source}/thresholds.csv")
    return [*changed(split, kept), grid]
