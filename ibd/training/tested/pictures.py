"""The pictures of a test: confusions, classes, concepts, calibration, and a sheet of the worst images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.metrics.functional.by_class import ClassFigures
from ibd.metrics.functional.by_concept import ConceptFigures
from ibd.models.calibration.figures import curves_figure
from ibd.training.group_figures import draw_intervals
from ibd.training.tested.confusion_figure import confusion_figure
from ibd.training.tested.scored import Scored
from ibd.training.tested.worst_images import worst_figure

_GRAY, _LIGHT = "#495057", "#adb5bd"
_MOST = 60
"""Rows of a picture, the worst; more would be no picture but a table, which there is."""


def pictures(scored: Scored) -> Iterator[tuple[str, Figure]]:
    """Yield the pictures of a test, by the name of their file without ``.png``; one at a time is in memory."""
    found, title = scored.found, f"{scored.split} images{', calibrated' * scored.calibrated}"
    yield "confusion", confusion_figure(found, title)
    yield "classes", classes_figure(found.worst_classes(), found.accuracy.mean, title)
    concepts = [one for one in found.concepts if one.yes + one.no]
    if concepts:
        yield "concepts", concepts_figure(concepts, title)
    kinds = {"classes": found.class_reliability, "concepts": found.concept_reliability}
    curves = {
        name: {f"as predicted, error {curve.error:.3f}": curve}
        for name, curve in kinds.items()
        if curve is not None and curve.count
    }
    if curves:
        yield "calibration", curves_figure(curves, title)
    if not bool(found.right.all()):
        yield "worst", worst_figure(scored)


def classes_figure(classes: Sequence[ClassFigures], accuracy: float, title: str) -> Figure:
    """Return how right each class is, as to its images and as to what is taken for it, the worst on top.

    Args:
        classes: the classes, the worst first.
        accuracy: accuracy over all images, for a line.
        title: what images they are of.
    """
    shown = classes[:_MOST]
    figure, left, right = _rows(len(shown))
    draw_intervals(left, [one.recall for one in shown])
    left.axvline(accuracy, color=_LIGHT, lw=1, ls="--")
    left.set_xlabel(f"share of its images that is right (dashed: {accuracy:.3f} of all images)", fontsize=8)
    draw_intervals(right, [one.precision for one in shown])
    right.set_xlabel("share of what is taken for it that is right", fontsize=8)
    names = [f"{shorten(one.name, 32)} ({one.images})" for one in shown]
    _name(left, names)
    figure.suptitle(f"Classes, {title}{_of(len(shown), len(classes), 'classes')}", fontsize=10)
    return figure


def concepts_figure(concepts: Sequence[ConceptFigures], title: str) -> Figure:
    """Return how well each concept is predicted, the worst on top, beside what says the same of all images.

    Args:
        concepts: concepts of which something is known.
        title: what images they are of.
    """
    ordered = sorted(concepts, key=lambda one: (one.auroc if one.yes and one.no else 2.0, one.accuracy.mean))
    shown = ordered[:_MOST]
    figure, left, right = _rows(len(shown))
    draw_intervals(left, [one.accuracy for one in shown])
    places = range(len(shown))
    left.plot([one.constant for one in shown], places, "|", ms=10, mew=1.8, color=_GRAY)
    left.set_xlabel("share that is right at 0.5 (gray bar: the same said of all)", fontsize=8)
    right.plot([one.auroc for one in shown], places, "o", ms=5, color="#1971c2")
    right.plot([one.average_precision for one in shown], places, "D", ms=4, mfc="none", color="#2b8a3e")
    right.set_xlabel("blue: area under the ROC curve, green: average precision", fontsize=8)
    right.grid(alpha=0.25)
    _name(left, [f"{shorten(one.name, 32)} ({one.yes} yes, {one.no} no)" for one in shown])
    figure.suptitle(f"Concepts, {title}{_of(len(shown), len(ordered), 'concepts')}", fontsize=10)
    return figure


def _rows(count: int) -> tuple[Figure, Axes, Axes]:
    figure = PlainFigure(figsize=(9.0, 1.5 + 0.24 * count), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    return figure, left, right


def _name(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)


def _of(shown: int, count: int, what: str) -> str:
    return f": the worst {shown} of {count} {what}" if shown < count else ""
