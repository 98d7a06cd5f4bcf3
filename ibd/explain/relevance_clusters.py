"""Kinds of relevance maps: maps clustered spectrally, and how many kinds there are (Lapuschkin et al. 2019, SpRAy)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, check_range

Floats = npt.NDArray[np.float64]
_SMALL = 0.01
"""Eigenvalues below this count as alike: a gap between them says nothing."""


@dataclass(frozen=True)
class Clustering:
    """Which of N maps are alike.

    Attributes:
        labels: (N,) number of each map's cluster, 0 to `count` - 1; the largest cluster comes first.
        eigenvalues: (m,) smallest eigenvalues of the normalized Laplacian of the maps' graph, from 0 on.
        gaps: (m - 2,) relative gap behind 2, 3, ... eigenvalues, 0 to 1: what speaks for so many clusters.
        chance: largest relative gap of maps without clusters, which have the same mean and covariance.
        count: number of clusters; 1 where no gap is larger than by chance.
    """

    labels: Tensor
    eigenvalues: Tensor
    gaps: Tensor
    chance: float
    count: int

    @property
    def gap(self) -> float:
        """The largest relative gap."""
        return float(self.gaps.max())


def cluster_maps(
    maps: Tensor,
    cells: int = 16,
    neighbors: int = 10,
    most: int = 10,
    clusters: int | None = None,
    draws: int = 19,
    seed: int = 0,
) -> Clustering:
    """Return which maps are alike, with as many clusters as the gap in the spectrum of their graph says.

    Maps are made small and of length 1, and each is joined with its nearest neighbors. The eigenvalues of the graph's
    normalized Laplacian are near 0 as often as there are parts that hang together loosely (von Luxburg 2007), so that
    there is a gap behind them. It is measured relative to the eigenvalue above it, ``(b - a) / (b + 0.01)``: gaps grow
    along the spectrum by themselves, so that the widest one is mostly that of needlessly many clusters. Maps that are
    drawn from one normal distribution, with the mean and the covariance of these, have gaps, too: where the largest is
    not above those of all draws (p <= 1 / (draws + 1)), the maps are of one kind.

    Args:
        maps: (N, H, W) signed.
        cells: cells along a side that maps are averaged to, where they are larger.
        neighbors: neighbors that a map is joined with.
        most: largest number of clusters that is looked for.
        clusters: number of clusters; None takes what the gap says.
        draws: draws of maps without clusters.
        seed: seed of these draws.

    Raises:
        DataError: too few maps for so many neighbors or clusters, or values that are not finite.
        ConfigError: a number that cannot be.
    """
    check_range("neighbors", neighbors, least=1)
    check_range("most", most, least=2)
    check_range("cells", cells, least=2)
    if clusters is not None:
        check_range("clusters", clusters, least=1)
        most = max(most, clusters)
    if maps.dim() != 3:
        raise ConfigError(f"maps of shape {tuple(maps.shape)} given, (N, H, W) is needed")
    least = max(2 * neighbors, most + 2)
    if len(maps) < least:
        raise DataError(f"clusters: {len(maps)} maps given, at least {least} are needed")
    if not bool(maps.isfinite().all()):
        raise DataError("clusters: maps with values that are not finite")
    points = _points(maps, cells)
    graph = _graph(points, neighbors)
    values = _spectrum(graph, most + 1)
    gaps = relative_gaps(values)
    chance = max((float(relative_gaps(v).max()) for v in _by_chance(points, neighbors, most, draws, seed)), default=0.0)
    found = int(gaps.argmax()) + 2 if gaps.max() > chance else 1
    count = clusters or found
    labels = _by_size(_members(graph, count, seed), count)
    return Clustering(
        torch.from_numpy(labels), torch.from_numpy(values), torch.from_numpy(gaps), chance, int(labels.max()) + 1
    )


def relative_gaps(eigenvalues: Floats) -> Floats:
    """Return ``(b - a) / (b + 0.01)`` of each eigenvalue a but the first, and the one behind it: (m,) -> (m - 2,)."""
    low, high = eigenvalues[1:-1], eigenvalues[2:]
    gaps: Floats = (high - low) / (high + _SMALL)
    return gaps


def _points(maps: Tensor, cells: int) -> Floats:
    """Return maps as (N, D) vectors of length 1; maps of nothing stay 0."""
    size = (min(cells, maps.shape[1]), min(cells, maps.shape[2]))
    small = F.adaptive_avg_pool2d(maps.detach().double().cpu().unsqueeze(1), size).flatten(1)
    points: Floats = F.normalize(small, dim=1, eps=torch.finfo(torch.float64).tiny).numpy()
    return points


def _graph(points: Floats, neighbors: int) -> Any:
    """Return the sparse (N, N) graph in which two points are joined where either is a nearest neighbor of the other."""
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(points, neighbors, include_self=False)
    return near.maximum(near.T)


def _spectrum(graph: Any, count: int) -> Floats:
    """Return the smallest eigenvalues of a graph's normalized Laplacian, in order; none is below 0."""
    from scipy.linalg import eigh
    from scipy.sparse.csgraph import laplacian

    whole = laplacian(graph, normed=True).toarray()
    values: Floats = eigh(whole, subset_by_index=[0, count - 1], eigvals_only=True)
    return values.clip(min=0)


def _by_chance(points: Floats, neighbors: int, most: int, draws: int, seed: int) -> Iterator[Floats]:
    """Yield spectra of points from one normal distribution of the same mean and covariance.

    Distances are those of the coordinates along principal axes, which are independent there.
    """
    rng = np.random.default_rng(seed)
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False) / np.sqrt(len(points))
    for _ in progress(range(draws), "maps without clusters"):
        drawn = rng.standard_normal((len(points), len(spread))) * spread
        yield _spectrum(_graph(drawn, neighbors), most + 1)


def _members(graph: Any, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the cluster of each node."""
    import warnings

    from sklearn.cluster import SpectralClustering

    if count == 1:
        return np.zeros(graph.shape[0], dtype=np.int64)
    spectral = SpectralClustering(count, affinity="precomputed", assign_labels="cluster_qr", random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Graph is not fully connected")  # which is what clear clusters are
        labels: npt.NDArray[np.int64] = spectral.fit_predict(graph).astype(np.int64)
    return labels


def _by_size(labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return labels that are counted by size, the largest cluster first; none is left empty."""
    sizes = np.bincount(labels, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    ranks = np.empty(count, dtype=np.int64)
    ranks[order] = np.arange(count)
    renamed: npt.NDArray[np.int64] = ranks[labels]
    return renamed
