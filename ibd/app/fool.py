"""``ibd fool``: how steady models are under small changes, whether explanations show them, and who fools whom."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ibd.app.foreign import is_place, short_name
from ibd.app.over_data import Given, given_over_data, number, one_split
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split, some_images
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import device_of
from ibd.explain.fooling.attacks import Fooled, Norm, pgd
from ibd.explain.fooling.effect import COLUMNS, Seen, explanations_fooled
from ibd.explain.fooling.figures import explanations_fooled_figure, fooled_figure, transfer_figure
from ibd.explain.fooling.robustness import COLUMNS as CHANGES, Robustness, robustness
from ibd.explain.fooling.universal import Method, Transfer, Universal, transfer_table, universal_perturbation
from ibd.io import find_run

IMAGES, FIT_IMAGES, SHOWN = 96, 300, 16
"""Images that are changed one by one, that a universal perturbation is made of, and that explainers are asked about."""
RADIUS, UNIVERSAL = 4 / 255, 10 / 255
"""Largest changes in L-infinity by default, of single images and of all alike."""
_OPTIONS = (
    *(
        "norm",
        "radius",
        "universal",
        "method",
        "steps",
        "epochs",
        "images",
        "fit_images",
        "shown",
        "split",
        "explainers",
        "seed",
    ),
)


@dataclass(frozen=True)
class _Asked:
    """What is asked for, of all models alike."""

    norm: Norm
    radius: float
    universal: float
    method: Method
    steps: int
    epochs: int
    images: int
    fit_images: int
    shown: int
    seed: int


def show_fooling(runs: Sequence[str], changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Change images so that models err; yield lines on it for a person. What is done by Ctrl-C is on disk.

    Args:
        runs: RUNs of the command line, or ``package.module:make_model`` of networks of anybody's, for the same data.
        changes: ``norm=`` linf or l2, ``radius=`` of single images and ``universal=`` of all alike (0 leaves that
            out), such as 4/255; ``steps=`` of PGD, ``epochs=`` and ``method=`` (gradient or
            deepfool) of the universal perturbation; ``images=`` of
            ``split=``, ``fit_images=`` training images of the universal one; ``explainers=``, by commas, that are asked
            about ``shown=`` images; ``seed=``; and data and model, see `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default ``fool`` in that of the first run's figures.

    Raises:
        ConfigError: an unknown option or name, or models of other data.
        UnsupportedError: a model of one logit, or without gradients.
    """
    from ibd.app.explain import choose

    given = [given_over_data("fool", run, changes, _OPTIONS) for run in runs]
    names = _names(runs)
    _check_same(given, names)
    said = given[0].options
    asked = _asked(said)
    split = one_split("fool", said.get("split", "test"))
    if asked.universal and split == fitted_split(given[0].data):
        raise ConfigError(f"fool: split={split}: the universal perturbation is made of its images; add universal=0")
    explainers = choose(said.get("explainers"))
    folder = Path(out) if out else given[0].folder / "fool"
    for one, name in zip(given, names, strict=True):
        place = folder / name if len(given) > 1 else folder
        loader = some_images(one.data, split, asked.images, asked.seed)
        yield from _steady(name, one, loader, asked, place)
        yield from _seen(one, loader, asked, explainers, place)
    if not asked.universal:
        return
    made: list[Universal] = []
    for one, name in zip(given, names, strict=True):
        fit = some_images(one.data, fitted_split(one.data), asked.fit_images, asked.seed)
        made.append(
            universal_perturbation(
                one.model, fit, asked.universal, asked.norm, asked.method, epochs=asked.epochs, seed=asked.seed
            )
        )
        rate = f"{max(made[-1].rates):.0%} of the {made[-1].images} images that it was made of"
        yield f"{name}: one change of all images, up to {_size(asked.universal, asked.norm)}, fools on {rate}"
    unseen = some_images(given[0].data, split, max(asked.images, asked.fit_images), asked.seed)
    table = transfer_table([one.model for one in given], names, made, unseen, asked.seed)
    yield f"share (%) of {table.images} unseen images whose prediction it changes:"
    yield from table.table().splitlines()
    for row, name in enumerate(names):
        if table.rates[row, row] <= table.rates[-1, row]:
            yield f"{name}: fooled no more than by noise as large: more fit_images=, epochs= or universal= is needed"
    yield f"figure: {save_figure(transfer_figure(table, made), folder / 'universal.png')}"
    yield f"table:  {_save_transfer(table, folder / 'universal.csv')}"


def _steady(name: str, given: Given, loader: Any, asked: _Asked, folder: Path) -> Iterator[str]:
    """Measure the accuracy that is left, and say so."""
    radii = [share * asked.radius for share in (0.5, 1, 2)]
    found = robustness(given.model, loader, radii, asked.norm, asked.steps, asked.seed)
    yield f"{name}: {found.clean:.1%} of {found.images} images right; under changes ({_named(asked.norm)}):"
    yield from found.table().splitlines()
    if (half := found.within(0.5)) is not None:
        found_for = f"{len(found.smallest)} of {found.images}"
        yield f"half of the predictions change within {_size(half, asked.norm)} (DeepFool; {found_for})"
    yield f"({found.cost.forwards:.0f} passes forth and {found.cost.backwards:.0f} back)"
    yield f"table:  {_save_robustness(found, folder / 'robustness.csv')}"


