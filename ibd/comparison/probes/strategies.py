"""Measures which strategies a model has for each class: its relevance maps of training images, clustered."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.comparison.asked import Case
from ibd.comparison.images import fitted_split, images_of_class, some_images
from ibd.comparison.named_places import TAG_NAME, Place, places
from ibd.comparison.probes.layer_features import LayerAccount
from ibd.comparison.results import ShownCluster
from ibd.errors import DataError, UnsupportedError
from ibd.explain.render import upsample
from ibd.explain.strategies import MapCluster, Spray, class_maps, pixel_spread, spray

_IMAGES, _OTHERS = 200, 512
"""Images of a class that are explained, and images of all classes that pixels are compared by."""
_CLASSES, _SHOWN, _EXAMPLES = 20, 6, 3
"""Classes that are looked at, clusters that a report shows, and images of each."""


def strategies_account(case: Case) -> LayerAccount:
    """Return the clusters of the maps of the first classes, the strangest first.

    Raises:
        DataError: no class has enough images.
        UnsupportedError: LRP cannot explain the model.
    """
    data = case.model.data
    split = fitted_split(data)
    spread = pixel_spread(some_images(data, split, _OTHERS, case.seed))
    counts, found = list[int](), list[tuple[int, Spray, MapCluster]]()
    why: DataError | UnsupportedError | None = None
    for label in range(min(_CLASSES, len(data.spec.class_names))):
        try:
            maps = class_maps(case.model.module, images_of_class(data, split, label, _IMAGES, case.seed), label)
            of_class = spray(maps, spread, seed=case.seed)
        except (DataError, UnsupportedError) as error:  # too few images of this class, or nothing speaks for it
            why = error
            continue
        counts.append(of_class.clustering.count)
        found = _strangest([*found, *((label, of_class, cluster) for cluster in of_class.clusters)])
    if why is not None and not found:
        raise why
    dataset, names = data.dataset(split), data.spec.class_names
    lies = [_places(dataset, one, cluster, data.spec.part_names) for _, one, cluster in found]
    figures = {"spray_clusters": float(np.mean(counts)), "spray_strangest": found[0][2].strangeness}
    for place in lies[0]:
        if place.name == TAG_NAME:
            figures |= {"spray_on_tag": place.share, "spray_tag_area": place.area}
    shown = [
        _shown(dataset, names[label], one, cluster, there)
        for (label, one, cluster), there in zip(found, lies, strict=True)
    ]
    return LayerAccount(figures, clusters=shown)


def _strangest(found: list[tuple[int, Spray, MapCluster]]) -> list[tuple[int, Spray, MapCluster]]:
    """Return the few clusters that are shown; maps of the others need not be kept."""
    return sorted(found, key=lambda one: -one[2].strangeness)[:_SHOWN]


def _places(dataset: Any, found: Spray, cluster: MapCluster, names: tuple[str, ...]) -> list[Place]:
    """Return what a cluster's relevance lies on; nothing where the data has no masks."""
    index = found.given.index[cluster.members].tolist()
    try:
        return places(found.given.maps[cluster.members], dataset, index, names)
    except UnsupportedError:
        return []


def _shown(dataset: Any, name: str, found: Spray, cluster: MapCluster, there: list[Place]) -> ShownCluster:
    few = cluster.members[:_EXAMPLES]
    images = torch.stack([dataset[int(found.given.index[member])].image for member in few])
    size = (images.shape[2], images.shape[3])
    mean = upsample(found.given.small[cluster.members].mean(0, keepdim=True), size)[0]
    return ShownCluster(
        class_name=name,
        images=len(cluster),
        of=len(found.given),
        kinds=found.clustering.count,
        gap=found.clustering.gap,
        chance=found.clustering.chance,
        strangeness=cluster.strangeness,
        half=cluster.half,
        lies_on=str(there[0]) if there else "",
        mean=_picture(mean),
        relevance=cluster.relevance.numpy(),
        examples=[_picture(image) for image in images],
        maps=[found.given.maps[int(member)].numpy() for member in few],
    )


def _picture(image: Tensor) -> npt.NDArray[np.float32]:
    picture: npt.NDArray[np.float32] = image.permute(1, 2, 0).clamp(0, 1).float().numpy()
    return picture
