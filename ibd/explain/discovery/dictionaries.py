"""Concepts from vectors of features: factors, principal components, clusters of directions.

All of them write the features as activations times parts (Fel et al. 2023, "A holistic approach"): non-negative both
(NMF, as CRAFT does), orthogonal parts (PCA), or a single part at each place (k-means).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.directions import Directions
from ibd.explain.discovery.sparse_autoencoder import Training, train_autoencoder

Method = Literal["nmf", "sae", "pca", "kmeans"]
Rows = npt.NDArray[np.float32]
"""(N, D): vectors of features, perhaps in a file that is read as it is needed."""

_BOUNDED = ("nmf", "pca")
"""What finds at most as many concepts as there are channels."""
_NMF_STEPS = 200
_STARTS = 3
_CHUNK = 4096


@dataclass(frozen=True)
class Search:
    """How concepts are searched.

    Attributes:
        method: "nmf", "sae" (a sparse autoencoder), "pca" or "kmeans".
        k: number of concepts.
        seed: seed of all that is random in it.
        training: training of a sparse autoencoder.

    Raises:
        ConfigError: there is no such method, or no concept is asked for.
    """

    method: Method = "nmf"
    k: int = 20
    seed: int = 0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        """Check the options."""
        if self.method not in get_args(Method):
            raise ConfigError(f"method: '{self.method}' is not one of {', '.join(get_args(Method))}")
        check_range("k", self.k, least=1)
        active = self.training.active
        if active is not None and self.method != "sae":
            raise ConfigError(f"active: {active} given, which is for method=sae")
        if active is not None and active >= self.k:
            raise ConfigError(f"active: {active} of {self.k} concepts given: fewer may be active than there are")


def find_directions(
    rows: Rows, search: Search, layer: str = "", again: bool = False, device: torch.device | None = None
) -> Directions:
    """Return the concepts in (N, D) vectors of features, what carries most of them first.

    Args:
        rows: vectors; of a file only what a step needs is read, if the method is "sae".
        search: what is searched.
        layer: name of the layer that they are of; "" is the last feature map.
        again: whether this is done to see if the same is found again: it starts elsewhere then, where the method has a
            start of its own.
        device: device of the training of a sparse autoencoder; by default the CPU.

    Raises:
        ConfigError: more concepts than channels, where the method has no more.
        DataError: fewer vectors than concepts, or vectors that are all alike, or not finite.
        UnsupportedError: negative features, which "nmf" does not take apart.
    """
    place = f"layer '{layer}'" if layer else "the last feature map"
    _check(rows, search, place)
    if search.method == "nmf":
        found = _factors(rows, search, again)
    elif search.method == "pca":
        found = _components(rows, search)
    elif search.method == "kmeans":
        found = _clusters(rows, search, again)
    else:
        found = train_autoencoder(rows, search.k, search.training, search.seed, device)
    found.details.update({"k": search.k, "seed": search.seed, "vectors": len(rows)})
    return dataclasses.replace(_ordered(found, rows), layer=layer)


def _check(rows: Rows, search: Search, place: str) -> None:
    count, channels = rows.shape
    if search.k > channels and search.method in _BOUNDED:
        raise ConfigError(
            f"k: {search.k} given, {place} has {channels} channels, of which {search.method} makes no more concepts; "
            "method=sae or kmeans can"
        )
    if search.k > count:
        raise DataError(
            f"k: {search.k} concepts cannot be learned from {count} places: fewer of them, more images, or more cells "
            "of each"
        )
    lowest, highest = _range(rows)
    if not np.isfinite([lowest, highest]).all():
        raise DataError(f"{place} puts out values that are not finite")
    if lowest == highest:
        raise DataError(f"{place} puts out {lowest:g} everywhere: there is nothing to tell apart")
    if lowest < 0 and search.method == "nmf":
        raise UnsupportedError(
            f"{place} puts out negative numbers, down to {lowest:.3g}, which nmf does not take apart: name a layer "
            "after a ReLU, layer=..., or use method=sae, pca or kmeans"
        )


def _range(rows: Rows) -> tuple[float, float]:
    """Return the lowest and highest number, NaN where there is one."""
    parts = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    return float(np.min([part.min() for part in parts])), float(np.max([part.max() for part in parts]))


def _factors(rows: Rows, search: Search, again: bool) -> Directions:
    """Return the parts of a non-negative factorization, by coordinate descent (scikit-learn).

    The better one of two starts counts: from singular vectors, which is good as a rule, but stays where it is if two
    parts are as strong as each other; and a random one.
    """
    from sklearn.decomposition import NMF

    starts = ("random",) if again else ("nndsvda", "random")
    models = [NMF(search.k, init=start, random_state=search.seed, max_iter=_NMF_STEPS) for start in starts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could go on: what is left over is reported
        for model in models:
            model.fit(np.ascontiguousarray(rows))
    model = min(models, key=lambda fitted: float(fitted.reconstruction_err_))
    vectors = _unit(torch.from_numpy(np.asarray(model.components_, np.float32)))
    details = {"steps": int(model.n_iter_)}
    return Directions("", vectors, torch.zeros(search.k), _names(search.k), "nmf", "nonnegative", details)


def _components(rows: Rows, search: Search) -> Directions:
    """Return principal components, each in the direction of its longer tail."""
    from sklearn.decomposition import PCA

    model = PCA(search.k, random_state=search.seed)
    scores = torch.from_numpy(np.asarray(model.fit_transform(rows), np.float32))
    sign = torch.where(scores.pow(3).sum(0) < 0, -1.0, 1.0)
    vectors = torch.from_numpy(np.asarray(model.components_, np.float32)) * sign.unsqueeze(1)
    center = torch.from_numpy(np.asarray(model.mean_, np.float32))
    offsets = -(vectors @ center)
    return Directions("", vectors, offsets, _names(search.k), "pca", "linear", {}, parts=vectors, center=center)


def _clusters(rows: Rows, search: Search, again: bool) -> Directions:
    """Return the mean directions of clusters of vectors, all brought to length 1; the nearest is active at a place.

    Vectors count by their squared length, so that the sum of squares of what is left over of them becomes small.
    """
    from sklearn.cluster import KMeans

    length = np.linalg.norm(rows, axis=1, keepdims=True)
    some = length[:, 0] > 0
    if int(some.sum()) < search.k:
        raise DataError(f"k: {search.k} concepts cannot be learned from {int(some.sum())} places that are not 0")
    model = KMeans(search.k, n_init=1 if again else _STARTS, random_state=search.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different vectors than clusters: two concepts are the same then
        model.fit(rows[some] / length[some], sample_weight=np.square(length[some, 0]))
    vectors = _unit(torch.from_numpy(np.asarray(model.cluster_centers_, np.float32)))
    details = {"active": 1}
    return Directions("", vectors, torch.zeros(search.k), _names(search.k), "kmeans", "topk", details)


def _ordered(found: Directions, rows: Rows) -> Directions:
    """Return the concepts in the order of how much of the features they carry."""
    carried = torch.zeros(len(found), dtype=torch.float64)
    for part in chunks(rows):
        carried += found.read(part).double().square().sum(0)
    carried *= found.shown.double().square().sum(1)
    order = carried.argsort(descending=True, stable=True)
    changed: dict[str, Any] = {name: getattr(found, name)[order] for name in ("vectors", "offsets")}
    changed["parts"] = None if found.parts is None else found.parts[order]
    return dataclasses.replace(found, **changed)


def chunks(rows: Rows) -> Iterator[Tensor]:
    """Yield (n, D) vectors as tensors, a few at a time."""
    return (torch.from_numpy(np.array(rows[i : i + _CHUNK])) for i in range(0, len(rows), _CHUNK))


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"concept {number}" for number in range(1, count + 1))
