"""Spectral relevance analysis: which strategies a model has for a class, and which of them are strange.

After Lapuschkin et al. 2019 (SpRAy): the relevance maps of a class are clustered, and each cluster is looked at. A
model that reads a watermark has a cluster of its own for the images that have one. What is strange about such a cluster
can be measured without being told of any watermark: relevance lies at the same place in all of its images, and so do
the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    """

    label: int
    maps: Tensor
    index: Tensor
    small: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.maps)


@dataclass(frozen=True)
class MapCluster:
    """Images of a class that a model classifies in the same way.

    Attributes:
        members: (n,) positions among the class's maps, the most typical first.
        relevance: (H, W) mean share of an image's positive relevance that lies at each pixel; adds up to 1.
        spot: (H, W) bool, the smallest region that holds a quarter of it.
        half: share of the image that holds half of it: small where the relevance is always at the same place.
        strangeness: at most 1; 1 where the pixels of the spot are the same in all images of the cluster, 0 where they
            differ as much as those of all images do, or where it is of one image. Whatever belongs to an object moves
            with it, what was put on an image does not.
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


def spray(maps: ClassMaps, spread: Tensor, **options: Any) -> Spray:
    """Return the clusters of a class's maps, with what is strange about each.

    Args:
        maps: maps of the class, from `class_maps`.
        spread: variance of pixels between images of all classes, from `pixel_spread`.
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
    clusters = [_cluster(maps, shares, found.labels == number, spread) for number in range(found.count)]
    return Spray(maps, found, sorted(clusters, key=lambda cluster: -cluster.strangeness))


def class_maps(model: nn.Module, images: Iterable[object], label: int, explainer: Explainer | None = None) -> ClassMaps:
    """Return the maps of a class's images; the model is left as it was.

    What is kept of an image is its map, 4 bytes for each pixel, and a small picture.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        images: loader of a `Batch`; images of other classes are left out.
        label: the class, which is explained.
        explainer: method; by default LRP, as published.

    Raises:
        DataError: no images of the class.
        UnsupportedError: the method cannot explain this model, or has no map.
    """
    method = LRP() if explainer is None else explainer
    maps, index, small = list[Tensor](), list[Tensor](), list[Tensor]()
    for batch in progress(images, "maps"):
        given = batch_of(batch)
        given = given.select(given.label == label)
        if not len(given):
            continue
        found = method(model, given.image.to(device_of(model)), Target.cls(label)).map
        if found is None:
            raise UnsupportedError(f"spray: '{method.name}' has no map of this model")
        maps.append(found.float().cpu())
        index.append(given.index)
        small.append(_small(given.image))
    if not maps:
        raise DataError(f"spray: there are no images of class {label}")
    return ClassMaps(label, torch.cat(maps), torch.cat(index), torch.cat(small))


def pixel_spread(images: Iterable[object]) -> Tensor:
    """Return the variance of pixels between images of all classes, made small: (h, w), the mean over the colors.

    Args:
        images: loader of a `Batch`, a few hundred images.

    Raises:
        DataError: no images.
    """
    small = [_small(batch_of(batch).image) for batch in progress(images, "images")]
    if not small:
        raise DataError("spray: there are no images")
    return _variance(torch.cat(small))


def _small(image: Tensor) -> Tensor:
    size = (min(_CELLS, image.shape[2]), min(_CELLS, image.shape[3]))
    return F.adaptive_avg_pool2d(image.detach().float().cpu(), size)


def _cluster(maps: ClassMaps, shares: Tensor, chosen: Tensor, spread: Tensor) -> MapCluster:
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
        _sameness(maps.small[members], spot, spread),
    )


def _sameness(small: Tensor, spot: Tensor, spread: Tensor) -> float:
    """Return 1 less the variance of pixels in a spot between some images over that between all images."""
    weight = F.adaptive_avg_pool2d(spot.double()[None, None], (spread.shape[0], spread.shape[1]))[0, 0]
    everywhere = float((weight * spread).sum())
    if everywhere <= 0 or len(small) < 2:
        return 0.0
    return 1 - float((weight * _variance(small)).sum()) / everywhere


def _variance(small: Tensor) -> Tensor:
    """Return the (h, w) variance between images of each pixel, the mean over the colors, as expected of more images.

    Without that correction few images are more alike than many, and a small cluster is strange for its size.
    """
    return small.double().var(0, correction=min(1, len(small) - 1)).mean(0)


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
