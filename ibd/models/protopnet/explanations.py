"""Explanations of prototype networks as data: which prototypes carried a class, by how much, and where.

Nothing is drawn here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ibd.backbones.receptive_field import ReceptiveField
from ibd.data.base import Split
from ibd.data.dataset import ImageDataset
from ibd.distributed import progress
from ibd.errors import CheckpointError, ConfigError, UnsupportedError, did_you_mean
from ibd.explain.boxes import Box, as_box, percentile_boxes, relative_boxes
from ibd.models.inputs import Images
from ibd.models.lightning import InterpretableModule
from ibd.models.prediction import Prediction
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.protopnet.provenance import Source
from ibd.models.trained import TrainedModel
from ibd.types import Batch


@dataclass(frozen=True)
class PrototypeRow:
    """What one prototype adds to one class of one image.

    Attributes:
        image: name of the image.
        class_name: the class that is explained.
        prototype: index of the prototype.
        owner: the class that the prototype belongs to.
        similarity: similarity of the most similar patch of the image, with what a person has set.
        weight: weight of the prototype to the class.
        contribution: similarity times weight; over all prototypes these add up to the logit.
        box: (top, left, bottom, right) in pixels around the most similar place, the last two exclusive.
        peak: row and column of the most similar patch in the feature map.
        source: the training patch that the prototype is, with ``sample``, ``index``, ``row`` and ``column``; None if it
            is none.
    """

    image: str
    class_name: str
    prototype: int
    owner: str
    similarity: float
    weight: float
    contribution: float
    box: Box
    peak: tuple[int, int]
    source: Source | None = None


@dataclass(frozen=True)
class NearestPatch:
    """A patch that is among the most similar of a split to a prototype.

    Attributes:
        prototype: index of the prototype.
        owner: the class that the prototype belongs to.
        split: split of the images.
        rank: 0 for the nearest.
        distance: distance of the patch from the prototype.
        similarity: similarity of the two.
        sample: name of the image.
        index: index of the image in its split.
        row: row of the patch in the feature map.
        column: column of the patch.
        class_name: class name of the image.
    """

    prototype: int
    owner: str
    split: Split
    rank: int
    distance: float
    similarity: float
    sample: str
    index: int
    row: int
    column: int
    class_name: str


def require_prototypes(model: nn.Module) -> ProtoPNet:
    """Return a model, whose prototypes are training patches.

    Raises:
        UnsupportedError: it has none that are.
    """
    if not isinstance(model, ProtoPNet):
        kinds = model.network.unit_plural if isinstance(model, InterpretableModule) else "other"
        raise UnsupportedError(
            f"a {type(model).__name__} has no prototypes that are training patches (its units are {kinds}); a "
            "ProtoPNet has"
        )
    return model


def sources_of(model: ProtoPNet) -> dict[int, Source]:
    """Return prototype -> the training patch that it is; empty where the prototypes are no patches (yet, or now)."""
    try:
        return {source.prototype: source for source in model.sources()}
    except CheckpointError:  # trained on since the projection
        return {}


def local_explanation(
    model: ProtoPNet,
    images: Images | Prediction,
    classes: Sequence[str] | None = None,
    top: int = 0,
    share: float = 0.5,
    names: Sequence[str] | None = None,
    percentile: float | None = None,
) -> list[PrototypeRow]:
    """Return what each prototype adds to a class of each image, the largest contributions first.

    Args:
        model: a prototype network's module.
        images: images as ``model.predict`` takes them, or the prediction that it returned, interventions included.
        classes: one class name for each image; by default the predicted ones.
        top: number of prototypes of each image; 0 returns all, whose contributions add up to the logit.
        share: share of a similarity map's range; see `ibd.explain.boxes.relative_boxes`.
        percentile: percentile (95) for the published box around all pixels from it on, in place of `share`.
        names: names of the images.

    Raises:
        UnsupportedError: the model has no prototypes.
        ConfigError: an unknown class, or not one for each image.
    """
    require_prototypes(model)
    with torch.no_grad():
        prediction = images if isinstance(images, Prediction) else model.predict(images)
        network, maps = model.network, prediction.units.maps
        label = _labels(prediction, classes)
        weight = network.weight()[label]  # (B, P)
        scores = prediction.units.scores.to(weight.dtype)
        contribution = scores * weight
        order = contribution.abs().argsort(dim=1, descending=True, stable=True)[:, : top or None]
        place = torch.arange(len(order), device=order.device).unsqueeze(1)
        shown = maps[place, order]  # (B, top, h, w)
        boxes, peaks, _ = _places(model, shown.flatten(0, 1), share, percentile)
        owners, sources = network.classes.tolist(), sources_of(model)
    titles = prediction.titles if names is None else names
    values = torch.stack([values[place, order] for values in (scores, weight, contribution)], 2).tolist()
    names_of = network.class_names
    rows = []
    for image, units in enumerate(order.tolist()):
        for rank, unit in enumerate(units):
            similarity, to_class, added = values[image][rank]
            rows.append(
                PrototypeRow(
                    image=titles[image],
                    class_name=names_of[int(label[image])],
                    prototype=unit,
                    owner=names_of[owners[unit]],
                    similarity=similarity,
                    weight=to_class,
                    contribution=added,
                    box=as_box(boxes[image * len(units) + rank]),
                    peak=peaks[image * len(units) + rank],
                    source=sources.get(unit),
                )
            )
    return rows


def local_explanations(
    model: ProtoPNet,
    batches: Iterable[Batch],
    top: int = 10,
    dataset: ImageDataset | None = None,
) -> Iterator[list[PrototypeRow]]:
    """Yield `local_explanation` of the predicted classes, batch by batch: memory does not grow with the images.

    Args:
        model: a prototype network's module.
        batches: batches of images, such as ``data.loader("test")``; padding is left out.
        top: prototypes of each image; 0 returns all.
        dataset: dataset that names the images by its ``sample_id``; without it they are called ``image 17``.

    Raises:
        UnsupportedError: the model has no prototypes.
    """
    require_prototypes(model)
    for batch in progress(batches, "explaining images"):
        kept = batch.select(batch.index >= 0)
        if len(kept):
            index = kept.index.tolist()
            names = [f"image {i}" if dataset is None else str(dataset.sample_id(i)) for i in index]
            yield local_explanation(model, kept.image, top=top, names=names)


_NESTED: Mapping[str, tuple[str, ...]] = {
    "box": ("top", "left", "bottom", "right"),
    "peak": ("row", "column"),
    "source": ("source", "source_row", "source_column"),
}


def to_csv(rows: Iterable[PrototypeRow], path: str | Path) -> int:
    """Write rows as a table with a head, one after the other; return how many.

    Args:
        rows: rows, also from a generator: ``itertools.chain.from_iterable(local_explanations(...))``.
        path: path of the file.
    """
    head = [column for field in fields(PrototypeRow) for column in _NESTED.get(field.name, (field.name,))]
    count = 0
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            origin = ("", "", "") if row.source is None else (row.source.sample, row.source.row, row.source.column)
            numbers = [f"{value:.6g}" for value in (row.similarity, row.weight, row.contribution)]
            names = [row.image, row.class_name, row.prototype, row.owner]
            writer.writerow([*names, *numbers, *row.box, *row.peak, *origin])
            count += 1
    return count


class Place(NamedTuple):
    """Where in an image a prototype was found."""

    box: Box
    """Around the peak."""
    peak: tuple[int, int]
    """Row and column of the most similar patch in the feature map."""
    center: tuple[float, float]
    """(y, x) of the middle of that patch in pixels, where pixel i spans i .. i + 1."""


@torch.no_grad()
def find_places(
    model: TrainedModel,
    images: Tensor,
    prototypes: Sequence[int],
    share: float = 0.5,
    batch_size: int = 32,
    percentile: float | None = None,
) -> list[Place]:
    """Return where one prototype is in each image, by that image's own similarity map, which is computed now.

    Args:
        model: a model whose network has prototypes.
        images: (N, 3, H, W) in [0, 1].
        prototypes: N indices, one for each image.
        share: share of a similarity map's range; see `ibd.explain.boxes.relative_boxes`.
        percentile: percentile (95) for the published box around all pixels from it on, in place of `share`.
        batch_size: images to compute at a time.
    """
    places: list[Place] = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        maps = model.predict(images[part]).units.maps
        unit = torch.tensor(list(prototypes[part]), device=maps.device)
        chosen = maps[torch.arange(len(unit), device=maps.device), unit]
        places += places_of(model, chosen, share, percentile)
    return places


def places_of(model: TrainedModel, maps: Tensor, share: float = 0.5, percentile: float | None = None) -> list[Place]:
    """Return where the most similar patch of each of (N, h, w) similarity maps is; see `find_places`."""
    boxes, peaks, centers = _places(model, maps, share, percentile)
    return [Place(as_box(box), peak, middle) for box, peak, middle in zip(boxes, peaks, centers, strict=True)]


def _places(
    model: TrainedModel, maps: Tensor, share: float, percentile: float | None
) -> tuple[Tensor, list[tuple[int, int]], list[tuple[float, float]]]:
    """Return box, peak and its center of each of (N, h, w) maps."""
    size, field = model.spec.image_size, patch_field(model)
    peaks = [divmod(place, maps.shape[2]) for place in maps.flatten(1).argmax(1).tolist()]
    centers = [patch_center(model, peak, maps.shape[1:]) for peak in peaks]
    if percentile is not None:
        return percentile_boxes(maps, size, percentile), peaks, centers
    return relative_boxes(maps, size, share, field, torch.tensor(centers).view(-1, 2)), peaks, centers


def patch_field(model: TrainedModel) -> ReceptiveField | None:
    """Return what each patch that is compared with prototypes sees of the image; None where that cannot be told.

    Args:
        model: a model whose network has prototypes.
    """
    return model.network.receptive_field(model.spec.image_size)


def patch_center(model: TrainedModel, peak: tuple[int, int], grid: Sequence[int]) -> tuple[float, float]:
    """Return the (y, x) in pixels of the middle of a patch, in the image also where its receptive field is at the edge.

    Args:
        model: a model whose network has prototypes.
        peak: row and column of the patch.
        grid: numbers of patches along both sides.
    """
    field, size = patch_field(model), model.spec.image_size
    middle = [(place + 0.5) * s / g for place, s, g in zip(peak, size, grid, strict=True)]
    y, x = middle if field is None else field.center(*peak)
    return min(max(y, 0.5), size[0] - 0.5), min(max(x, 0.5), size[1] - 0.5)


def _labels(prediction: Prediction, classes: Sequence[str] | None) -> Tensor:
    """Return the (B,) classes to explain."""
    if classes is None:
        return prediction.labels
    known = prediction.network.class_names
    if len(classes) != len(prediction):
        raise ConfigError(f"{len(classes)} classes given for {len(prediction)} images: one for each is needed")
    for name in classes:
        if name not in known:
            raise ConfigError(f"unknown class '{name}'.{did_you_mean(name, known)}")
    return torch.tensor([known.index(name) for name in classes], device=prediction.logits.device)
