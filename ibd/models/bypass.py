"""What passes the names by: how right the classes are without the units that have one, and with these alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ibd.data.dataset import ImageDataset
from ibd.distributed import progress
from ibd.errors import UnsupportedError
from ibd.models.base import InterpretableNetwork, evaluating
from ibd.models.trained import TrainedModel
from ibd.types import Units, stack_samples

TRAINING_IMAGES = 512
"""So many training images, spread evenly, say what units are on average."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Typical:
    """What a network's units are on average over training images.

    Attributes:
        passed: (U,) mean of `InterpretableNetwork.passed`.
        beside: (R,) mean of `InterpretableNetwork.beside`.
    """

    passed: Tensor
    beside: Tensor


def require_names(network: InterpretableNetwork) -> None:
    """Check that something of a network has a name, and something might pass it by.

    Raises:
        UnsupportedError: its units have no names, or the classes are sums over them alone.
    """
    named = network.named_units()
    if not bool(named.any()):
        raise UnsupportedError(f"its {network.unit_plural} have no names that the classes could pass by")
    if bool(named.all()) and network.additive and not network.truth_values:
        raise UnsupportedError(f"its classes are sums over its {network.unit_plural}: nothing passes them by")


@torch.no_grad()
def typical_units(
    model: TrainedModel, train: ImageDataset, most: int = TRAINING_IMAGES, batch_size: int = 64
) -> Typical:
    """Return what the units of a model are on average over training images, without augmentation.

    Args:
        model: a trained model; it is left in the mode that it is in.
        train: the training split.
        most: number of images to read, spread evenly over the split, where it has more.
        batch_size: images in a pass.
    """
    network, count = model.network, min(most, len(train))
    indices = [i * len(train) // count for i in range(count)]
    passed, beside = [], []
    with evaluating(model):
        for some in progress(list(_parts(indices, batch_size)), "reading training images"):
            weight = next(network.parameters())
            image = stack_samples([train[index] for index in some]).image.to(weight.device)
            units = model(image).units
            passed.append(network.passed(units).double().sum(0))
            beside.append(network.beside(units).double().sum(0))
    return Typical(*((torch.stack(sums).sum(0) / count).to(weight.dtype) for sums in (passed, beside)))


def _parts(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


@torch.no_grad()
def reduced_logits(network: InterpretableNetwork, units: Units, typical: Typical) -> dict[str, Tensor]:
    """Return (B, C) logits by what is left of the units.

    - "without_named": every unit with a name has its mean, of a concept its probability. What the classes still tell
      passes the names by.
    - "named_alone": what is beside the names has its mean: units without a name, and the vectors of concept embeddings.
      Left out where there is nothing.

    Args:
        network: network, in evaluation mode.
        units: units of B images.
        typical: what they are on average over training images.
    """
    named = network.named_units().to(units.scores.device)
    off = named.expand(len(units.scores), -1)
    logits = {"without_named": network.decode_without(units, off, typical.passed)}
    if typical.beside.numel():
        logits["named_alone"] = network.decode_named(units, typical.beside)
    return logits


@torch.no_grad()
def rounded_logits(network: InterpretableNetwork, units: Units) -> Tensor | None:
    """Return the (B, C) logits with concepts true or false, all that their names promise, and all else as it is.

    None where units have no truth values, or what stands for these is not known.
    """
    try:
        return network.decode(network.rounded(units))
    except UnsupportedError:
        return None
