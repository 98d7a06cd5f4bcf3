"""Spectral relevance analysis: which strategies a model has for a class, and which of them are strange.

After Lapuschkin et al. 2019 (SpRAy): the relevance maps of a class are clustered, and each cluster is looked at. A model
that reads a watermark has a cluster of its own for the images that have one. What is strange about such a cluster can be
measured without being told of any watermark: relevance lies at the same place in all of its images, and so do the same
pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import DataError, UnsupportedError
from ibd.explain.activations import device_of
from ibd.explain.base import Explainer
from ibd.explain.layer_features import batch_of
from ibd.explain.lrp import LRP
from ibd.explain.relevance_clusters import Clustering, cluster_maps
from ibd.explain.targets import Target

SPOT = 0.25
"""Share of a cluster's relevance that the spot holds which is compared between images."""
_CELLS = 32
"""Cells along a side that images are averaged to before their pixels are compared."""


@dataclass(frozen=True)
class ClassMaps:
    """The maps of N images of one class, on the CPU.

    Attributes:
        label: the class.
        maps: (N, H, W) signed, of what speaks for the class.
        index: (N,) positions of the images in their data set.
        small: (N, 3, h, w) the images, made small.
        spread: (h, w) variance of small images between all that were read, of any class; mean over the colors.
    """

    label: int
    maps: Tensor
    index: Tensor
    small: Tensor
    spread: Tensor


@dataclass(frozen=True)
class MapCluster:
    """Images of a class that a model classifies in the same way.

    Attributes:
        members: (n,) positions among the class's maps, the most typical first.
        relevance: (H, W) mean share of an image's positive relevance that lies at each pixel; adds up to 1.
        spot: (H, W) bool, the smallest region that holds a quarter of it.
        half: share of the image that holds half of it: small where the relevance is always at the same place.
        strangeness: at most 1; 1 where the pixels of the spot are the same in all images of the cluster, 0 where they
            differ as much as those of all images do. Whatever belongs to an object moves with it, what was put on an
            image does not.
    """

    members: Tensor
    relevance: Tensor
    spot: Tensor
    half: float
    strangeness: float

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.members)


@dataclass(frozen=True)
class Spray:
    """The strategies of a model for one class: `clusters`, the strangest first, of its maps."""

    given: ClassMaps
    clustering: Clustering
    clusters: list[MapCluster]


def spray(maps: ClassMaps, **options: Any) -> Spray:
    """Return the clusters of a class's maps, with what is strange about each.

    Args:
        maps: maps of the class, from `class_maps`.
        options: options of `ibd.explain.cluster_maps`.

    Raises:
        DataError: too few images.
        UnsupportedError: nothing speaks for the class in any of them.
    """
    positive = maps.maps.clamp(min=0)
    total = positive.sum((1, 2))
    if not bool((total > 0).any()):
        raise UnsupportedError("spray: the maps of the class are 0 or negative everywhere: nothing speaks for it")
    found = cluster_maps(maps.maps, **options)
    shares = positive / total.where(total > 0, 1).view(-1, 1, 1)
    clusters = [_cluster(maps, shares, found.labels == number) for number in range(found.count)]
    return Spray(maps, found, sorted(clusters, key=lambda cluster: -cluster.strangeness))


def class_maps(
    model: nn.Module, images: Iterable[object], classes: Sequence[int], explainer: Explainer | None = None
) -> list[ClassMaps]:
    """Return the maps of the images of each class; the model is left as it was.

    What is kept of an image is its map, 4 bytes for each pixel, and a small picture.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        images: loader of a `Batch`; images of other classes are read, and not explained.
        classes: classes whose images are explained, each for its own class.
        explainer: method; by default LRP, as published.

    Raises:
        DataError: no images of one of the classes.
        UnsupportedError: the method cannot explain this model, or has no map.
    """
    method = LRP() if explainer is None else explainer
    parts: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {label: [] for label in classes}
    smalls = []
    for batch in progress(images, "maps"):
        given = batch_of(batch)
        small = _small(given.image)
        smalls.append(small)
        wanted = torch.isin(given.label, torch.tensor(list(classes)))
        if not bool(wanted.any()):
            continue
        kept = given.select(wanted)
        found = method(model, kept.image.to(device_of(model)), Target.cls(kept.label.tolist())).map
        if found is None:
            raise UnsupportedError(f"spray: '{method.name}' has no map of this model")
        for label, rows in parts.items():
            of_class = kept.label == label
            rows.append((found[of_class.to(found.device)].float().cpu(), kept.index[of_class], small[wanted][of_class]))
    spread = torch.cat(smalls).double().var(0, correction=0).mean(0) if smalls else torch.zeros(0)
    return [_of_class(label, rows, spread) for label, rows in parts.items()]


def _of_class(label: int, rows: Sequence[tuple[Tensor, Tensor, Tensor]], spread: Tensor) -> ClassMaps:
    if not sum(len(maps) for maps, _, _ in rows):
        raise DataError(f"spray: there are no images of class {label}")
    maps, index, small = (torch.cat([row[part] for row in rows]) for part in range(3))
    return ClassMaps(label, maps, index, small, spread)


def _small(image: Tensor) -> Tensor:
    size = (min(_CELLS, image.shape[2]), min(_CELLS, image.shape[3]))
    return F.adaptive_avg_pool2d(image.detach().float().cpu(), size)


def _cluster(maps: ClassMaps, shares: Tensor, chosen: Tensor) -> MapCluster:
    """Return what the chosen images have in common."""
    members = chosen.nonzero().flatten()
    own = shares[members]
    mean = own.mean(0)
    mean = mean / mean.sum().clamp(min=torch.finfo(mean.dtype).tiny)
    typical = (own.flatten(1) @ mean.flatten()) / own.flatten(1).norm(dim=1).clamp(min=torch.finfo(mean.dtype).tiny)
    spot = smallest_region(mean, SPOT)
    return MapCluster(
        members[typical.argsort(descending=True, stable=True)],
        mean,
        spot,
        float(smallest_region(mean, 0.5).double().mean()),
        _sameness(maps, members, spot),
    )


def _sameness(maps: ClassMaps, members: Tensor, spot: Tensor) -> float:
    """Return 1 less the variance of pixels in a spot between some images over that between all images."""
    weight = F.adaptive_avg_pool2d(spot.double()[None, None], tuple(maps.spread.shape))[0, 0]
    own = maps.small[members].double().var(0, correction=0).mean(0)
    everywhere = float((weight * maps.spread).sum())
    return 1 - float((weight * own).sum()) / everywhere if everywhere > 0 else 0.0


def smallest_region(shares: Tensor, share: float) -> Tensor:
    """Return the fewest pixels that hold a share of a sum, (H, W) bool.

    Args:
        shares: (H, W), none below 0.
        share: share of their sum, in (0, 1].
    """
    values, order = shares.double().flatten().sort(descending=True, stable=True)
    count = int((values.cumsum(0) < share * values.sum() * (1 - 1e-9)).sum()) + 1
    region = torch.zeros(shares.numel(), dtype=torch.bool, device=shares.device)
    region[order[:count]] = True
    return region.view(shares.shape)
