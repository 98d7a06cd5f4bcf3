"""``ibd ablate``: the accuracy without the relevant channels of layers, and what these channels cover."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ibd.app.over_data import Given, Masked, given_over_data, masked_images, named, number, one_split
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split, some_images
from ibd.data.base import Split
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import device_of
from ibd.explain.base import undisturbed
from ibd.explain.layer_ablation import UnitAblation, channel_relevance, unit_ablation
from ibd.explain.layer_coverage import UnitCoverage, unit_coverage
from ibd.explain.layer_curves import unit_ablation_figure, unit_coverage_figure
from ibd.explain.layer_features import feature_layer, layer_reader

FIT_IMAGES, IMAGES, MASKED = 512, 256, 128
"""Images that relevance is read from, that channels are taken out for, and whose masks are looked at."""
_OPTIONS = ("layers", "method", "orders", "replacement", "counts", "draws", "fit_images", "images", "split", "seed")


def show_ablation(run: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Rank the channels of layers, take them out, and look what they cover; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``layers=`` by commas, ``method=`` of the relevance, ``orders=`` class (each image goes by its own
            class's) or all, ``replacement=`` zero or mean, ``counts=`` of channels, ``draws=`` of random orders,
            ``fit_images=``, ``images=`` of ``split=``, ``seed=``; and data and model, see
            `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default that of the run's figures.

    Raises:
        ConfigError: an unknown option or layer.
        UnsupportedError: a layer that runs several times, or a method that gives no number for every channel.
    """
    given = given_over_data("ablate", run, changes, _OPTIONS)
    folder, said = Path(out) if out else given.folder, given.options
    seed, counts, orders = number("ablate", said, "seed", 0, least=0), _counts(said), said.get("orders", "class")
    split, draws = one_split("ablate", said.get("split", "test")), number("ablate", said, "draws", 5, least=2)
    if orders not in _WORDS:
        raise ConfigError(f"ablate: orders: '{orders}' is not one of {', '.join(_WORDS)}")
    fitted = some_images(given.data, fitted_split(given.data), number("ablate", said, "fit_images", FIT_IMAGES), seed)
    images = some_images(given.data, split, number("ablate", said, "images", IMAGES), seed)
    first = next(iter(fitted)).image[:1].to(device_of(given.model))
    layers = [feature_layer(given.model, name, first) for name in named(said, "layers") or [""]]
    masks = _masks(given, split, seed)
    curves, covered = list[UnitAblation](), list[UnitCoverage]()
    for layer in layers:
        relevance = _relevance(given, fitted, layer, said.get("method", "gradient_input"))
        scores = relevance if orders == "class" else relevance.mean(0)
        replacement = cast(Any, said.get("replacement", "zero"))
        curves.append(unit_ablation(given.model, scores, images, layer, counts, draws, replacement, seed))
        yield f"{layer}: accuracy without its channels, by their relevance to {_WORDS[orders]}"
        yield from str(curves[-1]).splitlines()
        if masks is not None and _is_map(given, layer, masks[1][0][0]):
            covered.append(unit_coverage(given.model, relevance.amax(0), masks[1], masks[0], layer))
            yield f"{layer}: semantic coverage of its channels, by their largest relevance to any class"
            yield from str(covered[-1]).splitlines()
        yield from _written(curves, covered, folder)  # after each layer: Ctrl-C leaves what is done


_WORDS = {"class": "the image's own class", "all": "all classes"}


def _relevance(given: Given, images: Iterable[object], layer: str, method: str) -> Tensor:
    """Return the (C, D) relevance of channels; to a class without images that is the mean of the others."""
    found = channel_relevance(given.model, images, layer, len(given.data.spec.class_names), method)
    return found.where(~found.isnan(), found.nanmean(0))


def _written(curves: Sequence[UnitAblation], covered: Sequence[UnitCoverage], folder: Path) -> Iterator[str]:
    """Write what is known so far."""
    yield f"table:  {_save(curves, folder / 'unit_ablation.csv')}"
    yield f"figure: {save_figure(unit_ablation_figure(curves), folder / 'unit_ablation.png')}"
    if covered:
        yield f"figure: {save_figure(unit_coverage_figure(covered), folder / 'unit_coverage.png')}"


def _counts(said: dict[str, str]) -> list[int] | None:
    """Return how many channels are taken out; None where that is not said."""
    texts = named(said, "counts")
    if texts is not None and not all(text.isdecimal() for text in texts):
        raise ConfigError(f"ablate: counts: '{said['counts']}' given, numbers of channels by commas are needed")
    return None if texts is None else [int(text) for text in texts]


def _masks(given: Given, split: Split, seed: int) -> Masked | None:
    """Return names of masks, and images with them; None where the data has none."""
    try:
        return masked_images(given.data, split, MASKED, seed)
    except UnsupportedError:
        return None


def _is_map(given: Given, layer: str, image: Tensor) -> bool:
    """Return whether a layer puts out a map, which can lie on masks."""
    with undisturbed(given.model), torch.no_grad():
        output = layer_reader(given.model, [layer])(image[:1].to(device_of(given.model)))[layer]
    return output.dim() == 4


def _save(curves: Sequence[UnitAblation], path: Path) -> Path:
    """Write the curves as CSV; return where it is."""
    heads: list[object] = [
        "layer",
        "channels",
        "most_relevant",
        "least_relevant",
        "random",
        "random_low",
        "random_high",
    ]
    rows: list[list[object]] = [heads]
    for found in curves:
        low, high = found.interval()
        values = (found.most, found.least, found.random.mean(0), low, high)
        columns = [[f"{float(value):.6g}" for value in each] for each in values]
        rows += [[found.layer, count, *row] for count, *row in zip(found.counts, *columns, strict=True)]
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path
