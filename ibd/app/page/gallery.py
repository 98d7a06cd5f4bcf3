"""The units of a model one beside the other: what each is, where it is strongest, and how often it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.app.page.long_work import Told, nobody_told
from ibd.app.page.maps import in_shares
from ibd.app.page.split_answers import Answers
from ibd.data.base import ImageDataModule
from ibd.models.base import InterpretableNetwork
from ibd.models.protopnet.explanations import find_places
from ibd.models.protopnet.figures import source_pictures
from ibd.models.protopnet.provenance import Source
from ibd.models.protopnet.push import sources
from ibd.models.prototypes import LinearPrototypes
from ibd.models.trained import TrainedModel

_AT_ONCE = 32


@dataclass(frozen=True)
class Usage:
    """How often units decide, over N images.

    Attributes:
        images: N.
        leads: (U,) number of images in which the unit adds most to the predicted class.
        adds: (U,) mean of what it adds to the predicted class, over these N images.
        present: (U,) number of images in which the unit's score is not 0.
    """

    images: int
    leads: Tensor
    adds: Tensor
    present: Tensor


def usage_of(network: InterpretableNetwork, answers: Answers) -> Usage | None:
    """Return how often units decide; None where a class is no sum over the units.

    Args:
        network: the network.
        answers: what it says of a split.
    """
    weight = network.linear_weight()
    if weight is None or not isinstance(network, LinearPrototypes):
        return None
    scores = answers.read.scores.double()
    added = scores * weight.detach().double().cpu()[answers.predicted]
    counts = torch.bincount(added.argmax(1)[added.amax(1) > 0], minlength=scores.shape[1])
    return Usage(len(scores), counts, added.mean(0), (scores != 0).sum(0))


@dataclass(frozen=True)
class Framed:
    """A training image in which a unit was found.

    Attributes:
        image: index of the image in the training split.
        name: what it is called.
        row: row of the patch in the feature map.
        column: column of the patch.
        box: (top, left, bottom, right) of the place in shares of the image, by its own similarity map.
    """

    image: int
    name: str
    row: int
    column: int
    box: list[float]


def framed_sources(model: TrainedModel, data: ImageDataModule, told: Told = nobody_told) -> dict[int, Framed]:
    """Return prototype -> the training patch that it is, framed; without those whose image the data has no more.

    Args:
        model: a model whose network has prototypes that are training patches.
        data: its data.
        told: is told how many prototypes of how many are done.
    """
    known = {source.prototype: source for source in sources(model.network)}  # type: ignore[arg-type]
    units, found = sorted(known), dict[int, Framed]()
    for start in range(0, len(units), _AT_ONCE):
        told(start, len(units))
        part = {unit: known[unit] for unit in units[start : start + _AT_ONCE]}
        pictures = source_pictures(data, part)
        found |= dict(zip(pictures, _framed(model, pictures, part), strict=True))
    told(len(units), len(units))
    return found


def _framed(model: TrainedModel, pictures: dict[int, Tensor], part: dict[int, Source]) -> list[Framed]:
    if not pictures:
        return []
    places = find_places(model, torch.stack(list(pictures.values())), list(pictures))
    size = model.spec.image_size
    return [
        Framed(part[unit].index, part[unit].sample, part[unit].row, part[unit].column, in_shares(place.box, size) or [])
        for unit, place in zip(pictures, places, strict=True)
    ]


def framed_in(model: TrainedModel, data: ImageDataModule, unit: int, images: Sequence[int]) -> list[list[float]]:
    """Return where a prototype is in training images: (top, left, bottom, right) in shares of each.

    Args:
        model: a model whose network has prototypes that are training patches.
        data: its data.
        unit: number of the prototype.
        images: indices in the training split.
    """
    dataset = data.dataset("train")
    pictures = torch.stack([dataset[index].image for index in images])
    places = find_places(model, pictures, [unit] * len(images))
    return [in_shares(place.box, model.spec.image_size) or [] for place in places]


def strongest(answers: Answers, count: int) -> Tensor:
    """Return the images in which each unit is highest, (U, count) positions in the split; of equal ones the first."""
    order = answers.read.scores.argsort(dim=0, descending=True, stable=True)[:count].t()
    return answers.index[order]
