"""The figures of a split as plain values: the numbers of ``ibd test``, for the page to draw."""

from __future__ import annotations

from typing import Any

from ibd.app.page.split_view import View
from ibd.metrics.functional.bins import Reliability, reliability
from ibd.metrics.functional.bootstrap import Interval


def figures(view: View) -> dict[str, Any]:
    """Return what a model is worth on a split, over all, by class and by concept."""
    wrong, answers = view.wrong, view.answers
    return {
        "split": answers.split,
        "images": len(answers),
        "of": answers.of,
        "right": int(wrong.right.sum()),
        "abstains": int(answers.abstains.sum()),
        "answered_right": int((wrong.right & ~answers.abstains).sum()),
        "accuracy": span(wrong.accuracy),
        "balanced_accuracy": wrong.balanced_accuracy,
        "auroc": wrong.auroc,
        "classes": [
            {
                "name": found.name,
                "images": found.images,
                "recall": span(found.recall),
                "taken": found.taken,
                "precision": span(found.precision),
                "auroc": found.auroc,
                "taken_for": found.taken_for,
                "times": found.times,
            }
            for found in wrong.classes
        ],
        "concepts": [
            {
                "name": found.name,
                "yes": found.yes,
                "no": found.no,
                "accuracy": span(found.accuracy),
                "constant": found.constant,
                "auroc": found.auroc,
                "ece": found.ece,
            }
            for found in wrong.concepts
        ],
        "quantities": [
            {"name": found.name, "unit": found.unit, "known": found.known, "error": span(found.error), "r2": found.r2}
            for found in wrong.quantities
        ],
        "class_reliability": curve(wrong.class_reliability),
        "concept_reliability": None if wrong.concept_reliability is None else curve(wrong.concept_reliability),
    }


def confusion(view: View) -> dict[str, Any]:
    """Return the confusion matrix: the cells that are not 0, and how many images of each class have no prediction."""
    wrong = view.wrong
    cells = wrong.matrix.nonzero()
    counts = wrong.matrix[cells[:, 0], cells[:, 1]]
    return {
        "classes": list(wrong.class_names),
        "cells": [[i, j, count] for (i, j), count in zip(cells.tolist(), counts.tolist(), strict=True)],
        "images": [found.images for found in wrong.classes],
        "silent": [found.silent for found in wrong.classes],
    }


def concept_curve(view: View, concept: int) -> dict[str, Any]:
    """Return how far the probabilities of one concept can be believed."""
    known = view.rows.known[:, concept]
    stated, true = view.rows.values[known, concept], view.rows.truth[known, concept] > 0.5
    return curve(reliability(stated, true))


def span(interval: Interval) -> list[float]:
    """Return a mean and the ends of its interval."""
    return [interval.mean, interval.low, interval.high]


def curve(found: Reliability) -> dict[str, Any]:
    """Return the bins of a reliability diagram that are not empty."""
    return {
        "error": found.error,
        "count": found.count,
        "bins": [[b.low, b.high, b.count, b.stated, *span(b.share)] for b in found.bins if b.count],
    }
