"""What a unit looks like in the training images: where it is highest there, and the patch that a prototype is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.app.page.maps import UnitLook, unit_look
from ibd.app.page.split_answers import Answers
from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError
from ibd.models.prediction import read_out
from ibd.models.protopnet.figures import source_pictures
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.provenance import Source
from ibd.models.protopnet.push import sources
from ibd.models.trained import TrainedModel

MOST = 12
"""Examples of a unit at most."""


@dataclass(frozen=True)
class UnitExample:
    """A training image of a unit.

    Attributes:
        index: position in the training split.
        name: what the image is called.
        class_name: its class.
        value: what is read of the unit in it, with its unit of measure where it has one.
        truth: what the data says of the unit there, in the same words; None where it says nothing.
        is_source: whether the unit, a prototype, is a patch of this image.
        look: where the unit was seen in it.
        image: (3, H, W) in [0, 1].
    """

    index: int
    name: str
    class_name: str
    value: str
    truth: str | None
    is_source: bool
    look: UnitLook
    image: Tensor


def source_of(model: TrainedModel, unit: int) -> Source | None:
    """Return the training patch that a unit is; None where it is none, or not any more."""
    if not isinstance(model.network, PrototypeNetwork):
        return None
    try:
        return next((source for source in sources(model.network) if source.prototype == unit), None)
    except CheckpointError:  # trained on since the projection
        return None


def unit_examples(
    model: TrainedModel, data: ImageDataModule, answers: Answers, unit: int, count: int = 6
) -> list[UnitExample]:
    """Return the training images in which a unit is highest, each once, the highest first.

    A prototype that is a training patch begins with the image that it is from. Of equal ones the earlier image comes
    first. Takes one pass of the images that are returned.

    Args:
        model: the model.
        data: its data.
        answers: what it says of the training split.
        unit: number of the unit.
        count: number of images beside that of a prototype's own patch, up to `MOST`.
    """
    dataset, source = data.dataset("train"), source_of(model, unit)
    own = [] if source is None or not source_pictures(data, {unit: source}) else [source.index]
    order = answers.read.scores[:, unit].argsort(descending=True, stable=True)
    best = [place for place in answers.index[order].tolist() if place not in own][: min(count, MOST)]
    chosen = [*own, *best]
    samples = [dataset[place] for place in chosen]
    images = torch.stack([sample.image for sample in samples])
    prediction = model.predict(images)
    values = prediction.unit_values[:, unit].tolist()
    quantity, truth = model.network.quantities.get(unit), _truth(model, data, unit, chosen)
    return [
        UnitExample(
            place,
            dataset.sample_id(place),
            data.spec.class_names[sample.label],
            read_out(values[row], quantity),
            None if math.isnan(truth[row]) else read_out(truth[row], quantity),
            place in own,
            unit_look(model, prediction, images[row : row + 1], unit, row),
            sample.image,
        )
        for row, (place, sample) in enumerate(zip(chosen, samples, strict=True))
    ]


def _truth(model: TrainedModel, data: ImageDataModule, unit: int, chosen: Sequence[int]) -> list[float]:
    """Return what the data says of the concept that a unit is named for, NaN where it does not."""
    name = model.network.unit_names[unit]
    if name not in data.spec.concept_names:
        return [math.nan] * len(chosen)
    column = data.spec.concept_names.index(name)
    known: list[float] = data.dataset("train").concepts[list(chosen), column].tolist()
    return known
