"""What stands above the headings of a card: the few figures that a person who decides looks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ibd.app.card.blocks import Absent, Block, ByHand, Grid, Section, Stale, Words, every_section
from ibd.app.card.pieces import chance_of, changes_of, number, spread
from ibd.app.card.reading import CardRun, Kept
from ibd.app.card.report import of_model
from ibd.comparison.report.names import explainer_title
from ibd.comparison.report.tables import metric_title


def in_short(run: CardRun, sections: Sequence[Section]) -> Section:
    """Return the first section of a card.

    Args:
        run: the run.
        sections: all others.
    """
    rows = [list(row) for row in _rows(run)]
    blocks: list[Block] = [Grid("The figures first", ["what", "value", "from"], rows, "")] if rows else []
    below = [block for section in every_section(sections) for block in section.blocks]
    absent, stale, empty = (sum(isinstance(block, kind) for block in below) for kind in (Absent, Stale, ByHand))
    written = sum(isinstance(block, ByHand) and bool(block.text) for block in below)
    counted = (
        f"Not measured: {absent}. Stale and not used: {stale}. Left to a person to write: {empty - written} of {empty}."
    )
    return Section("short", "In short", [*blocks, Words(counted)])


def _rows(run: CardRun) -> Iterator[tuple[str, str, str]]:
    for split, kept in run.tested.items():
        if not kept.stale:
            yield from _of_test(split, kept)
    if run.repeated is not None and not run.repeated.stale:
        figure = (run.repeated.plain.get("figures") or {}).get("test/accuracy")
        if figure:
            count = len(run.repeated.plain.get("runs") or ())
            yield f"accuracy over {count} trainings", spread(figure, "mean"), run.repeated.source
    if run.report is not None and not run.report.stale:
        scores = of_model(run.report, "scores").get("intrinsic") or {}
        for metric in run.report.plain.get("main_metrics") or ():
            if metric in scores:
                what = f"its own account: {metric_title(metric)}"
                yield what, spread(scores[metric], "mean"), run.report.source
        best = _best(run.report.plain, of_model(run.report, "scores"))
        if best:
            yield best[0], best[1], run.report.source


def _of_test(split: str, kept: Kept) -> Iterator[tuple[str, str, str]]:
    plain, source = kept.plain, f"{kept.source}/summary.json"
    changes = changes_of(kept)
    images = f"{number(plain.get('images'))} {split} images{f' changed by {changes}' * bool(changes)}"
    yield f"accuracy, {images}", spread(plain.get("accuracy")), source
    worst = plain.get("worst") or {}
    for one in (worst.get("classes") or ())[:1]:
        yield f"recall of its worst class, {one.get('class')}", spread(one.get("recall")), source
    for column, group in (plain.get("groups") or {}).items():
        for one in (group.get("groups") or ())[:1]:
            yield f"accuracy of the worst {column}, {one.get('group')}", spread(one.get("accuracy")), source
    error = ((plain.get("calibration") or {}).get("classes") or {}).get("error")
    if error is not None:
        yield f"calibration error{' after calibration' * bool(plain.get('calibrated'))}", number(error), source
    metrics = plain.get("metrics") or {}
    names = {"concept_auroc": "mean AUROC of concepts", "accuracy_without_named": "accuracy without the named units"}
    chance = chance_of(kept)
    if chance is not None:
        names["accuracy_without_named"] += f" (chance {number(chance)})"
    for key, what in names.items():
        if key in metrics:
            yield what, spread(metrics[key]), source


def _best(plain: dict[str, object], scores: object) -> tuple[str, str] | None:
    """Return the post-hoc explanation with the best score under the first main metric."""
    mains, known, explainers = plain.get("main_metrics"), plain.get("metrics"), plain.get("explainers")
    if not (isinstance(mains, list) and mains and isinstance(known, dict) and isinstance(explainers, list)):
        return None
    higher = (known.get(mains[0]) or {}).get("higher_is_better")
    others = [one["name"] for one in explainers if one.get("kind") == "posthoc"]
    given = scores if isinstance(scores, dict) else {}
    found = {name: given[name][mains[0]] for name in others if mains[0] in (given.get(name) or {})}
    found = {name: one for name, one in found.items() if one.get("mean") is not None}
    if higher is None or not found:
        return None
    best = (max if higher else min)(found, key=lambda name: float(found[name]["mean"]))
    return f"the best post-hoc explainer, {explainer_title(best)}: {metric_title(mains[0])}", spread(
        found[best], "mean"
    )
