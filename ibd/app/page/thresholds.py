"""Thresholds on the page: what each place of a slider comes to on validation images, and setting them."""

from __future__ import annotations

from typing import Any

from ibd.app.page.answers import Asked
from ibd.app.page.split_figures import span
from ibd.app.page.split_view import SplitViews
from ibd.errors import UnsupportedError, did_you_mean
from ibd.models.calibration.measuring import Reading
from ibd.models.thresholding import Statements, along, at, statements
from ibd.models.thresholds import FILE, USUAL, Threshold
from ibd.training.thresholding import SPLIT, Wishes, change_thresholds

STEPS = 200
"""Of a slider, from 0 to 1."""


def thresholds_set(views: SplitViews) -> dict[str, Any]:
    """Return the thresholds that are set, and the concepts that can have one."""
    views.run.take_thresholds()
    found = views.run.model.thresholds
    concepts = {} if found is None else found.concepts
    confidence = None if found is None else found.confidence
    return {
        "split": SPLIT,
        "can": list(_said(views).concepts),
        "confidence": None if confidence is None else described(confidence),
        "concepts": {name: described(threshold) for name, threshold in concepts.items()},
    }


def slider(views: SplitViews, concept: str | None) -> dict[str, Any]:
    """Return what each place of a slider comes to.

    Args:
        views: the splits of the run.
        concept: a concept; None is the confidence of the class.

    Raises:
        UnsupportedError: it has no threshold.
    """
    reading = _reading(_said(views), concept)
    values = [step / STEPS for step in range(STEPS + 1)]
    return {
        "usual": 0.0 if concept is None else USUAL,
        "places": [described(threshold) for threshold in along(reading, values)],
    }


def one_place(views: SplitViews, concept: str | None, value: float) -> dict[str, Any]:
    """Return what a threshold comes to that may lie between two places of the slider.

    Args:
        views: the splits of the run.
        concept: a concept; None is the confidence of the class.
        value: the threshold, in [0, 1].

    Raises:
        UnsupportedError: it has no threshold.
    """
    return {"place": described(at(_reading(_said(views), concept), value))}


def set_threshold(views: SplitViews, asked: Asked) -> dict[str, Any]:
    """Set a threshold by hand (``value``) or by a wanted ``precision``, or take it away with neither; keep it.

    That of ``concept``, with ``all`` those of all concepts, and else that of the class's confidence.

    Raises:
        DataError: no threshold reaches the precision.
        GoneError: the run is no longer there, or its checkpoint is another one now.
        CheckpointError: it cannot be written.
    """
    run, concept = asked.run, asked.given.get("concept")
    number: dict[str, Any] = {
        key: asked.number(key) for key in ("value", "precision") if asked.given.get(key) is not None
    }
    if not number:
        number = {"precision": None}
    if asked.given.get("all") is True:
        wishes = Wishes(**number)
    elif concept is None:
        wishes = Wishes(**{{"value": "confidence", "precision": "accuracy"}[key]: n for key, n in number.items()})
    else:
        wishes = Wishes(**number, concepts=(asked.text("concept"),))
    said = _said(views)
    with run.lock:
        run.check_unchanged()
        run.take_thresholds()
        found = change_thresholds(run.model, run.checkpoint, said, wishes)
        run.set_thresholds(found.thresholds)
    return thresholds_set(views) | {"file": str(run.folder / FILE), "missed": found.missed}


def described(threshold: Threshold) -> dict[str, Any]:
    """Return a threshold as plain values, with what it comes to."""
    return {
        "value": threshold.value,
        "wanted": threshold.wanted,
        "called": threshold.called,
        "right": threshold.right,
        "true": threshold.true,
        "images": threshold.images,
        "precision": span(threshold.precision),
        "recall": span(threshold.recall),
    }


def _said(views: SplitViews) -> Statements:
    """Return what the model said of the validation images."""
    return statements(views.run.model, views.get(SPLIT).answers.read)


def _reading(said: Statements, concept: str | None) -> Reading:
    if concept is None:
        return said.confidence
    if concept not in said.concepts:
        raise UnsupportedError(f"'{concept}' can have no threshold.{did_you_mean(concept, said.concepts)}")
    return said.concepts[concept]
