"""``ibd dissect``: the options on the command line, the work, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ibd.app.dissection import files
from ibd.app.dissection.page import Sheet, render
from ibd.app.over_data import Given, given_over_data, named, number, one_split, real
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split
from ibd.data.masked import MaskedImages
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.dissection.dissect import default_layers, dissect
from ibd.explain.dissection.figures import histogram_figure, net2vec_figure, units_figure
from ibd.explain.dissection.found import Dissection
from ibd.explain.dissection.net2vec import ConceptWeights, net2vec
from ibd.explain.dissection.pictures import most_telling, unit_pictures
from ibd.metrics.functional.dissection import SHARE

FIT_IMAGES, IMAGES, SHOWN, PICTURES, FILTERS = 1000, 1000, 6, 16, "1,2,3"
"""Images that things are chosen by and scored on, images of a channel, channels of a layer that are drawn, filters."""
_OPTIONS = (
    *("layers", "fit_images", "images", "split", "share", "length", "beam", "shown", "pictures", "net2vec", "filters"),
    "seed",
)
_ROWS = 8
"""Channels of a layer in a figure; the page has more."""


@dataclass(frozen=True)
class _Asked:
    """The images that are asked for, and the options that are numbers."""

    fitted: MaskedImages
    unseen: MaskedImages
    share: float
    length: int
    beam: int
    shown: int
    pictures: int
    filters: list[int]
    seed: int


def show_dissection(run: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Say what each channel detects, write tables and a page; yield lines on it for a person.

    Tables of the channels are there before Net2Vec begins, so that little is lost where it is stopped.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``layers=`` by commas, by ``fit_images=`` training images, scored on ``images=`` of ``split=``;
            ``share=`` of the cells above a threshold, ``length=`` and ``beam=`` of the search for forms, ``shown=``
            images of each of ``pictures=`` channels of a layer, ``net2vec=`` layers by commas, or all, or none (by
            default the last) with ``filters=`` by commas, ``seed=``; and data and model, see
            `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default ``dissection`` in that of the run's figures.

    Raises:
        ConfigError: an unknown option or name.
        UnsupportedError: the data has no masks, or a layer no maps.
    """
    given = given_over_data("dissect", run, changes, _OPTIONS, classes=False)
    asked, folder = _asked(given), Path(out) if out else given.folder / "dissection"
    read = f"{len(asked.fitted)} images to choose by, {len(asked.unseen)} to score on"
    yield f"{read}, masks of {len(asked.fitted.names)} parts and concepts"
    layers = named(given.options, "layers") or default_layers(given.model, asked.fitted)
    segmenting = _segmenting(given.options.get("net2vec", layers[-1]), layers)
    found = dissect(
        given.model,
        asked.fitted,
        asked.unseen,
        layers,
        asked.share,
        asked.length,
        asked.beam,
        asked.shown,
    )
    yield from found.table().splitlines()
    yield from (f"{each.layer}: thresholds are of cells that were drawn" for each in found.layers if not each.exact)
    if found.too_large:
        yield f"too large to be detected with share={asked.share:g}: {', '.join(found.too_large)}"
    yield f"table:  {files.save_units(found, folder / 'units.csv')}"
    yield f"table:  {files.save_iou(found, folder / 'iou.csv')}"
    yield f"figure: {save_figure(histogram_figure(found), folder / 'concepts_by_layer.png')}"
    sheets = list[Sheet]()
    for layer in found.layers:
        units = most_telling(found.of_layer(layer.layer), asked.pictures)
        pictures = unit_pictures(given.model, layer, units, asked.unseen)
        sheets += [Sheet(unit, pictures[unit.channel]) for unit in units]
        figure = units_figure(units[:_ROWS], pictures, min(asked.shown, 5))
        yield f"figure: {save_figure(figure, folder / f'units_{layer.layer}.png')}"
    yield f"page:   {_save_page(found, sheets, [], folder)}"
    weights = list[ConceptWeights]()
    for name in segmenting:
        weights.append(net2vec(given.model, found, asked.fitted, asked.unseen, name, asked.filters, seed=asked.seed))
        yield f"segmenting concepts by filters of {name}, IoU"
        yield from weights[-1].table().splitlines()
        yield f"figure: {save_figure(net2vec_figure(weights[-1]), folder / f'net2vec_{name}.png')}"
        yield f"table:  {files.save_weights(weights, folder / 'net2vec.csv')}"
        yield f"page:   {_save_page(found, sheets, weights, folder)}"


def _asked(given: Given) -> _Asked:
    """Return what the options mean.

    Raises:
        ConfigError: one is wrong.
    """
    said = given.options
    seed = number("dissect", said, "seed", 0, least=0)
    split, fitted = one_split("dissect", said.get("split", "test")), fitted_split(given.data)
    few, many = number("dissect", said, "images", IMAGES), number("dissect", said, "fit_images", FIT_IMAGES)
    if split == fitted:  # one half chooses, the other one scores
        first, second = MaskedImages.of(given.data, split, few + many, seed).halves()
    else:
        first = MaskedImages.of(given.data, fitted, many, seed)
        second = MaskedImages.of(given.data, split, few, seed)
    filters = [text.strip() for text in said.get("filters", FILTERS).split(",")]
    if not all(text.isdecimal() and int(text) for text in filters):
        raise ConfigError(f"dissect: filters: '{said['filters']}' given, numbers of channels by commas are needed")
    return _Asked(
        fitted=first,
        unseen=second,
        share=real("dissect", said, "share", SHARE),
        length=number("dissect", said, "length", 3),
        beam=number("dissect", said, "beam", 5),
        shown=number("dissect", said, "shown", SHOWN),
        pictures=number("dissect", said, "pictures", PICTURES),
        filters=[int(text) for text in filters],
        seed=seed,
    )


def _segmenting(text: str, layers: Sequence[str]) -> list[str]:
    """Return the layers whose filters are to segment concepts."""
    if text in ("all", "none"):
        return list(layers) if text == "all" else []
    given = [name.strip() for name in text.split(",")]
    for name in given:
        if name not in layers:
            raise ConfigError(f"dissect: net2vec: '{name}' is none of the layers.{did_you_mean(name, layers)}")
    return given


def _save_page(found: Dissection, sheets: Sequence[Sheet], weights: Sequence[ConceptWeights], folder: Path) -> Path:
    path = folder / "index.html"
    with writing(path):
        path.write_text(render(found, sheets, weights), encoding="utf-8")
    return path
