"""The tables of a dissection."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from ibd.app.terminal import writing
from ibd.explain.dissection.found import Dissection
from ibd.explain.dissection.net2vec import ConceptWeights

_COLUMNS = (
    *("layer", "channel", "threshold", "kind", "concept", "iou", "chance", "fitted_iou"),
    *("form", "form_iou", "form_chance", "fitted_form_iou"),
)


def save_units(found: Dissection, path: Path) -> Path:
    """Write a row for each channel; return where it is."""
    return _save(path, _COLUMNS, ([_text(getattr(unit, key)) for key in _COLUMNS] for unit in found.units))


def save_iou(found: Dissection, path: Path) -> Path:
    """Write a row for each channel with its IoU with each concept, on the images that it is scored on."""
    rows = (
        [layer.layer, channel, *map(_text, values)]
        for layer in found.layers
        for channel, values in enumerate(layer.iou.tolist())
    )
    return _save(path, ("layer", "channel", *found.names), rows)


def save_weights(weights: Sequence[ConceptWeights], path: Path) -> Path:
    """Write a row for each layer, concept and number of filters, with the filters and their weights."""
    rows = []
    for found in weights:
        for c, name in enumerate(found.names):
            one = [found.layer, name, "as it is", _text(float(found.single[c])), "", int(found.single_channel[c])]
            rows.append(one)
            for index, count in enumerate(found.filters):
                vector = found.weights[index, c]
                order = vector.abs().argsort(descending=True).tolist()
                told = " ".join(f"{unit}:{float(vector[unit]):.4g}" for unit in order if float(vector[unit]))
                values = [_text(float(each[index, c])) for each in (found.iou, found.chance)]
                rows.append([found.layer, name, count, *values, told])
    return _save(path, ("layer", "concept", "filters", "iou", "chance", "weights"), rows)


def _text(value: object) -> object:
    """Return a number with its digits, and nothing where there is none; all else as it is."""
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.6g}"


def _save(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heads, *rows])
    return path
