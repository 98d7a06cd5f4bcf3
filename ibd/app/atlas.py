"""``ibd atlas``: what a layer of a model holds at many places of many images, laid out and drawn."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from ibd.app.over_data import Given, given_over_data, named, number, one_split, real
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import some_images
from ibd.errors import UnsupportedError
from ibd.explain.activations import device_of
from ibd.explain.atlas import Atlas, activation_atlas, atlas_examples, sample_places
from ibd.explain.atlas_figures import atlas_figure
from ibd.explain.concept_slopes import chosen_classes
from ibd.explain.inside import runs_on
from ibd.explain.layer_features import feature_layer

IMAGES, PLACES = 500, 2000
_SIZE = 40
"""Pixels along a side of a cell's image, where the network runs on it."""
_CLASSES = 50
"""Classes that parts are told for, unless they are named."""
_OPTIONS = (
    *("layer", "classes", "images", "places", "per_image", "split", "grid", "least", "method", "perplexity"),
    *("steps", "size", "seed"),
)


def show_atlas(run: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Sample places, lay them out, draw the cells and write them; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``layer=``, by default the backbone; ``classes=`` by commas that cells are told for; ``images=`` of
            ``split=``, ``per_image=`` places of each and ``places=`` in all; ``grid=`` cells along a side, of at least
            ``least=`` places each; ``method=`` tsne, pca or umap, ``perplexity=``; ``steps=`` and ``size=`` of the
            images, by default 40, or that of the data where the network needs it; ``seed=``; and data and model, see
            `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default that of the run's figures.

    Raises:
        ConfigError: an unknown option or name.
        DataError: too few images.
        UnsupportedError: the layer puts out no map, the network runs on no such size, or a package is missing.
    """
    given = given_over_data("atlas", run, changes, _OPTIONS)
    said, folder = given.options, Path(out) if out else given.folder
    seed, split = number("atlas", said, "seed", 0, least=0), one_split("atlas", said.get("split", "test"))
    steps = number("atlas", said, "steps", 128)
    grid, least = number("atlas", said, "grid", 10), number("atlas", said, "least", 3)
    most, per_image = number("atlas", said, "places", PLACES), number("atlas", said, "per_image", 4)
    perplexity = real("atlas", said, "perplexity", 30.0)
    # No more images than places are taken of: they come class by class, and the last classes would have none.
    images = min(number("atlas", said, "images", IMAGES), -(-most // per_image))
    loader = some_images(given.data, split, images, seed)
    classes = chosen_classes(given.data.spec.class_names, named(said, "classes"))
    asked = list(range(min(_CLASSES, len(given.data.spec.class_names)))) if classes is None else classes
    first = next(iter(loader)).image[:1].to(device_of(given.model))
    layer = feature_layer(given.model, said.get("layer"), first)
    usual = _SIZE if runs_on(given.model, _SIZE) else first.shape[2]
    size = number("atlas", said, "size", usual, least=8)
    if not runs_on(given.model, size):  # before all the work
        raise UnsupportedError(f"atlas: size: the network does not run on images of {size} x {size} pixels")
    sampled = sample_places(given.model, loader, layer, asked, per_image, most, seed)
    read = len(torch.unique(sampled.index))
    if not sampled.complete:
        yield f"interrupted: the atlas is of the {read} images that were read"
    yield (
        f"{len(sampled.vectors)} places of {read} images in layer '{layer}', {sampled.vectors.shape[1]} numbers "
        f"each: {sampled.forwards:g} passes, {sampled.heads:g} back to the layer"
    )
    method = cast(Any, said.get("method", "tsne"))
    atlas = activation_atlas(
        given.model, sampled, layer, grid, least, method, seed, perplexity, size, steps=steps, progress=False
    )
    drawn, held = len(atlas.images), int((atlas.member >= 0).sum())
    if not atlas.complete:
        yield f"interrupted: {drawn} of {len(atlas.cells)} cells are drawn"
    yield (
        f"{drawn} cells of {grid} x {grid} drawn, {held} of the places are in such: {drawn * steps} passes forth and "
        "back"
    )
    examples = atlas_examples(given.model, sampled, atlas, given.data.dataset(split), size)
    figure = atlas_figure(atlas, sampled, given.data.spec.class_names, examples)
    yield f"figure: {save_figure(figure, folder / 'atlas.png')}"
    yield f"table:  {_save(given, atlas, folder / 'atlas.csv')}"


def _save(given: Given, atlas: Atlas, path: Path) -> Path:
    """Write what each cell does for each class; return where the table is."""
    names = [given.data.spec.class_names[number] for number in atlas.classes]
    rows = [
        [row, column, count, *(f"{value:.6g}" for value in parts)]
        for (row, column), count, parts in zip(
            atlas.cells.tolist(), atlas.counts.tolist(), atlas.parts.tolist(), strict=True
        )
    ]
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["row", "column", "places", *names], *rows])
    return path
