"""Densities of images that are learned from images: what is unlike them is avoided (Montavon et al. 2018)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ibd.errors import ConfigError, DataError
from ibd.explain.feature_visualization.penalties import Weighted


@dataclass(frozen=True)
class GaussianExpert(Weighted):
    """Minus the log density of a Gaussian fitted on images, but for a constant (Montavon et al. 2018).

    Its covariance has the images' main directions, and the same variance in all others.

    Attributes:
        mean: (3, H, W) mean image.
        directions: (R, 3 H W), orthonormal.
        variances: (R,) along them.
        rest: variance along all other directions.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    rest: float

    @classmethod
    def fit(
        cls, images: Tensor, directions: int = 64, ridge: float = 1e-3, share: float = 0.3, weight: float | None = None
    ) -> GaussianExpert:
        """Return the Gaussian of images.

        Args:
            images: (N, 3, H, W) in [0, 1], at the size at which images will be made.
            directions: main directions to keep; at most N - 1.
            ridge: least variance of a pixel in any direction.
            share: share of the first gain, see `Weighted`.
            weight: a factor in its place.

        Raises:
            DataError: fewer than two images.
        """
        if images.dim() != 4 or len(images) < 2:
            raise DataError(f"an expert is fitted on at least two images (N, 3, H, W), not {tuple(images.shape)}")
        flat = images.detach().float().flatten(1)
        mean = flat.mean(0)
        kept = min(directions, len(flat) - 1)
        _, singular, rows = torch.linalg.svd(flat - mean, full_matrices=False)
        variances = singular.square() / (len(flat) - 1)
        rest = float(variances[kept:].sum()) / max(1, flat.shape[1] - kept)
        variances = variances[:kept] + ridge
        return cls(mean.view(images.shape[1:]), rows[:kept], variances, rest + ridge, share=share, weight=weight)

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty: half the squared Mahalanobis distance from the mean, over the number of pixels.

        Raises:
            ConfigError: images of another size than those fitted on.
        """
        along, beside = _along(image, self.mean, self.directions)
        distance = (along.square() / self.variances.to(image)).sum(1) + beside / self.rest
        return 0.5 * distance / self.mean.numel()


@dataclass(frozen=True)
class MixtureExpert(Weighted):
    """Minus the log density of a mixture of Gaussians of each class, less its least value, over the number of pixels.

    The Gaussians are in the images' main directions, with a variance for each; in all other directions there is one.
    Without the constant, the penalty is 0 or more: the log density of the mixture were all its means in one place.

    Attributes:
        mean: (C, H, W) mean image.
        directions: (R, C H W), orthonormal.
        means: (K, M, R) of the M Gaussians of K classes, along the directions.
        variances: (K, M, R).
        weights: (K, M) share of each Gaussian in its class.
        rest: variance along all other directions.
        classes: which of the K for each image that is made; None where there is one, or they are made in order.
    """

    mean: Tensor
    directions: Tensor
    means: Tensor
    variances: Tensor
    weights: Tensor
    rest: float
    classes: tuple[int, ...] | None = None

    @classmethod
    def fit(
        cls,
        images: Tensor,
        labels: Tensor | None = None,
        gaussians: int = 4,
        directions: int = 64,
        ridge: float = 1e-3,
        classes: Sequence[int] | None = None,
        seed: int = 0,
        share: float = 0.3,
        weight: float | None = None,
    ) -> MixtureExpert:
        """Return the mixtures of images, one for each class, by scikit-learn.

        Args:
            images: (N, C, H, W) in [0, 1], at the size at which images will be made.
            labels: (N,) classes from 0; None takes one mixture for all. Those in `classes` are fitted, or all.
            gaussians: Gaussians of a class; fewer where it has fewer than two images for each.
            directions: main directions to keep; at most N - 1.
            ridge: least variance of a pixel in any direction.
            classes: class of each image that will be made; None takes image k to be of class k.
            seed: seed of the fit.
            share: share of the first gain, see `Weighted`.
            weight: a factor in its place.

        Raises:
            DataError: fewer than two images, other labels than images, or a class without two images.
        """
        base = GaussianExpert.fit(images, directions, ridge)
        labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels.cpu()
        if labels.shape != (len(images),):
            raise DataError(f"expert: labels (N,) of the {len(images)} images are needed, not {tuple(labels.shape)}")
        along = (images.detach().float().flatten(1) - base.mean.flatten()) @ base.directions.t()
        needed = list(range(int(labels.max()) + 1)) if classes is None else sorted(set(classes))
        fitted = []
        for number in needed:
            own = along[labels == number].double().cpu().numpy()
            if len(own) < 2:
                raise DataError(f"expert: class {number} has {len(own)} images: two are needed")
            fitted.append(_mixture(own, max(1, min(gaussians, len(own) // 2)), ridge, seed))
        most = max(len(found.weights_) for found in fitted)
        filled = [[_filled(getattr(found, key), most) for found in fitted] for key in _FITTED]
        means, variances, weights = (torch.stack(values).to(along) for values in filled)
        chosen = None if classes is None else tuple(map(needed.index, classes))
        return cls(
            *(base.mean, base.directions, means, variances, weights, base.rest, chosen), share=share, weight=weight
        )

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty.

        Raises:
            ConfigError: images of another size than those fitted on, or another number of images than classes.
        """
        along, beside = _along(image, self.mean, self.directions)
        own = self._own(len(image))
        means, variances, weights = (
            values.to(image, copy=True)[own] for values in (self.means, self.variances, self.weights)
        )  # each (B, M, ...)
        distance = ((along.unsqueeze(1) - means).square() / variances).sum(2)
        height = weights.log() - 0.5 * variances.log().sum(2)
        density = torch.logsumexp(height - 0.5 * distance, 1) - torch.logsumexp(height, 1)
        return (0.5 * beside / self.rest - density) / self.mean.numel()

    def _own(self, count: int) -> list[int]:
        """Return the class of each image that is made."""
        known = len(self.means)
        chosen = self.classes if self.classes is not None else tuple(range(count)) if known > 1 else (0,) * count
        if len(chosen) != count or max(chosen) >= known:
            raise ConfigError(
                f"expert: mixtures of {known} classes, and {count} images: classes= says which of them is of which"
            )
        return list(chosen)


_FITTED = ("means_", "covariances_", "weights_")


def _mixture(vectors: Any, gaussians: int, ridge: float, seed: int) -> Any:
    """Return scikit-learn's mixture of Gaussians of (N, R) vectors."""
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best that was found will do
        return GaussianMixture(gaussians, covariance_type="diag", reg_covar=ridge, random_state=seed).fit(vectors)


def _filled(values: Any, most: int) -> Tensor:
    """Return what each of some Gaussians has, with Gaussians of no weight for those that are missing."""
    given = torch.as_tensor(values)
    missing = given[:1].expand(most - len(given), *given.shape[1:])
    return torch.cat([given, missing if given.dim() > 1 else torch.zeros_like(missing)])


def _along(image: Tensor, mean: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far images are from a mean: (B, R) along directions, and the (B,) square of the rest.

    Raises:
        ConfigError: images of another size than the mean.
    """
    if image.shape[1:] != mean.shape:
        raise ConfigError(f"expert: fitted on images {tuple(mean.shape)}, and asked about {tuple(image.shape[1:])}")
    away = (image - mean.to(image)).flatten(1)
    along = away @ directions.to(image, copy=True).t()  # it may have been made in inference mode
    return along, (away.square().sum(1) - along.square().sum(1)).clamp(min=0)
