"""``ibd interpret``: which channels of all layers tell the classes, what they look like, and what rests on them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from ibd.app.over_data import Given, given_over_data, masked_images, named, number, one_split, real
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split, some_images
from ibd.data.base import Split
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import device_of
from ibd.explain.concept_slopes import chosen_classes
from ibd.explain.feature_ablation import Ablation, ablation_curve
from ibd.explain.feature_coverage import Coverage, semantic_coverage
from ibd.explain.feature_pictures import Pictures, average_patches, interpret, shown_units
from ibd.explain.feature_selection import RelevantFeatures, relevant_features
from ibd.explain.relevant_figures import ablation_figure, features_figure, interpretation_figure
from ibd.models.inputs import read_images

FIT_IMAGES, IMAGES, MASKED = 2000, 256, 128
"""Images that channels are selected by, that they are taken out for, and whose masks are looked at."""
_OPTIONS = (
    *("layers", "classes", "response", "budget", "signs", "fit_images", "images", "split", "counts", "draws"),
    *("top", "patches", "seed"),
)
_ROWS = 10
"""Classes in a figure, unless they are named."""


def show_relevant(run: str, pictures: Sequence[str], changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Select channels, draw them, measure what rests on them, explain images; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        pictures: image files whose predictions are explained.
        changes: ``layers=`` and ``classes=`` by commas, ``response=`` max or mean, ``budget=`` of each class,
            ``signs=`` positive or any, of ``fit_images=`` training images; ``images=`` of ``split=`` for the curve,
            ``counts=`` of channels that are taken out, ``draws=`` of random ones; ``top=`` channels drawn of each
            class, of ``patches=`` each; ``seed=``; and data and model, see `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default that of the run's figures.

    Raises:
        ConfigError: an unknown option or name.
        UnsupportedError: the model has no layers with maps.
    """
    given = given_over_data("interpret", run, changes, _OPTIONS)
    folder, said = Path(out) if out else given.folder, given.options
    if pictures:
        read_images(list(pictures), given.data.spec)  # what is wrong with a file is said before the long work
    seed, top = number("interpret", said, "seed", 0, least=0), number("interpret", said, "top", 4)
    split = one_split("interpret", said.get("split", "test"))
    classes = chosen_classes(given.data.spec.class_names, named(said, "classes"))
    if (signs := said.get("signs", "positive")) not in ("positive", "any"):
        raise ConfigError(f"interpret: signs: '{signs}' is not one of positive, any")
    counts = _counts(said)
    fitted = fitted_split(given.data)
    loader = some_images(given.data, fitted, number("interpret", said, "fit_images", FIT_IMAGES), seed)
    found = relevant_features(
        given.model,
        loader,
        given.data.spec.class_names,
        named(said, "layers"),
        cast(Any, said.get("response", "max")),
        real("interpret", said, "budget", 1.0),
        signs == "positive",
    )
    yield f"{len(found.weights[0])} channels of {len(found.layers)} layers, told by {found.images} images"
    yield f"classes by the selected channels alone: {found.accuracy:.1%} of these right"
    yield from found.table().splitlines()
    yield f"table:  {_save_units(found, folder / 'relevant_features.csv')}"
    rows = list(range(len(found.class_names)))[:_ROWS] if classes is None else classes
    dataset, patches = given.data.dataset(fitted), number("interpret", said, "patches", 20)
    shown = average_patches(given.model, shown_units(found, top, rows), loader, dataset, patches)
    yield f"figure: {save_figure(features_figure(found, shown, rows, top), folder / 'relevant_features.png')}"
    for file in pictures:
        yield from _explained(given, found, file, top, shown, (loader, dataset, patches), folder)
    images = some_images(given.data, split, number("interpret", said, "images", IMAGES), seed)
    curve = ablation_curve(given.model, found, images, counts, number("interpret", said, "draws", 5, least=2), seed)
    yield "accuracy without channels of the image's class"
    yield from curve.table().splitlines()
    yield f"figure: {save_figure(ablation_figure(curve), folder / 'ablation.png')}"
    yield f"table:  {_save_curve(curve, folder / 'ablation.csv')}"
    try:
        coverage = covered(given, found, split, seed)
    except UnsupportedError:  # the data has no masks
        return
    yield from str(coverage).splitlines()
    yield f"table:  {_save_coverage(coverage, folder / 'coverage.csv')}"


def covered(given: Given, found: RelevantFeatures, split: Split, seed: int) -> Coverage:
    """Return how well the masks of a split's images are met by the selected channels.

    Raises:
        UnsupportedError: there are no masks.
    """
    names, batches = masked_images(given.data, split, MASKED, seed)
    return semantic_coverage(given.model, found, batches, names, seed=seed)


def _explained(
    given: Given,
    found: RelevantFeatures,
    file: str,
    top: int,
    shown: Pictures,
    searched: tuple[Any, Any, int],
    folder: Path,
) -> Iterator[str]:
    """Explain the prediction for an image file."""
    image = read_images([file], given.data.spec).to(device_of(given.model))
    said = interpret(given.model, image, found, top=top)
    missing = [unit for unit in said.units if (unit.layer, unit.channel) not in shown]
    shown |= average_patches(given.model, missing, *searched)
    yield f"{file}: {said.class_name} ({said.probability:.0%}), {said.responding} of {said.selected} channels respond"
    for unit, response in zip(said.units, said.responses.tolist(), strict=True):
        yield f"  {unit.name} ({unit.weight:+.2f}): {response:+.1f} deviations above its mean"
    path = folder / f"interpreted_{Path(file).stem}.png"
    yield f"figure: {save_figure(interpretation_figure(image[0], said, shown), path)}"


def _counts(said: dict[str, str]) -> list[int]:
    """Return how many channels are taken out."""
    given = [text.strip() for text in said.get("counts", "1,2,3,5,8,12").split(",")]
    if not all(text.isdecimal() for text in given) or not any(int(text) for text in given):
        raise ConfigError(f"interpret: counts: '{said['counts']}' given, numbers of channels by commas are needed")
    return [int(text) for text in given]


def _save_units(found: RelevantFeatures, path: Path) -> Path:
    rows = [
        [name, unit.layer, unit.channel, f"{unit.weight:.6g}"]
        for index, name in enumerate(found.class_names)
        for unit in found.selected(index)
    ]
    return _save(path, ["class", "layer", "channel", "weight"], rows)


def _save_curve(curve: Ablation, path: Path) -> Path:
    low, high = (ends.tolist() for ends in curve.interval())
    means = curve.random.mean(0).tolist()
    rows = [
        [count, *(f"{value:.6g}" for value in values)]
        for count, *values in zip(curve.counts, curve.selected.tolist(), means, low, high, strict=True)
    ]
    return _save(path, ["channels", "selected", "random", "random_low", "random_high"], rows)


def _save_coverage(coverage: Coverage, path: Path) -> Path:
    rows: list[list[object]] = [
        [name, f"{iou:.6g}", best, area]
        for name, iou, best, area in zip(
            coverage.names, coverage.iou.tolist(), coverage.best, coverage.area.tolist(), strict=True
        )
    ]
    return _save(path, ["mask", "iou", "channel", "pixels"], rows)


def _save(path: Path, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a table as CSV; return where it is."""
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heads, *rows])
    return path
