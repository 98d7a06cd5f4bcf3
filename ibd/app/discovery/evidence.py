"""What is known of each discovered concept: where it is strongest, and what it shares with labels and masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.app.discovery.naming import Proposal
from ibd.app.discovery.subject import Subject
from ibd.data.concept_sources import read_concepts
from ibd.data.selection import SelectedImages
from ibd.distributed import progress
from ibd.errors import DataError
from ibd.explain.discovery.dictionaries import Rows
from ibd.explain.discovery.overlap import MaskOverlap, auroc
from ibd.explain.patches import Patches
from ibd.explain.render import upsample

_GRID = 64
"""Side of the maps that are compared with masks, at most."""
_TOGETHER = 32
LABEL, MASK = 0.8, 0.1
"""AUROC and IoU, in images that did not choose, from which on a name is proposed."""
_CLEAR = 1.25
"""How many times chance that must be."""
_WINDOW = (0.25, 0.6)
"""Side of what a patch shows, as a share of the image: three cells, but at least and at most this."""


@dataclass(frozen=True)
class Peaks:
    """Where concepts are strongest in each of N images.

    Attributes:
        score: (N, K) activation there.
        mean: (N, K) mean activation.
        cell: (N, K) flat position in the map.
        shape: (h, w) of the map.
    """

    score: Tensor
    mean: Tensor
    cell: Tensor
    shape: tuple[int, int]


@dataclass(frozen=True)
class Overlap:
    """What K concepts share with T annotations.

    Attributes:
        names: names of the annotations.
        chosen: (K, T) by the half of the images by which a pooling or threshold was chosen.
        value: (K, T) in the other half.
        chance: (T,) what says nothing has.
    """

    names: Sequence[str]
    chosen: Tensor
    value: Tensor
    chance: Tensor

    def best(self) -> list[tuple[str, int, float, float]]:
        """Return, for each annotation, the concept that one half chooses and what it has in the other, and chance."""
        found = []
        for column, name in enumerate(self.names):
            if bool(self.chosen[:, column].isfinite().any()):
                concept = int(self.chosen[:, column].nan_to_num(-1.0).argmax())
                found.append((name, concept, float(self.value[concept, column]), float(self.chance[column])))
        return found

    def nearest(self, concept: int) -> tuple[str, float, float] | None:
        """Return the annotation that one half finds nearest to a concept, what that has in the other half, and chance.

        Nearest is how far it is from chance to 1. None where that is no further than chance in the other half.
        """
        above = ((self.chosen[concept] - self.chance) / (1 - self.chance)).nan_to_num(-1.0)
        if not len(self.names) or float(above.max()) <= 0:
            return None
        best = int(above.argmax())
        value, chance = float(self.value[concept, best]), float(self.chance[best])
        return (self.names[best], value, chance) if value > chance else None


def find_peaks(activations: Rows) -> Peaks:
    """Return where concepts are strongest, of (N, K, h, w) activations."""
    parts = [torch.from_numpy(np.array(activations[i : i + _TOGETHER])) for i in range(0, len(activations), _TOGETHER)]
    found = [part.flatten(2).max(2) for part in parts]
    mean = torch.cat([part.mean((2, 3)) for part in parts])
    shape = (activations.shape[2], activations.shape[3])
    return Peaks(torch.cat([f.values for f in found]), mean, torch.cat([f.indices for f in found]), shape)


def strongest_patches(peaks: Peaks, names: Sequence[str], size: tuple[int, int], k: int) -> Patches:
    """Return for each concept the k images in which it is strongest, and a window around the place.

    Args:
        peaks: where concepts are strongest.
        names: names of the concepts.
        size: (H, W) of the images in pixels.
        k: images of each concept; those in which it is not active at all are left out, unless it is so nowhere.
    """
    count = min(k, len(peaks.score))
    score, image = peaks.score.t().topk(count, dim=1)
    flat = peaks.cell.t().gather(1, image)
    image = image.where((score != 0) | (score[:, :1] == 0), -1)
    position = torch.stack([flat // peaks.shape[1], flat % peaks.shape[1]], 2)
    box = torch.zeros(*image.shape, 4, dtype=torch.int64)
    for unit, rank in (image >= 0).nonzero().tolist():
        box[unit, rank] = torch.tensor(_window(position[unit, rank].tolist(), peaks.shape, size))
    return Patches(list(names), score, image, position, box, exact=False)


def _window(place: Sequence[int], shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of a square around a cell, inside of the image."""
    share = min(max(3 / max(shape), _WINDOW[0]), _WINDOW[1]) if max(shape) > 1 else 1.0
    side = min(round(share * max(size)), *size)
    start = []
    for at, cells, pixels in zip(place, shape, size, strict=True):
        middle = (at + 0.5) * pixels / cells
        start.append(int(min(max(middle - side / 2, 0), pixels - side)))
    return start[0], start[1], start[0] + side, start[1] + side


