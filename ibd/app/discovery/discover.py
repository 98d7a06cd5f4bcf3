"""Finding the concepts of a layer and all that is told of them; `ibd.discover`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ibd.app.discovery import evidence, features
from ibd.app.discovery.files import write
from ibd.app.discovery.found import DIRECTIONS, NAMES, Discovery, Tried
from ibd.app.discovery.naming import read_names
from ibd.app.discovery.options import DiscoverOptions
from ibd.app.discovery.scoring import given_texts, scored_names
from ibd.app.discovery.subject import Subject, find_subject
from ibd.data.features import FeatureFile
from ibd.data.selection import Crops
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.activations import device_of, visit
from ibd.explain.base import undisturbed
from ibd.explain.directions import Directions
from ibd.explain.discovery.dictionaries import Rows
from ibd.explain.discovery.importance import Importance, class_importance
from ibd.explain.discovery.scorers import find_scorer
from ibd.explain.discovery.stability import Found, most_stable, search_again
from ibd.explain.feature_visualization.maximize import maximize_activation
from ibd.explain.feature_visualization.objectives import Objective


def discover(run: Any, data: Any = None, output: str | Path = "discovered", **options: Any) -> Discovery:
    """Find concepts in a layer's features that nobody labelled, and write a page with a sheet of each.

    Args:
        run: a run folder or checkpoint; a registered name of a backbone, or ``timm/NAME``, with ``weights``;
            ``package.module:make`` of a network of anybody's; or a model itself, of (B, 3, H, W) images in [0, 1].
        data: images: a folder, a config file, or a data module; by default those of a run.
        output: folder of the page. What was found there by the same search is not searched again, so that names that a
            person writes into its ``names.csv`` come onto the page in seconds.
        options: options of the search and the page, see `ibd.app.discovery.options.DiscoverOptions`.

    Raises:
        ConfigError: an option that there is not, or that cannot be; no such model, layer or class.
        DataError: no images, too few of them, or tables that cannot be read.
        UnsupportedError: the layer puts out no map, or what the method cannot take apart.
    """
    known = DiscoverOptions.__dataclass_fields__
    for key in options:
        if key not in known:
            raise ConfigError(f"discover: there is no option '{key}'.{did_you_mean(key, known)}")
    asked, folder = DiscoverOptions(**options), Path(output)
    subject = find_subject(run, data, asked)
    found = _discovered(subject, asked, folder)
    write(found, folder)
    return found


def _discovered(subject: Subject, options: DiscoverOptions, folder: Path) -> Discovery:
    layer, written = subject.layer(options.layer)
    scoring = None if options.scorer is None else (find_scorer(options.scorer), given_texts(options.texts))
    kept = features.kept_features(subject.model, layer, subject.images, subject.data, options.cache)
    directions = _searched(subject, options, folder, kept, layer, written)
    names = _names(options, folder, directions)
    device = device_of(subject.model)
    activations = features.read_activations(kept, directions, device)
    peaks = evidence.find_peaks(activations)
    half = evidence.halves(subject.images)
    label_names, truth = evidence.labels_of(subject, options.compare)
    labels = evidence.label_overlap(peaks, truth, label_names, half) if label_names else None
    masks = evidence.mask_overlap(subject, activations, half)
    patches = evidence.strongest_patches(peaks, directions.names, subject.data.spec.image_size, options.shown)
    proposed = evidence.proposals(len(directions), masks, labels)
    if scoring is not None:
        proposed = scored_names(str(options.scorer), *scoring, patches, subject.images, proposed)
    importance, note = _importance(subject, options, layer, directions) if subject.classes else (None, subject.why)
    return Discovery(
        directions=directions.named(tuple(names.get(name, name) for name in directions.names)),
        tried=[Tried(**{key: _number(value) for key, value in row.items()}) for row in directions.details["tried"]],
        again=torch.tensor([_number(value) for value in directions.details["again"]]),
        subject=subject,
        options=options,
        activations=activations,
        peaks=peaks,
        patches=patches,
        classes=evidence.class_overlap(peaks, subject.images.labels, len(subject.data.spec.class_names)),
        importance=importance,
        note=note,
        labels=labels,
        masks=masks,
        proposals=proposed,
        made=_made(subject, layer, directions) if options.visualize else None,
    )


def _searched(
    subject: Subject, options: DiscoverOptions, folder: Path, kept: FeatureFile, layer: str, written: str
) -> Directions:
    """Return the concepts: those in the folder, if the same search found them, else by a search."""
    key = _key(options, kept)
    if (folder / DIRECTIONS).is_file():
        before = Directions.load(folder / DIRECTIONS)
        if before.details.get("key") == key:
            return before.named(tuple(before.details["called"]))
        if (folder / NAMES).is_file() and read_names(folder / NAMES, before.details.get("called", before.names)):
            raise ConfigError(f"'{folder}' holds other concepts, which a person has named: write to another folder")
    rows, image = _rows(subject, options, kept, layer)
    device = device_of(subject.model)
    try:
        tried = [search_again(rows, image, options.search(k), written, options.again, device) for k in options.counts]
    except UnsupportedError as error:
        if options.method != "nmf":
            raise
        raise UnsupportedError(f"{error}.{_without_negatives(subject)}") from None
    best = most_stable(tried) if len(tried) > 1 else tried[0]
    details = {
        **best.directions.details,
        "key": key,
        "tried": [_row(found) for found in tried],
        "again": [None if value != value else value for value in best.again.tolist()],
        "called": list(best.directions.names),
        "model": subject.name,
    }
    return replace(best.directions, details=details)


def _row(found: Found) -> dict[str, Any]:
    plain = {name: getattr(found, name) for name in ("k", "stability", "explained", "unseen", "active")}
    return {name: None if value != value else value for name, value in plain.items()}  # JSON knows no NaN


def _number(value: Any) -> Any:
    return torch.nan if value is None else value


def _rows(subject: Subject, options: DiscoverOptions, kept: FeatureFile, layer: str) -> tuple[Rows, Any]:
    """Return the vectors of features that concepts are learned from, and the image of each."""
    if options.pieces == "crops":
        crops = Crops(subject.images, options.cells, options.crop, options.seed)
        pooled = features.kept_features(subject.model, layer, crops, subject.data, options.cache, pooled=True)
        rows, piece = features.drawn_cells(pooled, 1, options.seed)
        return rows, piece // options.cells
    allowed = None
    if options.within is not None:
        parent, concept = Directions.load(options.within), options.concept or ""
        if concept not in parent.names:
            raise ConfigError(f"concept: '{options.within}' has no '{concept}'.{did_you_mean(concept, parent.names)}")
        above = features.kept_features(
            subject.model, subject.layer(parent.layer)[0], subject.images, subject.data, options.cache
        )
        found = features.read_activations(above, parent, device_of(subject.model))
        one = found[:, parent.names.index(concept)]
        allowed = features.strong_cells(one, (kept.shape[2], kept.shape[3]), options.share)
    return features.drawn_cells(kept, options.cells, options.seed, allowed)


_SEARCHING = (
    *("method", "layer", "classes", "split", "images", "cells", "pieces", "crop", "again", "active", "sparsity"),
    *("steps", "within", "concept", "share", "seed"),
)
"""The options that decide which concepts are found."""


def _key(options: DiscoverOptions, kept: FeatureFile) -> str:
    """Return a name for a search: another one where the features or an option differ that decides what is found."""
    chosen = {name: getattr(options, name) for name in _SEARCHING}
    parent = "" if options.within is None else Directions.load(options.within).vectors.tolist()
    text = json.dumps([kept.path.parent.name, options.counts, chosen, parent], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _names(options: DiscoverOptions, folder: Path, directions: Directions) -> dict[str, str]:
    """Return the names that a person gave to concepts."""
    if options.names is not None:
        return read_names(Path(options.names), directions.names)
    own = folder / NAMES
    same = (folder / DIRECTIONS).is_file() and own.is_file()
    same = same and Directions.load(folder / DIRECTIONS).details.get("key") == directions.details["key"]
    return read_names(own, directions.names) if same else {}


def _importance(
    subject: Subject, options: DiscoverOptions, layer: str, directions: Directions
) -> tuple[Importance | None, str]:
    """Return what the concepts are worth to the classes; None, and why, where that cannot be told."""
    images, count = subject.images, len(subject.data.spec.class_names)
    device = device_of(subject.model)
    of_class = []
    for label in range(count):
        members = (images.labels == label).nonzero().flatten().tolist()[: options.class_images]
        empty = torch.empty(0, 3, *subject.data.spec.image_size)
        of_class.append((torch.stack([images[i].image for i in members]) if members else empty).to(device))
    try:
        return class_importance(subject.model, of_class, layer, directions, options.designs, options.seed), ""
    except UnsupportedError as error:
        return None, str(error)


def _made(subject: Subject, layer: str, directions: Directions) -> Tensor:
    """Return an image for each concept that excites it as much as can be."""
    objective = Objective.direction(layer, directions.vectors.to(device_of(subject.model)), cosine_power=1.0)
    size = min(min(subject.data.spec.image_size), 128)
    return maximize_activation(subject.model, objective, size, batch=len(directions), steps=128).image.cpu()


def _without_negatives(subject: Subject) -> str:
    """Return a sentence with layers whose maps hold no negative number, the last first."""
    found: dict[str, bool] = {}

    def note(name: str, output: Tensor) -> None:
        if output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            found.pop(name, None)
            found[name] = bool((output >= 0).all())

    with undisturbed(subject.model):
        visit(subject.model, subject.first(4), note)
    names = [name for name, fits in reversed(found.items()) if fits][:4]
    return f" Layers that would do, the last first: {', '.join(names)}" if names else ""
