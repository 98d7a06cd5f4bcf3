"""A picture of what a data set is: images of some classes, and the concepts that are true of them."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ibd.data.dataset import ImageDataset
from ibd.drawing import PlainFigure, shorten
from ibd.types import DataSpec, Quantity

_COLUMNS = 5
"""Images of each class."""


def save_overview(dataset: ImageDataset, spec: DataSpec, path: str | Path, classes: int = 8) -> None:
    """Write a PNG with images of some classes and their concepts.

    Args:
        dataset: dataset of one split.
        spec: description of the data.
        path: path of the picture.
        classes: number of classes to show.
    """
    shown = min(classes, len(spec.class_names))
    figure = PlainFigure(figsize=(1.5 * _COLUMNS + 4.5, 1.6 * shown), layout="constrained")
    axes = figure.subplots(shown, _COLUMNS + 1, squeeze=False, gridspec_kw={"width_ratios": [*[1] * _COLUMNS, 3]})
    for label in range(shown):
        members = (dataset.labels == label).nonzero().flatten().tolist()
        for axis, index in zip(axes[label, :_COLUMNS], members[:_COLUMNS], strict=False):
            axis.imshow(dataset[index].image.permute(1, 2, 0).numpy(), interpolation="nearest")
        for axis in axes[label]:
            axis.set_axis_off()
        _concepts(axes[label, _COLUMNS], spec, dataset, label)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _concepts(axis: Axes, spec: DataSpec, dataset: ImageDataset, label: int) -> None:
    """Write a class's name, size, quantities and most frequent concepts."""
    rows = dataset.concepts[dataset.labels == label]
    share = torch.nanmean(rows, 0)
    likely = [i for i in share.argsort(descending=True).tolist() if float(share[i]) >= 0.5]
    common = [i for i in likely if i not in spec.measured]
    names = [
        shorten(spec.concept_names[i], 30) + ("" if share[i] == 1 else f" ({100 * float(share[i]):.0f} %)")
        for i in common
    ]
    names = [_number(spec.concept_names[i], rows[:, i], quantity) for i, quantity in spec.measured.items()] + names
    lines = [", ".join(names[i : i + 3]) for i in range(0, min(len(names), 12), 3)]
    text = f"{shorten(spec.class_names[label], 40)}, {len(rows)} training images\n" + "\n".join(lines)
    axis.text(0, 0.5, text, va="center", fontsize=8)


def _number(name: str, values: Tensor, quantity: Quantity) -> str:
    """Return the mean of a quantity with its standard deviation."""
    known = values[~values.isnan()]
    if not len(known):
        return f"{shorten(name, 30)} ?"
    mean, deviation = quantity.shown(float(known.mean())), quantity.shown(float(known.std(correction=0)))
    return f"{shorten(name, 30)} {mean.removesuffix(quantity.unit).rstrip()} ± {deviation}"
