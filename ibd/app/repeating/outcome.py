"""What several trainings have come to: each figure's mean, standard deviation and interval, as tables and a picture."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from ibd import __version__
from ibd.app.repeating.plan import Plan
from ibd.drawing import PlainFigure, shorten
from ibd.errors import CheckpointError
from ibd.io import find_checkpoint, sha256
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.random_effects import two_level_interval
from ibd.metrics.functional.trainings import OverTrainings, over_trainings

LEVEL = 0.95
_DRAWN, _SHOWN = 24, 6
"""Figures in the picture; trainings whose values stand on the screen."""
_FIRST = ("test/accuracy", "test/balanced_accuracy", "test/concept_auroc")
"""What a person looks for; the other figures follow in the order of the test."""
_BLUE, _GRAY = "#1971c2", "#868e96"


class Row(NamedTuple):
    """A figure over trainings: its name, what is sure of it, and its value by training, NaN where one has none."""

    name: str
    over: OverTrainings
    values: dict[str, float]


def read_rows(plan: Plan) -> list[Row]:
    """Return what the test of each training says, figure by figure.

    Raises:
        CheckpointError: a run has no figures.
    """
    figures = {name: _figures(plan.run(name) / "test.json") for name in plan.names}
    known = dict.fromkeys(figure for own in figures.values() for figure in own)
    known = {figure: None for figure in _FIRST if figure in known} | known
    rows = []
    for figure in known:
        if figure.endswith(("_low", "_high")) and figure.rpartition("_")[0] in known:
            continue  # the ends of an interval over images
        values = {name: own.get(figure, math.nan) for name, own in figures.items()}
        rows.append(Row(figure, over_trainings(list(values.values()), LEVEL, plan.overlap), values))
    return rows


def _figures(path: Path) -> dict[str, float]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in read.items() if isinstance(value, int | float)}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"'{path}' cannot be read ({type(error).__name__}); delete it to test anew") from None


def over_images_too(plan: Plan) -> Interval | None:
    """Return the accuracy with an interval that holds for other trainings and other images, see `random_effects`.

    Of trainings that were tested on the same images, whose ``tested/test/images.csv`` says which each had right; else
    None.
    """
    if plan.apart:
        return None
    right = [_right(plan.run(name) / "tested" / "test" / "images.csv") for name in plan.names]
    if not all(right) or len(set(map(len, right))) > 1:
        return None
    return two_level_interval(torch.tensor(right), LEVEL)


def _right(path: Path) -> list[float]:
    """Return which images a test had right, 1 or 0; nothing where it has not written that."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [float(row["right"] == "true") for row in csv.DictReader(file)]
    except (OSError, KeyError):
        return []


def what_holds(plan: Plan) -> str:
    """Return in a sentence what the intervals of a plan hold for."""
    count = len(plan.values)
    sizes = [of["test"] for of in plan.images.values()]
    if plan.kind == "seed":
        if plan.apart:
            return f"{count} trainings on images of their own: the interval holds for other trainings and other images"
        return (
            f"{count} trainings tested on the same {sizes[0]} images: the interval holds for other trainings, on these"
        )
    if plan.apart:
        return (
            f"each of {count} folds tested by the training that left it out, {sum(sizes)} images in all; the interval "
            f"is widened for images that trainings share (Nadeau and Bengio 2003, tested / trained {plan.overlap:.2f})"
        )
    return (
        f"{count} trainings, each without one fold, tested on the same {sizes[0]} images; they share most of their "
        "images, so that trainings on others would differ more"
    )


def lines_of(rows: list[Row], plan: Plan) -> list[str]:
    """Return the table for a screen."""
    shown = plan.names if len(plan.names) <= _SHOWN else []
    width = max([len(row.name) for row in rows] + [6])
    lines = [what_holds(plan)]
    lines.append(f"{'figure':<{width}}     mean       sd  95 % interval        " + "".join(f"{n:>10}" for n in shown))
    for row in rows:
        over = row.over
        interval = "-" if math.isnan(over.low) else f"[{over.low:.4f}, {over.high:.4f}]"
        each = "".join(f"{row.values[name]:>10.4f}" for name in shown)
        lines.append(f"{row.name:<{width}} {over.mean:>8.4f} {over.sd:>8.4f}  {interval:<21}{each}".rstrip())
    if (wide := over_images_too(plan)) is not None:
        held = "accuracy for other trainings and other images"
        lines.append(f"{held}: {wide.mean:.4f} [{wide.low:.4f}, {wide.high:.4f}]")
    return lines


def save_rows(rows: list[Row], plan: Plan) -> list[Path]:
    """Write ``repeat.csv``, ``repeat.json`` and ``repeat.png`` into the folder of a plan; return where they are."""
    table, text, picture = (plan.folder / f"repeat.{ending}" for ending in ("csv", "json", "png"))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["figure", "mean", "sd", "low", "high", "trainings", *plan.names])
        for row in rows:
            writer.writerow([row.name, *map(_cell, [*asdict(row.over).values(), *row.values.values()])])
    text.write_text(json.dumps(_plain(rows, plan), indent=1, allow_nan=False), encoding="utf-8")
    figure_of(rows, plan).savefig(picture)
    return [table, text, picture]


def _plain(rows: list[Row], plan: Plan) -> dict[str, object]:
    """Return what the JSON file says."""
    wide = over_images_too(plan)
    return {
        "config": plan.given,
        plan.kind + "s": list(plan.values),
        "runs": {name: str(plan.run(name)) for name in plan.names},
        "checkpoints": {name: sha256(find_checkpoint(plan.run(name))) for name in plan.names},
        "images": plan.images,
        "level": LEVEL,
        "holds": what_holds(plan),
        "figures": {
            row.name: {key: _known(value) for key, value in asdict(row.over).items()}
            | {"values": {name: _known(value) for name, value in row.values.items()}}
            for row in rows
        },
        "accuracy_over_images_too": None
        if wide is None
        else {key: _known(value) for key, value in asdict(wide).items()},
        "versions": {"ibd": __version__, "torch": torch.__version__},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(value: float) -> str | float:
    return "" if isinstance(value, float) and math.isnan(value) else value


def figure_of(rows: list[Row], plan: Plan) -> Figure:
    """Return a picture of the figures that are shares: each training a dot, and the mean with its interval."""
    shares = [row for row in rows if row.over.n and _is_share(row)][:_DRAWN]
    figure = PlainFigure(figsize=(8.0, 1.5 + 0.34 * max(1, len(shares))), layout="constrained", dpi=130)
    axes = figure.subplots()
    for place, row in enumerate(shares):
        own = [value for value in row.values.values() if not math.isnan(value)]
        axes.plot(own, [place - 0.2] * len(own), "o", ms=4, color=_GRAY, alpha=0.8, zorder=3)
        if row.over.n > 1:
            reach = [[row.over.mean - row.over.low], [row.over.high - row.over.mean]]
            axes.errorbar([row.over.mean], [place], xerr=reach, fmt="d", ms=6, capsize=4, color=_BLUE)
    axes.set_yticks(range(len(shares)), [shorten(row.name, 40) for row in shares], fontsize=8)
    axes.invert_yaxis()
    axes.grid(alpha=0.25)
    axes.set_xlabel(f"gray: each training; blue: mean and {LEVEL:.0%} interval over {len(plan.values)} trainings")
    figure.suptitle(shorten(f"{plan.given.split()[0]}, {len(plan.values)} {plan.kind}s", 90), fontsize=10)
    return figure


def _is_share(row: Row) -> bool:
    return "loss" not in row.name and all(math.isnan(value) or 0 <= value <= 1 for value in row.values.values())
