"""The page of a discovery: a sheet of each concept, handed to the template."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch

from ibd.app.discovery.found import Discovery
from ibd.comparison.report.environment import page_environment
from ibd.comparison.report.pictures import Rgb, data_uri
from ibd.explain.render import overlay

_MAPS = 4
"""Whole images of each concept, with its map on them."""
_PATCH = 112
_CLASSES = 12
"""Classes that a sheet lists, those to which a concept is worth most."""


@dataclass(frozen=True)
class Picture:
    """A picture within the page, and what it shows."""

    address: str
    says: str


@dataclass(frozen=True)
class Bar:
    """A number with its name, and its length, as a share of the longest."""

    name: str
    value: float
    share: float


@dataclass(frozen=True)
class Sheet:
    """All that the page shows of a concept."""

    number: int
    name: str
    called: str
    again: float
    patches: list[Picture]
    maps: list[Picture]
    made: Picture | None
    worth: list[Bar]
    classes: list[Bar]
    overlaps: list[tuple[str, str]]
    proposals: list[tuple[str, str]]


def render(found: Discovery) -> str:
    """Return the page as HTML; it holds its pictures, and needs no other file."""
    environment = page_environment(
        "ibd.app.discovery", number=_text, percent=lambda value: "-" if value != value else f"{100 * value:.0f} %"
    )
    return environment.get_template("index.html.j2").render(
        style=files("ibd.app.discovery").joinpath("templates", "style.css").read_text(encoding="utf-8"),
        found=found,
        sheets=_sheets(found),
        place=found.directions.place,
        images=len(found.subject.images),
        masks=found.masks.best() if found.masks else [],
        labels=found.labels.best() if found.labels else [],
        names=found.directions.names,
        methods=METHODS,
    )


METHODS = {
    "nmf": "parts of which the features are sums (non-negative matrix factorization)",
    "sae": "units of a sparse autoencoder",
    "pca": "principal components, of which the sheet shows the positive end",
    "kmeans": "mean directions of clusters, of which the nearest is active at a place",
}


def _sheets(found: Discovery) -> list[Sheet]:
    patches = found.patches.pictures(found.subject.images, _PATCH)
    return [_sheet(found, concept, patches[concept]) for concept in range(len(found.directions))]


def _sheet(found: Discovery, concept: int, patches: torch.Tensor) -> Sheet:
    name = found.directions.names[concept]
    images = found.subject.images
    shown = [rank for rank, image in enumerate(found.patches.image[concept].tolist()) if image >= 0]
    pictures = []
    for rank in shown:
        where = images.sample_id(int(found.patches.image[concept, rank]))
        score = float(found.patches.score[concept, rank])
        pictures.append(Picture(data_uri(_rgb(patches[rank])), f"{where}, activation {score:.3g}"))
    made = None
    if found.made is not None:
        made = Picture(data_uri(_rgb(found.made[concept])), f"image made to excite {name}")
    return Sheet(
        number=concept + 1,
        name=name,
        called=found.directions.details["called"][concept],
        again=float(found.again[concept]),
        patches=pictures,
        maps=_maps(found, concept, shown[:_MAPS]),
        made=made,
        worth=_bars(found, found.importance.values[concept] if found.importance else torch.empty(0)),
        classes=_bars(found, found.classes[concept]),
        overlaps=_overlaps(found, concept),
        proposals=[(proposal.name, proposal.because) for proposal in found.proposals[concept]],
    )


def _maps(found: Discovery, concept: int, ranks: list[int]) -> list[Picture]:
    """Return the whole images in which a concept is strongest, its map on them, all in one scale."""
    numbers = [int(found.patches.image[concept, rank]) for rank in ranks]
    maps = [torch.from_numpy(np.array(found.activations[number, concept])) for number in numbers]
    strongest = max((float(heat.abs().max()) for heat in maps), default=0.0)
    pictures = []
    for number, heat in zip(numbers, maps, strict=True):
        drawn = overlay(found.subject.images[number].image, heat, scale=strongest or 1.0)
        pictures.append(Picture(data_uri(drawn), f"where it is in {found.subject.images.sample_id(number)}"))
    return pictures


def _bars(found: Discovery, values: torch.Tensor) -> list[Bar]:
    """Return the classes with the highest values, the largest first."""
    known = [(float(value), name) for value, name in zip(values, found.subject.data.spec.class_names, strict=False)]
    known = sorted([pair for pair in known if pair[0] == pair[0]], key=lambda pair: -pair[0])
    longest = max((abs(value) for value, _ in known), default=0.0) or 1.0
    return [Bar(name, value, abs(value) / longest) for value, name in known[:_CLASSES]]


def _overlaps(found: Discovery, concept: int) -> list[tuple[str, str]]:
    """Return the mask and the label that a concept is nearest to, in words."""
    listed = []
    for what, overlap in (("IoU with the masks of", found.masks), ("AUROC for", found.labels)):
        near = None if overlap is None else overlap.nearest(concept)
        if near is not None:
            listed.append((f"{what} {near[0]}", f"{near[1]:.2f} (chance {near[2]:.2f})"))
    return listed


def _rgb(image: torch.Tensor) -> Rgb:
    picture: Rgb = image.permute(1, 2, 0).float().numpy()
    return picture


def _text(value: float) -> str:
    return "-" if value != value else f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
