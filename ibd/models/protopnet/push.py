"""Projection: every prototype becomes the nearest training patch of its class (Chen et al. 2019, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ibd.data.base import ImageDataModule
from ibd.distributed import world_size
from ibd.errors import CheckpointError, DataError
from ibd.models.base import evaluating
from ibd.models.protopnet.distance import patches_of
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.provenance import PRECISIONS, Source
from ibd.models.protopnet.scan import CHUNK, Candidates, chunks, find_nearest
from ibd.models.protopnet.similarity import comparable, from_squared


@dataclass(frozen=True)
class PushReport:
    """What a projection did.

    Attributes:
        moved: (P,) the distance from each prototype to the patch that it became.
        duplicates: prototypes that share their patch with an earlier one.
    """

    moved: Tensor
    duplicates: int


@torch.no_grad()
def push(network: PrototypeNetwork, data: ImageDataModule, distinct: bool = False, precision: int = 0) -> PushReport:
    """Set every prototype to the nearest patch of an un-augmented training image of its class.

    The same for any batch size and number of processes. The images and the computation are those of inference:
    normalization is a layer of the network, and statistics are those of evaluation.

    Args:
        network: network to change in place.
        data: data whose training images are read.
        distinct: whether no two prototypes of a class become the same patch: the nearest pair is taken first.
        precision: one of `PRECISIONS` to compute features in; the one that the model will be used in.

    Raises:
        DataError: a class has no training image, or with `distinct` fewer patches than prototypes.
    """
    with evaluating(network):
        k = network.per_class if distinct else 1
        nearest, vectors = find_nearest(network, data, "train", k, own_class=True, precision=PRECISIONS[precision])
    missing = ~nearest.distance[:, 0].isfinite()
    if bool(missing.any()):
        name = network.class_names[int(network.classes[missing][0])]
        raise DataError(f"there is no training image of class '{name}', so its prototypes cannot be patches of one")
    chosen = _distinct(network, nearest) if distinct else torch.zeros_like(nearest.image[:, 0])
    pick = chosen.unsqueeze(1)
    distance, index, position = (values.gather(1, pick).squeeze(1) for values in nearest[:3])
    rows = torch.arange(len(chosen), device=chosen.device)
    network.prototypes.copy_(vectors[rows, chosen].to(network.prototypes.dtype))
    _remember(network, data, index, position, distance, precision)
    pairs = torch.stack([network.classes, index, position], 1)
    return PushReport(distance, len(pairs) - len(torch.unique(pairs, dim=0)))


def _distinct(network: PrototypeNetwork, nearest: Candidates) -> Tensor:
    """Return which candidate each prototype takes, (P,), so that those of a class differ: the closest pair first."""
    chosen = torch.zeros(len(nearest.image), dtype=torch.int64)
    distance, index, position = (values.cpu() for values in nearest[:3])
    for members in network.unit_groups.values():
        taken: set[tuple[int, int]] = set()
        waiting = set(members)
        order = sorted((float(distance[j, c]), j, c) for j in members for c in range(distance.shape[1]))
        for value, j, c in order:
            patch = int(index[j, c]), int(position[j, c])
            if j in waiting and patch not in taken and value < float("inf"):
                chosen[j] = c
                waiting.remove(j)
                taken.add(patch)
        if waiting:
            name = network.class_names[int(network.classes[members[0]])]
            raise DataError(
                f"class '{name}' has fewer training patches than prototypes: so model.push.distinct is not possible"
            )
    return chosen.to(nearest.image.device)


def _remember(
    network: PrototypeNetwork, data: ImageDataModule, index: Tensor, position: Tensor, moved: Tensor, precision: int
) -> None:
    dataset, provenance = data.dataset("train"), network.provenance
    columns = _columns(network, data)
    provenance.index.copy_(index)
    provenance.position.copy_(torch.stack([position // columns, position % columns], 1))
    provenance.moved.copy_(moved)
    provenance.precision.fill_(precision)
    provenance.name([dataset.sample_id(i) for i in index.tolist()])
    provenance.valid.fill_(True)
    provenance.ever.fill_(True)


def _columns(network: PrototypeNetwork, data: ImageDataModule) -> int:
    """Return in how many columns patches lie."""
    weight = network.prototypes
    with evaluating(network):
        blank = torch.zeros(1, 3, *data.spec.image_size, device=weight.device, dtype=weight.dtype)
        return patches_of(network.features(blank), (network.extent, network.extent))[1][1]


def sources(network: PrototypeNetwork) -> list[Source]:
    """Return where each prototype is from; empty before the first projection.

    Raises:
        CheckpointError: the prototypes were trained on since.
    """
    provenance = network.provenance
    if not bool(provenance.valid):
        if bool(provenance.ever):
            raise CheckpointError(
                "the prototypes were trained further after their projection: they are no longer patches"
            )
        return []
    rows = zip(
        provenance.names(),
        provenance.index.tolist(),
        provenance.position.tolist(),
        provenance.moved.tolist(),
        strict=True,
    )
    return [
        Source(j, network.class_names[int(network.classes[j])], name, index, row, column, moved)
        for j, (name, index, (row, column), moved) in enumerate(rows)
    ]


@torch.no_grad()
def projection_distances(network: PrototypeNetwork, data: ImageDataModule) -> Tensor:
    """Return the distance of every prototype to its recorded source patch, computed anew, (P,); NaN for a replaced one.

    Args:
        network: network with a valid provenance.
        data: data whose training images it was projected on.

    Raises:
        CheckpointError: there was no projection, or the training images are others now.
    """
    origin = sources(network)
    if not origin:
        raise CheckpointError("the prototypes were never projected on training patches")
    dataset = data.dataset("train")
    for source in origin:
        if source.index >= 0 and (
            source.index >= len(dataset) or not dataset.sample_id(source.index).endswith(source.sample)
        ):
            raise CheckpointError(f"training image {source.index} is not '{source.sample}' now: the data has changed")
    replaced = network.provenance.index < 0
    result = torch.full((len(origin),), torch.inf, device=replaced.device)
    precision = PRECISIONS[int(network.provenance.precision)]
    prototypes = comparable(network.prototypes, network.distance, 1).float()
    wanted = {source.index for source in origin if source.index >= 0}
    with evaluating(network):
        for batch, features in chunks(network, data, "train", precision, "verifying prototypes", only=wanted):
            patches, (_, columns) = patches_of(features, (network.extent, network.extent))
            place = {int(index): i for i, index in enumerate(batch.index.tolist())}
            for source in origin:
                if source.index in place:
                    patch = patches[place[source.index], source.row * columns + source.column]
                    patch = comparable(patch, network.distance, 0).float()
                    squared = (patch - prototypes[source.prototype]).square().sum()
                    result[source.prototype] = from_squared(squared, network.distance)
    if world_size() > 1:  # every process has seen its share of the images
        dist.all_reduce(result, dist.ReduceOp.MIN)
    return result.masked_fill(replaced, torch.nan)


__all__ = ["CHUNK", "PushReport", "projection_distances", "push", "sources"]