def halves(images: SelectedImages) -> Tensor:
    """Return the half of each image, (N,) 0 or 1, as good as drawn: by its name, so that it is the same again."""
    tickets = [hashlib.sha256(images.sample_id(index).encode()).digest() for index in range(len(images))]
    half = torch.zeros(len(images), dtype=torch.int64)
    half[sorted(range(len(images)), key=tickets.__getitem__)[1::2]] = 1
    return half


def label_overlap(peaks: Peaks, truth: Tensor, names: Sequence[str], half: Tensor) -> Overlap:
    """Return how well concepts tell labels, by their strongest place or their mean, whichever one half says.

    Args:
        peaks: where concepts are strongest.
        truth: (N, T) labels.
        names: names of the labels.
        half: (N,) half of each image.
    """
    scores = torch.stack([peaks.score, peaks.mean])
    first, second = (torch.stack([auroc(s[half == h], truth[half == h]) for s in scores]) for h in (0, 1))
    pooling = first.nan_to_num(-1.0).argmax(0, keepdim=True)
    chance = torch.full((len(names),), 0.5)
    return Overlap(names, first.gather(0, pooling)[0], second.gather(0, pooling)[0], chance)


def class_overlap(peaks: Peaks, labels: Tensor, count: int) -> Tensor:
    """Return how well each concept, by its strongest place, tells each class, (K, C) AUROC."""
    return auroc(peaks.score, torch.nn.functional.one_hot(labels, count))


def labels_of(subject: Subject, table: str | None) -> tuple[list[str], Tensor]:
    """Return names and (N, T) values of labelled concepts of the images: the data's but quantities, or a table's.

    Raises:
        DataError: the table cannot be read, or names other classes or images.
    """
    images, spec = subject.images, subject.data.spec
    if table is None:
        return [spec.concept_names[k] for k in spec.truths], images.concepts[:, spec.truths]
    paths = [images.images.sample_id(index) for index in range(len(images.images))]
    path = Path(table)
    if not path.exists():
        raise DataError(f"compare: there is no file '{table}'")
    known = dict.fromkeys(paths)
    for split in ("train", "val", "test"):  # a table of all images names those of other splits, too
        try:
            other = subject.data.dataset(split)
        except DataError:
            continue
        known |= dict.fromkeys(other.sample_id(index) for index in range(len(other)))
    read = read_concepts([path], {}, spec.class_names, list(known))
    values = read.of(range(len(paths)), images.labels.tolist())
    truths = [column for column, name in enumerate(read.names) if name not in read.numbers]
    return [read.names[column] for column in truths], values[:, truths]


def mask_overlap(subject: Subject, activations: Rows, half: Tensor) -> Overlap | None:
    """Return the IoU of concepts with the masks of parts; None where there are none.

    Args:
        subject: what is looked into, with its images.
        activations: (N, K, h, w).
        half: (N,) half of each image.
    """
    names = list(subject.data.spec.part_names)
    if not names or subject.images.masks_of(0) is None:
        return None
    sample = torch.from_numpy(np.array(activations[half.numpy() == 0])).transpose(0, 1).flatten(1).t()
    counts = MaskOverlap(sample, len(names))
    for chosen, masks in progress(_masks(subject.images), "comparing with masks"):
        maps = upsample(torch.from_numpy(np.array(activations[chosen])), (masks.shape[2], masks.shape[3]))
        for number in (0, 1):
            some = half[chosen] == number
            if bool(some.any()):
                counts.update(maps[some], masks[some], number)
    first, second = counts.iou()
    return Overlap(names, first, second, counts.everywhere())


def _masks(images: SelectedImages) -> Iterator[tuple[list[int], Tensor]]:
    """Yield numbers of some images, and their (B, P, H, W) masks as shares of the cells of a grid."""
    for start in range(0, len(images), _TOGETHER):
        chosen = list(range(start, min(start + _TOGETHER, len(images))))
        found = [images.masks_of(index) for index in chosen]
        kept = [(index, mask) for index, mask in zip(chosen, found, strict=True) if mask is not None]
        if kept:
            masks = torch.stack([mask for _, mask in kept]).float()
            grid = (min(_GRID, masks.shape[2]), min(_GRID, masks.shape[3]))
            yield [index for index, _ in kept], F.adaptive_avg_pool2d(masks, grid)


def proposals(count: int, masks: Overlap | None, labels: Overlap | None) -> list[list[Proposal]]:
    """Return the names that annotations propose for each of `count` concepts, masks first."""
    found: list[list[Proposal]] = []
    for concept in range(count):
        listed = []
        for overlap, least, what in ((masks, MASK, "IoU {:.2f} with its masks"), (labels, LABEL, "AUROC {:.2f}")):
            near = None if overlap is None else overlap.nearest(concept)
            if near is not None and near[1] >= max(least, _CLEAR * near[2]):
                listed.append(Proposal(near[0], what.format(near[1])))
        found.append(listed)
    return found
