"""The figures of a test as one object of JSON, for programs: model cards, several runs together, a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import torch

from ibd import __version__
from ibd.metrics.functional.bins import Reliability
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.by_group import ByGroup
from ibd.metrics.functional.concepts_by_group import ConceptsByGroup
from ibd.training.tested.scored import Scored
from ibd.training.tested.tables import plain

_MOST = 10
"""Classes, confusions, concepts and images that are named, the worst first; the tables have all."""


def summary(scored: Scored) -> dict[str, Any]:
    """Return the figures of a test as plain values; None is what is no number.

    Returns:
        ``split``, ``images``, ``classes`` and ``concepts`` (how many), ``calibrated``; ``accuracy``,
        ``balanced_accuracy``, ``auroc`` (mean over classes), ``surplus`` (confidence less accuracy), ``silent`` (images
        without a prediction), ``abstains``, ``calibration`` (of classes and concepts); ``worst`` (classes, confusions,
        concepts, images); ``quantities``, the concepts that are numbers; ``thresholds`` of the run; ``groups`` by
        column; ``metrics``, all others by name; ``about``: versions, date, checkpoint, changes to the data.
    """
    found = scored.found
    curves = {"classes": found.class_reliability, "concepts": found.concept_reliability}
    return {
        "split": scored.split,
        "images": len(found),
        "classes": len(found.class_names),
        "concepts": len(found.concept_names),
        "calibrated": scored.calibrated,
        "accuracy": interval(found.accuracy),
        "balanced_accuracy": plain(found.balanced_accuracy),
        "auroc": plain(found.auroc),
        "surplus": interval(found.surplus),
        "silent": int(found.silent.sum()),
        "abstains": int(scored.abstains.sum()),
        "calibration": {name: _curve(curve) for name, curve in curves.items() if curve is not None},
        "worst": _worst(scored),
        "quantities": [
            {"concept": one.name, "unit": one.unit, "error": interval(one.error), "bias": interval(one.bias)}
            | {"r2": plain(one.r2)}
            for one in found.quantities
        ],
        "thresholds": [
            {"of": one.name, "from": one.here.value, "wanted": one.chosen.wanted, "called_true": one.here.called}
            | {"precision": interval(one.here.precision), "recall": interval(one.here.recall)}
            for one in scored.thresholds
        ],
        "groups": {group.column: _group(group, scored.concepts_by(group)) for group in scored.groups},
        "metrics": _metrics(scored),
        "about": _about(scored),
    }


def interval(given: Interval) -> dict[str, Any]:
    """Return an interval of 95 % as plain values."""
    return {"value": plain(given.mean), "low": plain(given.low), "high": plain(given.high), "n": given.n}


def _curve(curve: Reliability) -> dict[str, Any]:
    return {"error": plain(curve.error), "count": curve.count, "bins": len(curve.bins)}


def _metrics(scored: Scored) -> dict[str, Any]:
    """Return the metrics without their split; where there is an interval, with it."""
    given = {name.removeprefix(f"{scored.split}/"): value for name, value in scored.own_figures().items()}
    said: dict[str, Any] = {}
    for name, value in given.items():
        if f"{name}_low" in given and f"{name}_high" in given:
            ends = (plain(given[f"{name}_low"]), plain(given[f"{name}_high"]))
            said[name] = {"value": plain(value), "low": ends[0], "high": ends[1]}
        elif not any(name.endswith(end) and name.removesuffix(end) in given for end in ("_low", "_high")):
            said[name] = {"value": plain(value)}
    return said


def _worst(scored: Scored) -> dict[str, Any]:
    found = scored.found
    return {
        "classes": [
            {"class": one.name, "images": one.images, "right": one.right, "recall": interval(one.recall)}
            | {"most_often_taken_for": one.taken_for or None, "times": one.times}
            for one in found.worst_classes()[:_MOST]
        ],
        "confusions": [vars(pair) for pair in found.confusions()[:_MOST]],
        "concepts": [
            {"concept": one.name, "auroc": plain(one.auroc), "accuracy": interval(one.accuracy)}
            | {"constant": plain(one.constant), "yes": one.yes, "no": one.no}
            for one in found.worst_concepts()[:_MOST]
        ],
        "images": [_image(scored, int(index)) for index in found.worst_images()[:_MOST].tolist()],
    }


def _image(scored: Scored, index: int) -> dict[str, Any]:
    found = scored.found
    silent = bool(found.silent[index])
    return {
        "index": index,
        "file": scored.name_of(index),
        "truth": found.class_names[int(found.labels[index])],
        "predicted": None if silent else found.class_names[int(found.predicted[index])],
        "confidence": None if silent else float(found.confidence[index]),
    }


def _group(group: ByGroup, concepts: ConceptsByGroup | None) -> dict[str, Any]:
    of_concepts = {} if concepts is None else {one.name: interval(one.accuracy) for one in concepts.groups}
    rows = [
        {"group": one.name, "images": one.images, "accuracy": interval(one.accuracy), "surplus": interval(one.surplus)}
        | {"ece": plain(one.ece), "p_below": one.p_below}
        | ({"concept_accuracy": of_concepts[one.name]} if of_concepts else {})
        for one in group.groups
    ]
    return {"p_value": group.p_value, "spread": group.spread, "unknown": group.unknown, "groups": rows}


def _about(scored: Scored) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "ibd": __version__, "torch": torch.__version__, **scored.about}
