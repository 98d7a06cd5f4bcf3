"""``ibd visualize``: images that are made for classes, units or channels, by recipes that keep them natural."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ibd.app.foreign import is_place
from ibd.app.made_images import Asked, Wanted, asked_model, class_names, wanted_of
from ibd.app.over_data import named, number
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split, some_images
from ibd.comparison.sources import find_data
from ibd.data.fitting import fit_image
from ibd.explain.activations import chunked, device_of
from ibd.explain.base import undisturbed
from ibd.explain.feature_visualization.maximize import Visualization
from ibd.explain.feature_visualization.recipe_figures import Row, made_figure, row_of
from ibd.explain.feature_visualization.recipes import ALL, DEFAULT, Material, find_recipes, make_by_recipes
from ibd.io import load_run_data

_OPTIONS = ("recipes", "steps", "size", "images", "scalar", "seed")


def show_visualizations(run: str, targets: Sequence[str], changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Make images for classes, units or channels, by one recipe or several; yield lines on them for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        targets: classes or units by number or name, or channels as ``LAYER:NUMBER``, all of a kind; by default the
            first ten classes.
        changes: ``recipes=`` by commas, or all; ``steps=`` and ``size=`` of the images; ``images=`` of the data that
            colors and priors come from; ``scalar=`` of a class; ``seed=``; ``data=`` and ``model.key=value``, see
            `ibd.app.over_data.given_over_data`; a network of anybody's needs no data.
        out: file of the picture; by default beside the run's figures, or in the current folder.

    Raises:
        ConfigError: an unknown option, recipe or target.
        DataError: a recipe learns from images, and there are none.
    """
    asked = asked_model("visualize", run, changes, _OPTIONS)
    said = asked.options
    asked_for = named(said, "recipes") or [DEFAULT]
    chosen = find_recipes(list(ALL) if asked_for == ["all"] else asked_for)
    seed = number("visualize", said, "seed", 0, least=0)
    wanted = wanted_of("visualize", asked.model, targets, said.get("scalar", "log_prob"))
    steps = number("visualize", said, "steps", 256)
    material = _material(asked, number("visualize", said, "images", 512, least=2), seed, wanted)
    if material.images is None and asked_for == ["all"]:
        chosen = [recipe for recipe in chosen if not recipe.learns]
    path = Path(out) if out else asked.folder / "visualized.png"
    rows: list[Row] = []
    table: list[list[object]] = []
    try:
        names = [recipe.name for recipe in chosen]
        for recipe, made in make_by_recipes(asked.model, wanted.objective, material, names, steps=steps):
            rows.append(row_of(recipe.title, made))
            table += _lines(recipe.name, wanted.names, made)
            yield f"{recipe.name:<14}{_said(wanted.names, made)}"
    except KeyboardInterrupt:
        if not rows:
            raise
        yield f"interrupted: {len(rows)} of {len(chosen)} recipes are done"
    if material.images is not None:
        rows.append(_natural(wanted, asked, material.images))
    figure, saved = _save(rows, wanted.names, table, path)
    yield f"figure: {figure}"
    yield f"table:  {saved}"


def _material(asked: Asked, count: int, seed: int, wanted: Wanted) -> Material:
    """Return images of the data, if there are any: those that a run was trained on, or those that are named."""
    if is_place(asked.run):
        sources = [text.removeprefix("data=") for text in asked.data if text.startswith("data=")]
        if not sources:
            return Material(asked.size, classes=wanted.classes, seed=seed)
        data = find_data(sources[-1], [text for text in asked.data if text.startswith("data.")])
    else:
        data = load_run_data(asked.run, *asked.data)
    loader = some_images(data, fitted_split(data), count, seed)
    batches = [(batch.image, batch.label) for batch in loader]
    images, labels = torch.cat([image for image, _ in batches]), torch.cat([label for _, label in batches])
    if tuple(images.shape[2:]) != asked.size:
        images = torch.stack([fit_image(image, asked.size, "squash") for image in images])
    images = images.to(device_of(asked.model))
    ours = class_names(asked.model) == list(data.spec.class_names)
    return Material(asked.size, images, labels if ours else None, wanted.classes, seed)


def _natural(wanted: Wanted, asked: Asked, images: Tensor) -> Row:
    """Return the row of the images of the data that have most of what is wanted."""
    with undisturbed(asked.model), torch.no_grad():
        values = torch.cat([wanted.natural(images[part]).float().cpu() for part in chunked(len(images), 64)])
    best, place = values.max(0)
    texts = [f"{value:.2g}" if wanted.classes is None else f"p = {value:.2f}" for value in best.tolist()]
    return Row("images\nas they are", images[place], texts)


def _said(columns: Sequence[str], made: Visualization) -> str:
    """Return how probable, or how high, what was made is."""
    if made.probability is None:
        return f"objective {float(made.value.min()):.3g} to {float(made.value.max()):.3g}"
    low = int(made.probability.argmin())
    mean = float(made.probability.mean())
    return f"mean probability {mean:.2f}, least {float(made.probability[low]):.2f} ({columns[low]})"


def _lines(recipe: str, columns: Sequence[str], made: Visualization) -> list[list[object]]:
    probable = [""] * len(columns) if made.probability is None else [f"{p:.6g}" for p in made.probability.tolist()]
    values = [f"{value:.6g}" for value in made.value.tolist()]
    return [[recipe, *row] for row in zip(columns, values, probable, strict=True)]


def _save(rows: Sequence[Row], columns: Sequence[str], table: list[list[object]], path: Path) -> tuple[Path, Path]:
    """Write picture and table; return where they are."""
    note = "p: probability of the class." if "p = " in rows[0].texts[0] else "Number: the objective."
    figure = save_figure(made_figure(rows, columns, note), path)
    saved = path.with_suffix(".csv")
    with writing(saved), saved.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["recipe", "target", "objective", "probability"], *table])
    return figure, saved
