"""``ibd map``: images laid out in two dimensions by what a layer of a model makes of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any, cast

import torch

from ibd.app.over_data import Given, given_over_data, number, one_split, real
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import some_images
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.activations import device_of
from ibd.explain.code_map import UNITS, CodeMap, Codes, lay_out, read_codes, same_class
from ibd.explain.code_map_figures import (
    Groups,
    code_map_figure,
    of_classes,
    of_concept,
    of_errors,
    shown_thumbnails,
    thumbnail,
)
from ibd.explain.layer_features import feature_layer

IMAGES, THUMBNAILS = 500, 120
"""Images on a map, and how many are drawn as thumbnails."""
_OPTIONS = ("layer", "color", "method", "images", "split", "pooling", "perplexity", "thumbnails", "seed")


def show_map(run: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Read codes, lay them out, draw and write them; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``layer=`` a name, or units, by default the backbone; ``color=`` class, error, or the name of a
            concept; ``method=`` tsne, pca or umap; ``images=`` of ``split=``; ``pooling=`` mean, max or flat of a map;
            ``perplexity=``, ``thumbnails=``, ``seed=``; and data and model, see
            `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default that of the run's figures.

    Raises:
        ConfigError: an unknown option or name.
        DataError: too few images.
        UnsupportedError: the layer puts out neither a map nor a vector, or a package is missing.
    """
    given = given_over_data("map", run, changes, _OPTIONS)
    said, folder = given.options, Path(out) if out else given.folder
    seed, most = number("map", said, "seed", 0, least=0), number("map", said, "thumbnails", THUMBNAILS, least=0)
    split, color = one_split("map", said.get("split", "test")), said.get("color", "class")
    perplexity, method = real("map", said, "perplexity", 30.0), said.get("method", "tsne")
    _check_color(given, color)
    loader = some_images(given.data, split, number("map", said, "images", IMAGES), seed)
    layer = said.get("layer", "")
    if layer != UNITS:
        first = next(iter(loader)).image[:1].to(device_of(given.model))
        layer = feature_layer(given.model, layer, first)
    codes = read_codes(given.model, loader, layer, cast(Any, said.get("pooling", "mean")), "reading codes")
    if not codes.complete:
        yield f"interrupted: the map is of the {len(codes.values)} images that were read"
    found = lay_out(codes.values, cast(Any, method), seed, perplexity)
    yield f"{len(codes.values)} images by {_named(layer)}, {codes.values.shape[1]} numbers each, laid out by {method}"
    told = _told(codes, found)
    yield from told
    shown, dataset = shown_thumbnails(found.places, most) if most else [], given.data.dataset(split)
    pictures = torch.stack([thumbnail(dataset[int(codes.index[i])].image) for i in shown]) if shown else None
    figure = code_map_figure(found, _groups(given, codes, color), pictures, shown, told[0])
    yield f"figure: {save_figure(figure, folder / 'map.png')}"
    yield f"table:  {_save(given, codes, found, folder / 'map.csv')}"


def _named(layer: str) -> str:
    return "the scores of the units" if layer == UNITS else f"layer '{layer}'"


def _told(codes: Codes, found: CodeMap) -> list[str]:
    """Return how far a map can be believed, and how far the classes are apart."""
    count = found.neighbours
    kept = f"{found.kept:.0%} of the {count} nearest neighbours of an image are its nearest on the map as well"
    by_code, on_map = (same_class(values, codes.labels, count) for values in (codes.values, found.places))
    if isnan(by_code):
        return [kept, "no two images are of one class"]
    near = f"{by_code:.0%} of the {count} nearest (or as many as there are of it) by the codes, {on_map:.0%} on the map"
    return [kept, f"of its own class are {near}"]


def _check_color(given: Given, color: str) -> None:
    known = ["class", "error", *given.data.spec.concept_names]
    if color not in known:
        raise ConfigError(f"map: color: there is no '{color}'.{did_you_mean(color, known)}")
    if color in given.data.spec.quantities:
        raise ConfigError(f"map: color: '{color}' is a number, and no concept that is true or false")


def _groups(given: Given, codes: Codes, color: str) -> Groups:
    spec = given.data.spec
    if color == "class":
        return of_classes(codes.labels, spec.class_names)
    if color == "error":
        if codes.predicted is None:
            raise UnsupportedError("map: color=error: the model returns no logits, so it predicts no class")
        return of_errors(codes.labels, codes.predicted)
    return of_concept(codes.concepts[:, spec.concept_names.index(color)], color)


def _save(given: Given, codes: Codes, found: CodeMap, path: Path) -> Path:
    """Write where each image lies; return where the table is."""
    names = given.data.spec.class_names
    told = [
        "" if codes.predicted is None else names[number]
        for number in (codes.labels if codes.predicted is None else codes.predicted).tolist()
    ]
    rows = [
        [index, names[label], predicted, f"{x:.6g}", f"{y:.6g}"]
        for index, label, predicted, (x, y) in zip(
            codes.index.tolist(), codes.labels.tolist(), told, found.places.tolist(), strict=True
        )
    ]
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "class", "predicted", "x", "y"], *rows])
    return path
