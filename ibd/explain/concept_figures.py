"""One picture of a class: the units or channels that carried it, where each was met, and what each looks like."""

from __future__ import annotations

import textwrap
from math import isfinite

from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.concepts import ConceptRelevance, ConceptSheet
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay, smoothed

_NOTE = "#495057"


def concept_figure(image: Tensor, found: ConceptRelevance, sheet: ConceptSheet | None, title: str) -> Figure:
    """Return the image, and a row for each unit or channel: what passed it, where, and what it looks like.

    Args:
        image: (3, H, W) in [0, 1].
        found: what carried the class.
        sheet: patches of other images; None leaves them out.
        title: what is explained, for a person.
    """
    count = len(found.names)
    patches = 0 if sheet is None else sheet.active.shape[1]
    columns = 2 + 2 * patches
    figure = PlainFigure(figsize=(2.6 + 1.7 + 1.05 * 2 * patches, 1.75 * count + 0.7), layout="constrained", dpi=130)
    axes = figure.subplots(count, columns, squeeze=False, width_ratios=[1.7, 1.7, *[1.05] * (2 * patches)])
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0][0].imshow(pixels_of(image), interpolation="nearest")
    axes[0][0].set_title(shorten(title, 30), fontsize=9)
    for row, name in enumerate(found.names):
        place = axes[row][1]
        heat = smoothed(found.maps[row]) if found.own else found.maps[row]
        place.imshow(overlay(image, heat, normalization="percentile"), interpolation="nearest")
        place.set_title(f"{shorten(name, 26)}  {float(found.relevance[row]):+.2f}", fontsize=8)
        for rank in range(patches):
            assert sheet is not None
            for first, pictures, scores in (
                (2, sheet.active, sheet.active_scores),
                (2 + patches, sheet.relevant, sheet.relevant_scores),
            ):
                score = float(scores[row, rank])
                axes[row][first + rank].imshow(pixels_of(pictures[row, rank]), interpolation="nearest")
                axes[row][first + rank].set_title(f"{score:.2f}" if isfinite(score) else "none", fontsize=7)
    figure.supxlabel(textwrap.fill(_caption(found, sheet), int(17 * figure.get_figwidth())), fontsize=8, color=_NOTE)
    return figure


def _caption(found: ConceptRelevance, sheet: ConceptSheet | None) -> str:
    what = "units" if found.layer is None else f"channels of {found.layer}"
    text = f"What the {what} passed of {found.value:+.2f}; all others {found.rest:+.2f}. Red: where it was met."
    if sheet is not None:
        text += f" Then {sheet.active.shape[1]} patches with the highest activation, and {sheet.active.shape[1]} that "
        text += "passed most of this class."
    return text
