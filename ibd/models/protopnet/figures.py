"""Figures of prototype networks: this part of the image looks like that training patch.

A box in a training or test image is always drawn from the similarity map of that image, computed when the figure is
made, and training images are fetched only then.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.drawing import PlainFigure, shorten
from ibd.errors import DataError
from ibd.explain.boxes import placed
from ibd.explain.figures import GRAY, GREEN, ORANGE, exact_to_pixels, heading, unit_maps
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay, smoothed
from ibd.models.prediction import Prediction
from ibd.models.protopnet.explanations import (
    NearestPatch,
    Place,
    PrototypeRow,
    find_places,
    local_explanation,
    patch_center,
    patch_field,
    sources_of,
)
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.protopnet.provenance import Source
from ibd.models.trained import TrainedModel

YELLOW = "#ffd43b"


def field_note(model: TrainedModel) -> str:
    """Return how much of the image a patch depends on, with a warning where that is all of it.

    An upsampled map places a patch where its receptive field is centered; it does not say that the rest of the field
    played no part.

    Args:
        model: a model whose network has prototypes.
    """
    field, (height, width) = patch_field(model), model.spec.image_size
    if field is None:
        return "The receptive field of a patch is not known: it may depend on more than its box"
    rows, columns = field.size
    if field.whole_image or (rows >= height and columns >= width):
        size = "the whole image" if field.whole_image else f"{rows} x {columns} pixels"
        return (
            f"Warning: a patch depends on {size}, the image has {height} x {width}: a box says where the evidence was "
            "read, not all that it rests on"
        )
    return f"A patch depends on up to {rows} x {columns} of the {height} x {width} pixels, around its box"


def local_figure(
    model: ProtoPNet,
    prediction: Prediction,
    images: Tensor,
    data: ImageDataModule | None = None,
    top: int = 4,
    label: Tensor | None = None,
) -> Figure:
    """Return what the predicted class of each image rests on: where its prototypes were seen, and what they are.

    Args:
        model: a prototype network's module.
        prediction: prediction from ``model.predict`` for B images, interventions included.
        images: (B, 3, H, W) in [0, 1].
        data: data of the training, for the pictures of the sources; without it, or where its images are others, these
            are left out.
        top: prototypes of each image, by the size of their contribution.
        label: (B,) true classes, where known.

    Raises:
        UnsupportedError: the model has no prototypes.
    """
    rows = local_explanation(model, prediction, top=top)
    top = len(rows) // max(1, len(images))
    wanted = {row.prototype for row in rows}
    sources = {j: source for j, source in sources_of(model).items() if j in wanted}
    pictures = source_pictures(data, sources)
    lines = 2 if pictures else 1
    exact = exact_to_pixels(prediction, images)
    caption = _caption(model, bool(prediction.edited.any()), top, exact)
    height = 2.55 * lines * len(images) + 0.2 + 0.16 * (1 + caption.count("\n"))
    figure = PlainFigure(figsize=(2.1 * (1 + top) + 0.2, height), layout="constrained")
    axes = figure.subplots(lines * len(images), 1 + top, squeeze=False)
    known = list(pictures)
    in_order = find_places(model, torch.stack([pictures[j] for j in known]), known) if known else []
    places = dict(zip(known, in_order, strict=True))
    for i, image in enumerate(images):
        part = rows[i * top : (i + 1) * top]
        edited = prediction.edited[i]
        _show(axes[lines * i, 0], image, heading(prediction, i, label))
        heats = unit_maps(prediction, images[i : i + 1], i, [row.prototype for row in part])
        for column, (row, heat) in enumerate(zip(part, heats, strict=True)):
            axis = axes[lines * i, 1 + column]
            star = "*" if bool(edited[row.prototype]) else ""
            _show(axis, heated(image, heat, None if exact else model), _sum(row, star))
            axis.title.set_color(GREEN if row.contribution >= 0 else ORANGE)
            center = patch_center(model, row.peak, prediction.units.maps.shape[2:])
            _frame(axis, Place(row.box, row.peak, center))
            if lines == 2:
                _source(axes[lines * i + 1, 1 + column], row, pictures, places)
        if lines == 2:
            _panel(axes[lines * i + 1, 0], prediction, i, part)
    figure.supxlabel(caption, fontsize=8, color="#495057")
    return figure


def global_figure(
    model: ProtoPNet,
    data: ImageDataModule,
    nearest: Iterable[NearestPatch],
    prototypes: Sequence[int],
    columns: int = 3,
) -> Figure:
    """Return what prototypes are and what they respond to: source, nearest training and nearest test patches.

    A patch of another class than the prototype's is framed in orange. The training image that is the source itself is
    not shown again.

    Args:
        model: a prototype network's module.
        data: data of the training.
        nearest: patches by prototype, split and rank; see `ibd.models.protopnet.evaluation.nearest_patches`.
        prototypes: prototypes to show, a row for each.
        columns: number of patches of each split.

    Raises:
        UnsupportedError: the model has no prototypes.
    """
    network, sources = model.network, sources_of(model)
    pictures = source_pictures(data, {j: sources[j] for j in prototypes if j in sources})
    patches = _by_split(nearest, prototypes, sources, columns)
    splits = list(dict.fromkeys(split for split, _ in patches))
    cells: list[tuple[int, int, Tensor, int, str, bool]] = []  # row, column, picture, prototype, text, other class
    for line, j in enumerate(prototypes):
        if j in pictures:
            cells.append((line, 0, pictures[j], j, shorten(sources[j].sample, 26), False))
        for s, split in enumerate(splits):
            for rank, patch in enumerate(patches.get((split, j), [])):
                other = patch.class_name != patch.owner
                text = f"{patch.similarity:.2f}" + (f"  {shorten(patch.class_name, 18)}" if other else "")
                picture = data.dataset(split)[patch.index].image
                cells.append((line, 1 + s * columns + rank, picture, j, text, other))
    width = 1 + columns * len(splits)
    figure = PlainFigure(figsize=(1.5 * width + 1.3, 1.62 * len(prototypes) + 0.9), layout="constrained")
    axes = figure.subplots(len(prototypes), width, squeeze=False)
    places = find_places(model, torch.stack([c[2] for c in cells]), [c[3] for c in cells]) if cells else []
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for (line, column, picture, _, text, other), place in zip(cells, places, strict=True):
        axis = axes[line, column]
        axis.imshow(_pixels(picture), interpolation="nearest")
        _frame(axis, place)
        axis.set_xlabel(text, fontsize=7, color=ORANGE if other else "#495057", labelpad=2)
        axis.spines[:].set(visible=True, color=ORANGE if other else GRAY, linewidth=3 if other else 0.6)
    for line, j in enumerate(prototypes):
        pruned = "" if bool(network.mask[j]) else "\n(pruned)"
        owner = "\n".join(textwrap.wrap(shorten(network.class_names[int(network.classes[j])], 28), 15))
        label = f"{network.unit_names[j]}\n{owner}{pruned}"
        axes[line, 0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center", labelpad=6)
    axes[0, 0].set_title("source", fontsize=9)
    for s, split in enumerate(splits):
        for rank in range(columns):
            axes[0, 1 + s * columns + rank].set_title(f"{split} {rank + 1}", fontsize=9)
    note = f"Below each patch its similarity; orange: of another class than the prototype. {field_note(model)}."
    figure.supxlabel("\n".join(textwrap.wrap(note, 18 * width)), fontsize=8, color="#495057")
    return figure


def _by_split(
    nearest: Iterable[NearestPatch], prototypes: Sequence[int], sources: Mapping[int, Source], columns: int
) -> dict[tuple[Split, int], list[NearestPatch]]:
    """Return (split, prototype) -> its first patches by rank, but for the source itself."""
    rows: dict[tuple[Split, int], list[NearestPatch]] = {}
    for patch in sorted(nearest, key=lambda patch: patch.rank):
        source = sources.get(patch.prototype)
        itself = source is not None and patch.split == "train" and patch.index == source.index
        chosen = rows.setdefault((patch.split, patch.prototype), [])
        if patch.prototype in prototypes and not itself and len(chosen) < columns:
            chosen.append(patch)
    return dict(sorted(rows.items(), key=lambda item: ("train", "val", "test").index(item[0][0])))


def source_pictures(data: ImageDataModule | None, sources: Mapping[int, Source]) -> dict[int, Tensor]:
    """Return prototype -> the image of its source, (3, H, W), where the data still has it under that name."""
    if data is None or not sources:
        return {}
    dataset = data.dataset("train")
    pictures = {}
    for j, source in sources.items():
        if 0 <= source.index < len(dataset) and dataset.sample_id(source.index).endswith(source.sample):
            with contextlib.suppress(DataError):  # its file is gone
                pictures[j] = dataset[source.index].image
    return pictures


def _sum(row: PrototypeRow, star: str) -> str:
    return (
        f"prototype {row.prototype}: {shorten(row.owner, 16)}\n"
        f"{row.similarity:.2f}{star} x {row.weight:+.2f} = {row.contribution:+.2f}"
    )


def _source(axis: Axes, row: PrototypeRow, pictures: Mapping[int, Tensor], places: Mapping[int, Place]) -> None:
    """Draw the training image that a prototype is a patch of, or say that there is none."""
    if row.source is not None and row.prototype in pictures:
        _show(axis, pictures[row.prototype], f"looks like\n{shorten(row.source.sample, 26)}")
        _frame(axis, places[row.prototype])
        return
    axis.set_axis_off()
    name = "" if row.source is None else f"\n{shorten(row.source.sample, 24)}"
    axis.text(0.5, 0.5, f"no picture{name}", ha="center", va="center", fontsize=8, color=GRAY, transform=axis.transAxes)


def _panel(axis: Axes, prediction: Prediction, index: int, shown: Sequence[PrototypeRow]) -> None:
    """Write how the shown contributions add up to the logit, and what else the image could be."""
    label, logit = int(prediction.labels[index]), prediction.logits[index]
    part = sum(row.contribution for row in shown)
    ranking = logit.argsort(descending=True)[:3].tolist()
    names = prediction.network.class_names
    lines = [
        f"{len(shown)} shown     {part:+7.2f}",
        f"all others  {float(logit[label]) - part:+7.2f}",
        f"= logit     {float(logit[label]):+7.2f}",
        "",
        *(f"{100 * float(prediction.probabilities[index, c]):5.1f} % {shorten(names[c], 14)}" for c in ranking),
    ]
    axis.set_axis_off()
    axis.text(0.0, 0.5, "\n".join(lines), family="monospace", fontsize=8, va="center", transform=axis.transAxes)


def _caption(model: ProtoPNet, edited: bool, top: int, exact: bool) -> str:
    parts = ["Similarity x weight = contribution to the logit: green for the class, orange against it"]
    parts += ["cross: the most similar patch"]
    parts += [
        "red: what each pixel adds to its similarity, blue: takes from it"
        if exact
        else "red: how similar, between the map's least and most"
    ]
    parts += ["* similarity multiplied by hand"] if edited else []
    return "\n".join(textwrap.wrap(f"{'; '.join(parts)}. {field_note(model)}.", 30 * (1 + top)))


def _pixels(image: Any) -> Any:
    """Return an image as matplotlib wants it; a picture as it is."""
    return pixels_of(image) if isinstance(image, Tensor) else image


def _show(axis: Axes, image: Any, title: str) -> None:
    axis.imshow(_pixels(image), interpolation="nearest")
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


def heated(image: Tensor, heat: Tensor, model: TrainedModel | None, strength: float = 0.75) -> NDArray[np.float32]:
    """Return the image with a similarity map on it, from its least similar place (gray) to its most similar (red).

    Without a model it is a map of pixels that adds up to the similarity, in red and blue.

    Args:
        image: (3, H, W) in [0, 1].
        heat: (h, w), or (H, W) without a model.
        model: model whose network has prototypes.
        strength: opacity of the strongest place.
    """
    if model is None:
        return overlay(image, smoothed(heat), normalization="percentile", strength=strength)
    heat = placed(heat.unsqueeze(0).float(), model.spec.image_size, patch_field(model))[0]
    spread = heat.max() - heat.min()
    share = (heat - heat.min()) / spread if spread > 0 else torch.zeros_like(heat)
    return overlay(image, share, scale=1.0, strength=strength)


def _frame(axis: Axes, place: Place) -> None:
    """Draw a box and a cross where the most similar patch is centered, to be seen on any image."""
    top, left, bottom, right = place.box
    outlined: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=3, foreground="black")]
    rectangle = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=YELLOW, lw=1.6)
    rectangle.set_path_effects(outlined)
    axis.add_patch(rectangle)
    y, x = place.center
    axis.plot(x - 0.5, y - 0.5, "+", color=YELLOW, markersize=7, mew=1.4, path_effects=outlined)
