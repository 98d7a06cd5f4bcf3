"""A sheet of the images that a model is most wrong about."""

from __future__ import annotations

import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.training.tested.scored import Scored

_IMAGES, _COLUMNS = 20, 5
_CONCEPTS = 3
"""Concepts that are named beside an image, of those that are predicted wrongly."""


def worst_figure(scored: Scored) -> Figure:
    """Return the wrong images, the most confident first, with truth, prediction, confidence and the worst concepts.

    Args:
        scored: what a test has come to, with at least one wrong image; the images are read once more for it.
    """
    wrong = scored.found.worst_images().tolist()
    shown = wrong[:_IMAGES]
    columns = min(_COLUMNS, max(2, len(shown)))
    rows = math.ceil(len(shown) / columns)
    lines = 3 + (_CONCEPTS if scored.found.concept_names else 0)
    figure = PlainFigure(figsize=(2.5 * columns, (2.4 + 0.17 * lines) * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, index in zip(axes.flat, shown, strict=False):
        _draw(axis, scored, index)
    most = f"{len(shown)} of {len(wrong)}, " if len(shown) < len(wrong) else ""
    title = f"{len(wrong)} of {len(scored.found)} {scored.split} images are wrong; {most}the most confident first"
    figure.suptitle("\n".join(textwrap.wrap(title, 30 * columns)), fontsize=10)
    return figure


def _draw(axis: Axes, scored: Scored, index: int) -> None:
    found = scored.found
    axis.imshow(scored.dataset[index].image.permute(1, 2, 0).numpy(), interpolation="nearest")
    truth = shorten(found.class_names[int(found.labels[index])], 30)
    guess = shorten(found.class_names[int(found.predicted[index])], 22)
    said = "no prediction" if found.silent[index] else f"{guess} {percent(float(found.confidence[index]))}"
    axis.set_title(f"is {truth}\nsaid: {said}", fontsize=8, color="#c92a2a", loc="left")
    lines = [_concept(scored, index, place) for place in found.worst_concepts_of(index, _CONCEPTS)]
    shown = [line for line in lines if line]
    name = shorten(scored.name_of(index), 40)
    # The last line is empty: what stands above the next image keeps its distance.
    axis.set_xlabel("\n".join([name, *shown, " "]), loc="left", fontsize=7, color="#495057")


def _concept(scored: Scored, index: int, place: int) -> str:
    """Return what is said of a concept and what is so, where that is wrong; "" where it is right."""
    found, full = scored.found, scored.found.concept_names[place]
    name, said = shorten(full, 26), float(found.concept_values[index, place])
    truth = float(found.concept_truth[index, place])
    unit = next((one.unit for one in found.quantities if one.name == full), None)
    if unit is not None:
        far = float(found.concept_errors[index, place]) >= 1
        return f"{name}: {truth:.3g} {unit}, said {said:.3g}" if far else ""
    if float(found.concept_right[index, place]):
        return ""
    return f"{name}: {'yes' if truth > 0.5 else 'no'}, said {said:.2f}"


def percent(share: float) -> str:
    """Return a probability as a percentage, rounded, that is 100 only where it is 1."""
    said = f"{100 * share:.1f} %"
    return "over 99.9 %" if said == "100.0 %" and share < 1 else said
