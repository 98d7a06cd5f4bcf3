"""Whether axes are independent: correlation and whiteness over pixels, separation of concepts over images."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.metrics.base import DetailedMetric

_ROUNDING = 1e-12
"""What float64 may make of a 0, relative to the numbers it came from."""


class Whiteness(NamedTuple):
    """How far a covariance matrix is from the identity."""

    diagonal: Tensor
    """Mean of the diagonal, minus 1; below 0 where the variances are too small."""
    off_diagonal: Tensor
    """Mean absolute value beside the diagonal."""


def mean_off_diagonal(matrix: Tensor) -> Tensor:
    """Return the mean of a (D, D) matrix beside its diagonal, NaN left out; NaN where that leaves nothing."""
    beside = ~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return matrix[beside].nanmean()


def correlation_matrix(covariance: Tensor, mean: Tensor | None = None) -> Tensor:
    """Return the (D, D) correlations of a covariance, in [-1, 1]; NaN for an axis that does not vary.

    Args:
        covariance: (D, D) float64.
        mean: (D,) of the axes; if given, a variance that is mere rounding beside it counts as none.
    """
    variance = covariance.diagonal()
    floor = torch.zeros_like(variance) if mean is None else (_ROUNDING * mean).square()
    scale = variance.where(variance > floor, torch.nan).rsqrt()
    return (covariance * scale * scale.unsqueeze(1)).clamp(-1, 1)


def axis_correlation(maps: Tensor) -> Tensor:
    """Return the mean absolute correlation between different axes over all pixels, in [0, 1]; see `AxisCorrelation`.

    Args:
        maps: (B, D, h, w), or (N, D).
    """
    metric = AxisCorrelation(maps.shape[1]).to(maps.device)
    metric.update(maps)
    return metric.compute()


class AxisCorrelation(DetailedMetric):
    """Mean absolute correlation between different axes over all pixels of all images, in [0, 1]; lower is better.

    After the matrices that Chen et al. (2020) show. An axis that does not vary correlates with nothing and is left out.
    The moments are merged batch by batch, each around its own mean (Chan, Golub and LeVeque 1979), in float64, so that
    neither a large mean nor a long stream costs digits.

    Args:
        axes: number of axes D.
        **kwargs: arguments of torchmetrics.
    """

    higher_is_better = False
    moments: Tensor

    def __init__(self, axes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # One state, so that it stays whole when processes are merged: [[n, mean], [mean, sum of centered products]].
        self.add_state("moments", torch.zeros(axes + 1, axes + 1, dtype=torch.float64), dist_reduce_fx=_merge)

    def update(self, maps: Tensor) -> None:
        """Add (B, D, h, w) activations, or (N, D)."""
        if not maps.numel():
            return
        value = maps.detach().movedim(1, -1).flatten(0, -2).double()
        mean = value.mean(0)
        centered = value - mean
        products = centered.t() @ centered
        self.moments = _merged(self.moments, _packed(torch.full_like(mean[:1], len(value)), mean, products))

    def covariance(self) -> Tensor:
        """Return (D, D) float64, divided by the number of pixels; NaN before any. Every process must call it."""
        with self._of_all_processes():
            return self._covariance()

    def correlation(self) -> Tensor:
        """Return (D, D) float64 in [-1, 1]; NaN for an axis that does not vary. Every process must call it."""
        with self._of_all_processes():
            return self._correlation()

    def whiteness(self) -> Whiteness:
        """Return how far the covariance is from the identity that whitening promises; every process must call it."""
        covariance = self.covariance()
        return Whiteness(covariance.diagonal().mean() - 1, mean_off_diagonal(covariance.abs()))

    def compute(self) -> Tensor:
        """Return the mean over pairs of axes that vary; NaN where there is none."""
        return mean_off_diagonal(self._correlation().abs()).float()

    def _covariance(self) -> Tensor:
        count = self.moments[0, 0]
        return self.moments[1:, 1:] / count.where(count > 0, torch.nan)

    def _correlation(self) -> Tensor:
        return correlation_matrix(self._covariance(), self.moments[0, 1:])


def _packed(count: Tensor, mean: Tensor, products: Tensor) -> Tensor:
    """Return (1 + D, 1 + D) of a (1,) count, (D,) means and (D, D) sums of centered products."""
    head = torch.cat([count, mean]).unsqueeze(0)
    return torch.cat([head, torch.cat([mean.unsqueeze(1), products], 1)])


def _merged(first: Tensor, second: Tensor) -> Tensor:
    """Return the moments of two sets together."""
    a, b = first[:1, 0], second[:1, 0]
    count = a + b
    share = b / count.clamp(min=1)
    apart = second[0, 1:] - first[0, 1:]
    products = first[1:, 1:] + second[1:, 1:] + a * share * torch.outer(apart, apart)
    return _packed(count, first[0, 1:] + share * apart, products)


def _merge(stacked: Tensor) -> Tensor:
    """Return the moments of several processes, (W, 1 + D, 1 + D), together."""
    moments = stacked[0]
    for other in stacked[1:]:
        moments = _merged(moments, other)
    return moments


class ConceptSeparation(DetailedMetric):
    """How alike the images of two concepts are, beside how alike those of one are (Chen et al. 2020); lower is better.

    D_ij = abs(mean cos(i, j)) / sqrt(abs(mean cos(i, i) * mean cos(j, j))), the mean over pairs of an image that
    holds concept i and one that holds concept j, of the cosine between their representations; `compute` returns the
    mean over i != j. 1 where concepts are not told apart. The mean is exact and needs no pairs: it follows from the sum
    of unit vectors of each concept. An image is never paired with itself, neither in cos(i, i) nor, where it holds
    both, in cos(i, j). An image without any activation has no direction and is left out.

    Args:
        concepts: number of concepts K.
        axes: number of axes D.
        **kwargs: arguments of torchmetrics.
    """

    higher_is_better = False
    sums: Tensor
    shared: Tensor

    def __init__(self, concepts: int, axes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("sums", torch.zeros(concepts, axes, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("shared", torch.zeros(concepts, concepts, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, representation: Tensor, concepts: Tensor) -> None:
        """Add a batch.

        Args:
            representation: (B, D), the mean over pixels of the activations.
            concepts: (B, K), held where above 0.5; unknown (NaN) counts as not held.
        """
        value = representation.detach().double()
        direction = F.normalize(value, dim=1, eps=1e-300)
        held = ((concepts > 0.5) & (value != 0).any(1, keepdim=True)).double()
        self.sums += held.t() @ direction
        self.shared += held.t() @ held

    def matrix(self) -> Tensor:
        """Return D (K, K) float64, 1 on the diagonal; NaN for a concept of fewer than two images, or of unrelated ones.

        Every process must call it.
        """
        with self._of_all_processes():
            return self._values()

    def compute(self) -> Tensor:
        """Return the mean over pairs of different concepts of two images or more; NaN where there is none."""
        return mean_off_diagonal(self._values()).float()

    def _values(self) -> Tensor:
        count = self.shared.diagonal()
        pairs = torch.outer(count, count) - self.shared  # an image with itself has cosine 1
        cosine = (self.sums @ self.sums.t() - self.shared) / pairs.where(pairs > 0, torch.nan)
        within = cosine.diagonal().abs()
        scale = within.where(within > _ROUNDING, torch.nan).rsqrt()
        return cosine.abs() * scale * scale.unsqueeze(1)
