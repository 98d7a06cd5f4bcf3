"""``ibd ablate``: the accuracy without the relevant channels of layers, and what these channels cover."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ibd.app.over_data import Given, given_over_data, named, number, one_split
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import balanced, fitted_split, some_images
from ibd.comparison.self_consistency.redrawing import chunks
from ibd.data.base import Split
from ibd.data.masked import concept_masks, load_batch
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
    seed, draws = number("ablate", said, "seed", 0, least=0), number("ablate", said, "draws", 5, least=2)
    split = one_split("ablate", said.get("split", "test"))
    orders = said.get("orders", "class")
    if orders not in ("class", "all"):
        raise ConfigError(f"ablate: orders: '{orders}' is not one of class, all")
    fitted = some_images(given.data, fitted_split(given.data), number("ablate", said, "fit_images", FIT_IMAGES), seed)
    layers = _layers(given, said, next(iter(fitted)).image)
    counts = _counts(said)
    images = some_images(given.data, split, number("ablate", said, "images", IMAGES), seed)
    curves, covered = list[UnitAblation](), list[UnitCoverage]()
    masked = _masked(given, split, seed)
    for layer in layers:
        method = said.get("method", "gradient_input")
        by_class = channel_relevance(given.model, fitted, layer, len(given.data.spec.class_names), method)
        every = by_class.nanmean(0)
        scores = by_class.where(~by_class.isnan(), every) if orders == "class" else every
        replacement = cast(Any, said.get("replacement", "zero"))
        curves.append(unit_ablation(given.model, scores, images, layer, counts, draws, replacement, seed))
        yield f"{layer}: accuracy without its channels, by their relevance to {_WORDS[orders]}"
        yield from str(curves[-1]).splitlines()
        if masked is not None and _is_map(given, layer, masked[1]):
            covered.append(
                unit_coverage(given.model, by_class.nan_to_num(-torch.inf).amax(0), masked[1], masked[0], layer)
            )
            yield f"{layer}: semantic coverage of its channels, by their largest relevance to any class"
            yield from str(covered[-1]).splitlines()
        yield f"table:  {_save(curves, folder / 'unit_ablation.csv')}"  # after each layer: Ctrl-C leaves what is done
        yield f"figure: {save_figure(unit_ablation_figure(curves), folder / 'unit_ablation.png')}"
        if covered:
            yield f"figure: {save_figure(unit_coverage_figure(covered), folder / 'unit_coverage.png')}"


_WORDS = {"class": "the image's own class", "all": "all classes"}


def _layers(given: Given, said: dict[str, str], image: Tensor) -> list[str]:
    """Return the names of the layers; by default the backbone."""
    return [feature_layer(given.model, layer, image) for layer in named(said, "layers") or [""]]


def _counts(said: dict[str, str]) -> list[int] | None:
    """Return how many channels are taken out; None where that is not said."""
    texts = named(said, "counts")
    if texts is not None and not all(text.isdecimal() for text in texts):
        raise ConfigError(f"ablate: counts: '{said['counts']}' given, numbers of channels by commas are needed")
    return None if texts is None else [int(text) for text in texts]


def _masked(given: Given, split: Split, seed: int) -> tuple[list[str], list[tuple[Tensor, Tensor]]] | None:
    """Return names of masks, and images with them; None where the data has none."""
    dataset = given.data.dataset(split)
    names, batches = list[str](), list[tuple[Tensor, Tensor]]()
    try:
        for some in chunks(balanced(torch.as_tensor(dataset.labels), MASKED, seed), given.data.batch_size):
            batch = load_batch(dataset, some, masks=True)
            names, masks = concept_masks(batch, dataset, given.data.spec)
            batches.append((batch.image, masks))
    except UnsupportedError:
        return None
    return names, batches


def _is_map(given: Given, layer: str, batches: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Return whether a layer puts out a map, which can lie on masks."""
    with undisturbed(given.model), torch.no_grad():
        output = layer_reader(given.model, [layer])(batches[0][0][:1].to(device_of(given.model)))[layer]
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
