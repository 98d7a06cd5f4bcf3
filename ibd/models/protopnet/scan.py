"""One pass over a split in fixed chunks: the nearest patches of every prototype, in memory that does not grow with it.

A convolution rounds differently in batches of another size. Chunks are the same whatever the batch size of the training
and the number of processes, so every patch is computed to the same bits wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ibd.backbones import prefers_channels_last
from ibd.data.base import ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.distributed import progress, world_size
from ibd.models.protopnet.distance import nearest_patches, patches_of
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.provenance import PRECISIONS
from ibd.models.protopnet.similarity import comparable, from_squared
from ibd.types import Batch, stack_samples

CHUNK = 32
"""Images that are computed together."""


class Candidates(NamedTuple):
    """The k best patches of each of P prototypes, best first; a missing one has distance inf."""

    distance: Tensor
    """(P, k)."""
    image: Tensor
    """(P, k) image in its split."""
    position: Tensor
    """(P, k) row * columns + column."""
    label: Tensor
    """(P, k) class of the image."""

    def order(self, k: int) -> Tensor:
        """Return which are the k best, (P, k), by (distance, image, position): an order in which there are no ties."""
        order = torch.arange(self.distance.shape[1], device=self.distance.device).expand_as(self.distance)
        for key in (self.position, self.image, self.distance):
            order = order.gather(1, key.gather(1, order).sort(dim=1, stable=True).indices)
        return order[:, :k]

    def take(self, order: Tensor) -> Candidates:
        """Return the candidates at (P, n) places."""
        return Candidates(*(values.gather(1, order) for values in self))

    def beside(self, other: Candidates) -> Candidates:
        """Return the candidates of both, these first."""
        return Candidates(*(torch.cat(pair, 1) for pair in zip(self, other, strict=True)))


@torch.no_grad()
def find_nearest(
    network: PrototypeNetwork,
    data: ImageDataModule,
    split: Split = "train",
    k: int = 1,
    own_class: bool = False,
    precision: torch.dtype | None = None,
    per_image: int | None = None,
) -> tuple[Candidates, Tensor]:
    """Return the k patches of a split that are nearest to each prototype, without augmentation, and their vectors.

    Every process reads its share of the chunks and all get the same answer: that of one process, bit by bit.

    Args:
        network: network, read as it is; put it into evaluation mode before.
        data: data whose images are read.
        split: split of the data.
        k: number of patches.
        own_class: whether to read only images of the prototype's class, of each as many patches as are near; else one
            of each image.
        precision: autocast to compute the features in, or None.
        per_image: most patches of one image, where only those of the own class are read; None for as many as k.

    Returns:
        The candidates, and (P, k, D).
    """
    count, dim = network.prototypes.shape
    device, dtype = network.prototypes.device, network.prototypes.dtype
    missing = torch.full((count, k), -1, device=device)
    far = torch.full((count, k), torch.inf, device=device, dtype=torch.promote_types(dtype, torch.float32))
    best, vectors = Candidates(far, missing, missing, missing), torch.zeros(count, k, dim, device=device, dtype=dtype)
    for batch, features in chunks(network, data, split, precision, f"comparing {split} images with prototypes"):
        patches, _ = patches_of(features, (network.extent, network.extent))
        compare = _own_class if own_class else _one_of_each
        candidates = compare(network, patches, batch, per_image or k)
        both = best.beside(candidates)
        order = both.order(k)
        best = both.take(order)
        vectors = _updated_vectors(vectors, order, best, patches, batch)
    return _over_processes(best, vectors, k)


def _own_class(network: PrototypeNetwork, patches: Tensor, batch: Batch, k: int) -> Candidates:
    """Return the k nearest patches of each image to each prototype of its class, (P, B * k), by exact distances."""
    images, length = patches.shape[:2]
    n = min(k, length)
    dtype = torch.promote_types(patches.dtype, torch.float32)
    prototypes = comparable(network.prototypes, network.distance, 1).to(dtype)
    own = prototypes.view(-1, network.per_class, prototypes.shape[1])[batch.label]  # (B, K, D)
    compared = comparable(patches, network.distance, 2).to(dtype)
    squared = torch.stack([(compared - own[:, j : j + 1]).square().sum(2) for j in range(network.per_class)], 1)
    distance, position = squared.sort(dim=2, stable=True)  # the first of equal ones
    target = batch.label.view(-1, 1) * network.per_class + torch.arange(network.per_class, device=patches.device)
    place = (target.view(images, -1, 1), torch.arange(images * n, device=patches.device).view(images, 1, n))
    count = len(network.prototypes)
    result = Candidates(
        torch.full((count, images * n), torch.inf, device=patches.device, dtype=dtype),
        *(torch.full((count, images * n), -1, device=patches.device) for _ in range(3)),
    )
    result.distance[place] = from_squared(distance[:, :, :n], network.distance)
    result.image[place] = batch.index.view(-1, 1, 1).expand(-1, network.per_class, n)
    result.position[place] = position[:, :, :n]
    result.label[place] = batch.label.view(-1, 1, 1).expand(-1, network.per_class, n)
    return result


def _one_of_each(network: PrototypeNetwork, patches: Tensor, batch: Batch, k: int) -> Candidates:
    """Return the nearest patch of each image to each prototype, (P, B)."""
    prototypes = comparable(network.prototypes, network.distance, 1)
    nearest = nearest_patches(comparable(patches, network.distance, 2), prototypes, first=True)
    distance, position = from_squared(nearest.distance, network.distance)[..., 0].t(), nearest.position[..., 0].t()
    place = batch.index.expand(len(position), -1), position.contiguous(), batch.label.expand(len(position), -1)
    return Candidates(distance.contiguous(), *place)


def _updated_vectors(vectors: Tensor, order: Tensor, best: Candidates, patches: Tensor, batch: Batch) -> Tensor:
    """Return the (P, k, D) vectors of the best candidates: old ones, or patches of this chunk.

    Args:
        vectors: (P, k, D) of the best before this chunk.
        order: (P, k) where the best were: from k on, among those of this chunk.
        best: best patches themselves.
        patches: (B, L, D) of this chunk.
        batch: range of images, this chunk.
    """
    k = vectors.shape[1]
    kept = vectors.gather(1, order.clamp(max=k - 1).unsqueeze(2).expand(-1, -1, vectors.shape[2]))
    new = (order >= k) & best.distance.isfinite()
    if bool(new.any()):
        kept[new] = patches[best.image[new] - int(batch.index[0]), best.position[new]].to(kept.dtype)
    return kept


def chunks(
    network: PrototypeNetwork,
    data: ImageDataModule,
    split: Split,
    precision: torch.dtype | None,
    title: str,
    only: set[int] | None = None,
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield this process's chunks of a split with their (B, D, h, w) features.

    Args:
        network: network in evaluation mode.
        data: data whose images are read.
        split: split of the data.
        precision: autocast to compute in, or None.
        title: title of the progress bar.
        only: images that are read: chunks without any of these are left out.
    """
    rank, world = (dist.get_rank(), world_size()) if world_size() > 1 else (0, 1)
    dataset, device = data.inputs(split), network.prototypes.device
    dtype = network.prototypes.dtype
    # As in training, whose layout a model that was read from a file does not have: each rounds differently.
    last = prefers_channels_last(network.backbone, device)
    network.backbone.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    mine = [c for c in range(-(-len(dataset) // CHUNK)) if c % world == rank]
    if only is not None:
        mine = [c for c in mine if any(index // CHUNK == c for index in only)]
    for batch in progress(_loader(dataset, mine, data.num_workers), title):
        batch = batch.to(device)
        with torch.autocast(device.type, precision or torch.bfloat16, enabled=precision is not None):
            known = batch.features
            features = network.features(batch.image.to(dtype)) if known is None else network.add_on(known.to(dtype))
            yield batch, features


def _loader(dataset: ImageDataset, chosen: list[int], workers: int) -> DataLoader[Batch]:
    """Return a loader over some chunks of a dataset, in order."""
    indices = [i for c in chosen for i in range(c * CHUNK, min((c + 1) * CHUNK, len(dataset)))]
    subset = Subset(dataset, indices)
    return DataLoader(subset, CHUNK, num_workers=workers, collate_fn=stack_samples)  # type: ignore[arg-type]


def _over_processes(best: Candidates, vectors: Tensor, k: int) -> tuple[Candidates, Tensor]:
    """Return the k best of all processes."""
    if world_size() == 1:
        return best, vectors
    everyone, everything = Candidates(*(_gathered(values) for values in best)), _gathered(vectors)
    order = everyone.order(k)
    return everyone.take(order), everything.gather(1, order.unsqueeze(2).expand(-1, -1, vectors.shape[2]))


def _gathered(value: Tensor) -> Tensor:
    parts = [torch.empty_like(value) for _ in range(world_size())]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts, 1)


def current_precision(device: torch.device) -> int:
    """Return which of `PRECISIONS` autocast is in now."""
    if not torch.is_autocast_enabled(device.type):
        return 0
    dtype = torch.get_autocast_dtype(device.type)
    return PRECISIONS.index(dtype) if dtype in PRECISIONS else 0