def _seen(given: Given, loader: Any, asked: _Asked, explainers: Sequence[Any], folder: Path) -> Iterator[str]:
    """Draw fooled images, and what explainers say of them."""
    fooled = _fooled(given, loader, asked)
    classes = given.data.spec.class_names
    yield f"{fooled.rate:.0%} of {len(fooled.clean)} predictions change within {_size(asked.radius, asked.norm)}"
    yield f"figure: {save_figure(fooled_figure(fooled, classes), folder / 'fooled.png')}"
    try:
        seen = explanations_fooled(given.model, fooled, explainers, asked.seed)
    except UnsupportedError as error:
        yield f"left out: explanations: {error}"
        return
    yield from (f"left out: {why}" for why in seen.left_out)
    yield "rank correlation of maps: of the first class with noise as large, and fooled; as shown; of the two classes"
    yield from seen.table().splitlines()
    picture = explanations_fooled_figure(fooled, seen, classes)
    yield f"figure: {save_figure(picture, folder / 'explanations.png')}"
    yield f"table:  {_save_seen(seen, folder / 'explanations.csv')}"


def _fooled(given: Given, loader: Any, asked: _Asked) -> Fooled:
    """Return the first images, changed within the budget."""
    parts: list[Tensor] = []
    for batch in loader:
        parts.append(batch.image)
        if sum(map(len, parts)) >= asked.shown:
            break
    image = torch.cat(parts)[: asked.shown].to(device_of(given.model))
    return pgd(given.model, image, asked.radius, asked.norm, steps=2 * asked.steps, seed=asked.seed)


def _asked(said: dict[str, str]) -> _Asked:
    norm = said.get("norm", "linf")
    if norm not in ("linf", "l2"):
        raise ConfigError(f"fool: norm: '{norm}' is not one of linf, l2")
    if norm == "l2" and not {"radius", "universal"} <= said.keys():
        raise ConfigError("fool: norm=l2 needs radius= and universal= (0 leaves the universal perturbation out)")
    return _Asked(
        cast(Norm, norm),
        _fraction("radius", said, RADIUS),
        _fraction("universal", said, UNIVERSAL, least=0),
        cast(Method, said.get("method", "gradient")),
        number("fool", said, "steps", 10),
        number("fool", said, "epochs", 10),
        number("fool", said, "images", IMAGES),
        number("fool", said, "fit_images", FIT_IMAGES),
        number("fool", said, "shown", SHOWN),
        number("fool", said, "seed", 0, least=0),
    )


def _fraction(key: str, said: dict[str, str], default: float, least: float | None = None) -> float:
    """Return a size, which may be written as a fraction."""
    text = said.get(key, str(default))
    above, line, below = text.partition("/")
    try:
        value = float(above) / (float(below) if line else 1.0)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not (value > 0 or value == least) or value == float("inf"):
        raise ConfigError(f"fool: {key}: '{text}' given, a size above 0 such as 0.02 or 4/255 is needed")
    return value


def _names(runs: Sequence[str]) -> list[str]:
    """Return a name for each model, no two alike."""
    names = [short_name(run) if is_place(run) else find_run(run).resolve().parent.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} {1 + names[:i].count(name)}" for i, name in enumerate(names)]


def _check_same(given: Sequence[Given], names: Sequence[str]) -> None:
    first = given[0].data.spec
    for one, name in zip(given[1:], names[1:], strict=True):
        spec = one.data.spec
        if (spec.class_names, spec.image_size) != (first.class_names, first.image_size):
            raise ConfigError(f"fool: '{name}' is for other classes or another image size than '{names[0]}'")


def _size(size: float, norm: Norm) -> str:
    return f"{255 * size:.3g}/255 in L-infinity" if norm == "linf" else f"{size:.3g} in L2"


def _named(norm: Norm) -> str:
    return "L-infinity" if norm == "linf" else "L2"


def _save_robustness(found: Robustness, path: Path) -> Path:
    rows = [
        [found.norm, f"{radius:.6g}", *(f"{value:.4f}" for value in (found.clean, *row))]
        for radius, row in zip(found.radii, found.accuracy.tolist(), strict=True)
    ]
    return _save(path, ["norm", "radius", "clean", *CHANGES], rows)


def _save_seen(seen: Seen, path: Path) -> Path:
    means = seen.correlation.nanmean(2).tolist()
    rows = [[name, *(f"{value:.4f}" for value in row)] for name, row in zip(seen.names, means, strict=True)]
    return _save(path, ["explainer", *COLUMNS], rows)


def _save_transfer(table: Transfer, path: Path) -> Path:
    rates = zip([*table.names, "noise"], table.rates.tolist(), strict=True)
    return _save(path, ["made_for", *table.names], [[name, *(f"{value:.4f}" for value in row)] for name, row in rates])


def _save(path: Path, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heads, *rows])
    return path
