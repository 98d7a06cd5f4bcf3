"""What units count for classes: the weights of a linear head, or the mean of what they add."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.app.page.long_work import Told, nobody_told
from ibd.data.base import ImageDataModule, Split
from ibd.models.base import InterpretableNetwork
from ibd.models.trained import TrainedModel

MOST = 512
"""Images that a mean is taken over; of more, as many at even distances."""
_AT_ONCE = 32


def head_weights(network: InterpretableNetwork) -> Tensor | None:
    """Return the (C, U) weights of the units to the classes; None where the head is not linear."""
    weight = network.linear_weight()
    return None if weight is None else weight.detach().cpu()


@torch.no_grad()
def mean_contributions(
    model: TrainedModel, data: ImageDataModule, split: Split, told: Told = nobody_told, most: int = MOST
) -> tuple[Tensor, Tensor]:
    """Return what units add to a class, in the mean over images of that class.

    For every model: of one that is not a sum over its units it is what the class's logit loses without the unit.

    Args:
        model: the model.
        data: its data.
        split: split of the images.
        told: is told how many images of how many are read.
        most: number of images at most.

    Returns:
        (C, U), NaN for a class without images; and (C,) the number of its images.
    """
    dataset = data.dataset(split)
    count = min(len(dataset), most)
    index = (torch.arange(count) * len(dataset) // max(count, 1)).tolist()
    classes, units = len(model.network.class_names), len(model.network.unit_names)
    total, seen = torch.zeros(classes, units, dtype=torch.float64), torch.zeros(classes, dtype=torch.int64)
    for start in range(0, count, _AT_ONCE):
        told(start, count)
        part = index[start : start + _AT_ONCE]
        labels = dataset.labels[part]
        added = model.predict(torch.stack([dataset[place].image for place in part])).contributions.double().cpu()
        rows = torch.arange(len(part))
        total.index_add_(0, labels, added[rows, :, labels])
        seen += torch.bincount(labels, minlength=classes)
    told(count, count)
    return total / torch.where(seen > 0, seen, torch.nan)[:, None], seen
