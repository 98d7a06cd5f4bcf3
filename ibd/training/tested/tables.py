"""The tables of a test: classes, concepts, confusions, calibration, groups, and a row for each image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ibd.metrics.functional.bins import Reliability
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.by_group import ByGroup
from ibd.metrics.functional.concepts_by_group import ConceptsByGroup
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.training.group_figures import file_names
from ibd.training.tested.scored import Scored, concept_counts

_NAMED = 3
"""Concepts of an image that are named, of those that are furthest off."""


@dataclass(frozen=True)
class Table:
    """Rows of plain values below names of columns; None is what is not known, and what cannot be said."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def tables(scored: Scored) -> dict[str, Table]:
    """Return the tables of a test, by the name of their file without ``.csv``."""
    found = scored.found
    said = {"confusion": _confusion(found), "classes": _classes(found), "calibration": _calibration(found)}
    if found.concept_names:
        said["concepts"] = _concepts(found)
    if scored.thresholds:
        said["thresholds"] = _thresholds(scored)
    for name, group in zip(file_names(scored.groups), scored.groups, strict=True):
        said[name] = _group(group, scored.concepts_by(group))
    return said | {"images": _images(scored)}


def plain(value: Any) -> Any:
    """Return a value with None in the place of a float that is no number, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _three(interval: Interval) -> tuple[Any, ...]:
    return plain(interval.mean), plain(interval.low), plain(interval.high)


def _confusion(found: WhereWrong) -> Table:
    """Return the confusion matrix: a row is a true class, a column what its images are taken for."""
    silent = [one.silent for one in found.classes]
    last = ("(no prediction)",) if any(silent) else ()
    rows = [
        (name, *row, *([none] if last else []))
        for name, row, none in zip(found.class_names, found.matrix.tolist(), silent, strict=True)
    ]
    return Table(("truth", *found.class_names, *last), rows)


def _classes(found: WhereWrong) -> Table:
    columns = ("class", "images", "right", *_ends("recall"), "taken_for_it", *_ends("precision"), "auroc")
    rows = list[tuple[Any, ...]]()
    for one in found.classes:
        shares = (*_three(one.recall), one.taken, *_three(one.precision))
        errors = (one.taken_for or None, one.times, one.silent)
        rows.append((one.name, one.images, one.right, *shares, plain(one.auroc), *errors))
    return Table((*columns, "most_often_taken_for", "times", "no_prediction"), rows)


def _concepts(found: WhereWrong) -> Table:
    """Return the concepts in their order; those that are numbers have `error`, `bias` and `r2`."""
    shares = (*_ends("accuracy"), "constant", *_ends("sensitivity"), *_ends("specificity"))
    truth = ("yes", "no", "unknown", *shares, "auroc", "average_precision", "ece")
    number = ("unit", *_ends("error"), *_ends("bias"), "r2")
    rows: dict[str, tuple[Any, ...]] = {}
    for one in found.concepts:
        values = (*_three(one.accuracy), plain(one.constant), *_three(one.sensitivity), *_three(one.specificity))
        curves = (plain(one.auroc), plain(one.average_precision), plain(one.ece))
        known = (one.yes + one.no, one.yes, one.no, one.unknown)
        rows[one.name] = (one.name, *known, *values, *curves, *[None] * len(number))
    for each in found.quantities:
        measured = (each.unit, *_three(each.error), *_three(each.bias), plain(each.r2))
        without = [None] * (len(truth) - 3)
        rows[each.name] = (each.name, each.known, None, None, each.unknown, *without, *measured)
    return Table(("concept", "known", *truth, *number), [rows[name] for name in found.concept_names])


def _thresholds(scored: Scored) -> Table:
    """Return the thresholds, what they come to on these images, and what they came to where they were set."""
    rows = list[tuple[Any, ...]]()
    for one in scored.thresholds:
        here, chosen = one.here, one.chosen
        counts = (here.images, here.true, here.called, here.right)
        rows.append((one.name, here.value, *counts, *_three(here.precision), *_three(here.recall), chosen.wanted))
        rows[-1] += (plain(chosen.precision.mean), plain(chosen.recall.mean))
    counted = ("known", "true", "called_true", "right", *_ends("precision"), *_ends("recall"))
    return Table(("of", "from", *counted, "wanted_precision", "precision_when_set", "recall_when_set"), rows)


def _calibration(found: WhereWrong) -> Table:
    kinds = {"classes": found.class_reliability, "concepts": found.concept_reliability}
    rows = [row for kind, curve in kinds.items() if curve is not None for row in _bins(kind, curve)]
    return Table(("kind", "from", "to", "count", "stated", *_ends("came_true")), rows)


def _bins(kind: str, curve: Reliability) -> Iterator[tuple[Any, ...]]:
    for one in curve.bins:
        yield (kind, one.low, one.high, one.count, plain(one.stated), *_three(one.share))


def _group(group: ByGroup, concepts: ConceptsByGroup | None) -> Table:
    """Return the groups, the worst first, and how well each concept is predicted in them."""
    columns = (group.column, "images", "right", *_ends("accuracy"), "confidence", *_ends("surplus"), "ece", "p_below")
    rows = list[tuple[Any, ...]]()
    for one in group.groups:
        sureness = (one.confidence, *_three(one.surplus), plain(one.ece))
        rows.append((one.name, one.images, one.right, *_three(one.accuracy), *sureness, one.p_below))
    if concepts is None:
        return Table(columns, rows)
    crossed = [
        (*_three(each.accuracy), *(plain(share.mean) for share in each.concepts), *(share.n for share in each.concepts))
        for each in concepts.groups
    ]
    of_each = [f"accuracy of {name}" for name in concepts.names] + [f"images of {name}" for name in concepts.names]
    joined = [(*row, *more) for row, more in zip(rows, crossed, strict=True)]
    return Table((*columns, *_ends("concept_accuracy"), *of_each), joined)


def _images(scored: Scored) -> Table:
    """Return a row for each image, in the order of the split."""
    found = scored.found
    columns = ("index", "file", "truth", "predicted", "confidence", "right", "rank", "abstains")
    of_concepts = ("concepts_known", "concepts_wrong", "concept_error", "worst_concepts") if found.concept_names else ()
    names, rows = found.class_names, list[tuple[Any, ...]]()
    values = (found.labels, found.predicted, found.confidence, found.right, found.rank, scored.abstains, found.silent)
    counts, furthest = [each.tolist() for each in concept_counts(found)], _furthest(found)
    given = zip(*(each.tolist() for each in values), strict=True)
    for index, (label, guess, sure, right, rank, abstains, silent) in enumerate(given):
        said = (None, None, right, None) if silent else (names[guess], sure, right, rank)
        row = (index, scored.name_of(index), names[label], *said, abstains)
        if of_concepts:
            row += (counts[0][index], counts[1][index], plain(counts[2][index]), furthest[index])
        rows.append((*row, *(members[index] for members in scored.members.values())))
    taken = {*columns, *of_concepts}
    members = [f"group {name}" if name in taken else name for name in scored.members]
    return Table((*columns, *of_concepts, *members), rows)


def _furthest(found: WhereWrong) -> list[list[str]]:
    """Return the names of each image's concepts that are furthest off, of all images at once."""
    errors = found.concept_errors.nan_to_num(-1.0)  # what is not known is the last, and left out
    values, places = errors.topk(min(_NAMED, errors.shape[1]), dim=1)
    return [
        [found.concept_names[place] for place, value in zip(row, off, strict=True) if value >= 0]
        for row, off in zip(places.tolist(), values.tolist(), strict=True)
    ]
