"""Figures of the axes of a whitened latent space: the images that excite them, and where in an image they are seen."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from ibd.data.dataset import ImageDataset
from ibd.drawing import PlainFigure, shorten
from ibd.errors import UnsupportedError
from ibd.explain.figures import GRAY, GREEN, ORANGE, exact_to_pixels, heading, unit_maps
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay, smoothed, strongest
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.top_images import TopImage
from ibd.models.prediction import Prediction

_NOTE = "#495057"


def top_images_figure(images: Sequence[TopImage], dataset: ImageDataset) -> Figure:
    """Return the images that activate axes most, a row for each axis, the most activating first.

    Args:
        images: images of one split or more axes; see `ibd.models.concept_whitening.evaluation.top_images`.
        dataset: dataset of that split: ``dataset[index].image`` is (3, H, W) in [0, 1].
    """
    rows: dict[int, list[TopImage]] = {}
    for image in sorted(images, key=lambda image: image.rank):
        rows.setdefault(image.axis, []).append(image)
    order = list(dict.fromkeys(image.axis for image in images))
    columns = max((len(row) for row in rows.values()), default=1)
    note = "Frame: green where the image holds the concept, orange where it does not, gray where nobody knows. Below: "
    width = 1.1 * columns + 1.9
    caption = _wrapped(note + "the activation of the axis.", width)
    height = 1.32 * max(1, len(order)) + 0.2 + 0.16 * (1 + caption.count("\n"))
    figure = PlainFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(max(1, len(order)), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for line, unit in enumerate(order):
        for column, image in enumerate(rows[unit]):
            axis = axes[line, column]
            axis.imshow(pixels_of(dataset[image.index].image), interpolation="nearest")
            color = _color(image.annotated)
            axis.spines[:].set(visible=True, color=color, linewidth=3)
            axis.set_xlabel(f"{image.score:.2f}", fontsize=7, color=_NOTE, labelpad=2)
        label = f"{_lines(rows[unit][0].name, 20)}\n{_share(rows[unit])}"
        axes[line, 0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center", labelpad=6)
    figure.supxlabel(caption, fontsize=8, color=_NOTE)
    return figure


def axis_maps_figure(
    prediction: Prediction,
    images: Tensor,
    label: Tensor | None = None,
    concepts: Tensor | None = None,
    top: int = 5,
) -> Figure:
    """Return where the concept axes that are highest in each image are seen, a row for each image.

    The maps of one image share a scale: whitening gives all axes the same variance.

    Args:
        prediction: prediction for B images, from the ``predict`` of a whitened model.
        images: (B, 3, H, W) in [0, 1].
        label: (B,) true classes, where known.
        concepts: (B, K) annotations of the concepts of the axes, NaN where unknown.
        top: axes of each image, by their activation.

    Raises:
        UnsupportedError: it is a prediction of another kind of model.
    """
    network, units = prediction.network, prediction.units
    if not isinstance(network, ConceptWhiteningNetwork):
        raise UnsupportedError(
            f"{network.unit_plural} are not axes that stand for concepts; a ConceptWhitening has them"
        )
    count = len(network.concept_names)
    top = min(top, count)
    middle = "its mean" if network.centered else "0"
    note = f"The concept axes of the highest activation. Red: above {middle}; blue: below; one scale for an image."
    if concepts is not None:
        note += " Title: green where the image holds the concept, orange where it does not, gray where nobody knows."
    exact = exact_to_pixels(prediction, images)
    note += " Pixel by pixel, the maps add up to the activations." if exact else ""
    width = 1.75 * (1 + top) + 0.2
    caption = _wrapped(note, width)
    height = 2.35 * len(images) + 0.3 + 0.16 * (1 + caption.count("\n"))
    figure = PlainFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(images), 1 + top, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    scores = units.scores[:, :count].detach().float().cpu()
    for row, image in enumerate(images):
        axes[row, 0].imshow(pixels_of(image), interpolation="nearest")
        axes[row, 0].set_title(heading(prediction, row, label), fontsize=8)
        shown = scores[row].argsort(descending=True, stable=True)[:top].tolist()
        maps = unit_maps(prediction, images[row : row + 1], row, shown).detach().float().cpu()
        maps = smoothed(maps) if exact else maps
        largest = float(strongest(maps, "percentile").max() if exact else maps.abs().max())
        for column, (unit, heat) in enumerate(zip(shown, maps, strict=True)):
            axis = axes[row, 1 + column]
            axis.imshow(overlay(image, heat, scale=largest), interpolation="nearest")
            truth = math.nan if concepts is None else float(concepts[row, unit])
            name = _lines(network.unit_names[unit], 22)
            axis.set_title(f"{name}\n{float(scores[row, unit]):.2f}", fontsize=8, color=_color(truth))
    figure.supxlabel(caption, fontsize=8, color=_NOTE)
    return figure


def _share(row: Sequence[TopImage]) -> str:
    """Return how many of the images are known to hold the concept."""
    known = [image.annotated > 0.5 for image in row if _told(image.annotated)]
    return (
        f"{sum(known)} of {len(known)} hold it\n({100 * sum(known) / len(known):.0f} %)" if known else "not annotated"
    )


def _color(annotated: float) -> str:
    return GRAY if not _told(annotated) else GREEN if annotated > 0.5 else ORANGE


def _told(annotated: float) -> bool:
    """Return whether an annotation says yes or no, and is neither unknown nor undecided."""
    return not math.isnan(annotated) and annotated != 0.5


def _lines(name: str, width: int) -> str:
    """Return the group and the value of a ``group::value`` name in a line each."""
    return "::\n".join(shorten(part, width) for part in name.split("::", 1))


def _wrapped(text: str, width: float) -> str:
    """Return a note in lines that are no wider than a figure of so many inches."""
    return "\n".join(textwrap.wrap(text, max(30, int(14 * width))))
