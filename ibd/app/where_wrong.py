"""Where a model is wrong, in the few lines that ``ibd test`` says of it; the rest is in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ibd.drawing import shorten
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.shares import share_interval
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.training.tested.saving import SUMMARY
from ibd.training.tested.scored import Scored
from ibd.training.tested.worst_images import percent

_NAMED = 3
"""Classes, confusions and concepts that are named, the worst."""
_WIDE = 32


def account(scored: Scored) -> Iterator[str]:
    """Yield lines on the worst classes, the most frequent confusions, the worst concepts, and calibration."""
    found = scored.found
    wrong, count = int((~found.right).sum()), len(found)
    yield ""
    yield f"where it is wrong: {wrong} of {count} {scored.split} images; right: {_interval(found.accuracy)}"
    if silent := int(found.silent.sum()):
        yield f"  {silent} of them have no prediction"
    yield from _answered(scored)
    yield from _rows("worst classes", _classes(found))
    yield from _rows("most often taken for another", _confusions(found))
    yield from _rows("worst concepts", _concepts(found))
    yield from _rows("concepts that are numbers", _numbers(found))
    yield from _thresholds(scored)
    yield from _calibration(found)
    if wrong > silent:
        first = int(found.worst_images()[0])
        names, sure = found.class_names, percent(float(found.confidence[first]))
        truth, guess = names[int(found.labels[first])], names[int(found.predicted[first])]
        yield f"surest error: {scored.name_of(first)} is {truth}, taken for {guess} with {sure}"


def _answered(scored: Scored) -> Iterator[str]:
    """Yield in a line what the answers are worth where the model holds some back; what is above counts them all."""
    found, answered = scored.found, ~scored.abstains
    if bool((scored.abstains & ~found.silent).any()):
        kept, right = int(answered.sum()), int((found.right & answered).sum())
        share = f"; right: {_interval(share_interval(right, kept))}" if kept else ""
        yield f"  with its threshold of confidence it answers {kept} of all {len(found)}{share}"


def files(folder: Path) -> Iterator[str]:
    """Yield where the files of a test are."""
    names = sorted(path.name for path in folder.iterdir())
    pictures = [name for name in names if name.endswith(".png")]
    tables = [name for name in names if name.endswith(".csv")]
    yield f"written: {folder}: {', '.join([SUMMARY, *tables])}"
    yield f"pictures there: {', '.join(pictures)}"


def _rows(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a title, and names with what is said of each below it; nothing without any."""
    if not rows:
        return
    wide = max(len(name) for name, _ in rows)
    yield f"{title}:"
    yield from (f"  {name:<{wide}}  {said}".rstrip() for name, said in rows)


def _classes(found: WhereWrong) -> list[tuple[str, str]]:
    rows = []
    for one in found.worst_classes()[:_NAMED]:
        if one.right < one.images:
            taken = f", most often taken for {shorten(one.taken_for, _WIDE)}" * bool(one.taken_for)
            rows.append(
                (shorten(one.name, _WIDE), f"{one.right} of {one.images} right: {_interval(one.recall)}{taken}")
            )
    return rows


def _confusions(found: WhereWrong) -> list[tuple[str, str]]:
    return [
        (f"{shorten(one.truth, _WIDE)} for {shorten(one.predicted, _WIDE)}", f"{one.count} ({100 * one.share:.1f} %)")
        for one in found.confusions()[:_NAMED]
    ]


def _concepts(found: WhereWrong) -> list[tuple[str, str]]:
    return [
        (
            shorten(one.name, _WIDE),
            f"AUROC {one.auroc:.3f}, right {_interval(one.accuracy)}, {one.constant:.3f} by saying the same of all "
            f"({one.yes} yes, {one.no} no)",
        )
        for one in found.worst_concepts()[:_NAMED]
    ]


def _numbers(found: WhereWrong) -> list[tuple[str, str]]:
    known = sorted((one for one in found.quantities if one.known), key=lambda one: one.r2)
    return [
        (shorten(one.name, _WIDE), f"off by {_interval(one.error)} {one.unit}".rstrip() + f", R2 {one.r2:.3f}")
        for one in known[:_NAMED]
    ]


def _thresholds(scored: Scored) -> Iterator[str]:
    """Yield how many thresholds hold what they were chosen for, and those that are furthest from it."""
    wanted = [one for one in scored.thresholds if one.reached is not None]
    if not wanted:
        return
    held = sum(bool(one.reached) for one in wanted)
    short = sorted(wanted, key=lambda one: one.here.precision.mean - (one.chosen.wanted or 0))
    rows = [
        (
            shorten(one.name, _WIDE),
            f"{_interval(one.here.precision)} from {one.here.value:.4f}, {one.chosen.wanted:g} wanted",
        )
        for one in short[:_NAMED]
        if not one.reached
    ]
    first = f"thresholds: {held} of {len(wanted)} have the precision on these images that they were chosen for"
    yield from _rows(f"{first}; furthest below it", rows) if rows else [first]


def _calibration(found: WhereWrong) -> Iterator[str]:
    """Yield in a line how rightly sure the model is."""
    surplus, curve = found.surplus, found.class_reliability
    if not curve.count:
        return
    sure = (
        "too sure" if surplus.low > 0 else "less sure than it may be" if surplus.high < 0 else "as sure as it is right"
    )
    concepts = found.concept_reliability
    of_concepts = "" if concepts is None else f", {concepts.error:.3f} of concepts"
    yield (
        f"calibration: error {curve.error:.3f} of classes{of_concepts}; confidence less accuracy {surplus.mean:+.3f} "
        f"[{surplus.low:+.3f}, {surplus.high:+.3f}]: {sure}"
    )


def _interval(given: Interval) -> str:
    return f"{given.mean:.3f} [{given.low:.3f}, {given.high:.3f}]"
