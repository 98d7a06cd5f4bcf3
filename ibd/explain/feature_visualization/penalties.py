"""What an image is made to avoid: a number for each image, weighted and subtracted from the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError, DataError
from ibd.explain.baselines import blurred

Penalty = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] -> (B,)."""


@dataclass(frozen=True)
class L2:
    """Mean square of the pixels' distance from gray: activation maximization as Simonyan et al. 2014 do it."""

    weight: float = 1.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        return self.weight * (image - 0.5).square().flatten(1).mean(1)


@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighboring pixels, of those beside plus those below each other."""

    weight: float = 1.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        return self.weight * sum(
            (image.diff(dim=dim).abs().flatten(1).mean(1) for dim in (2, 3)), image.new_zeros(len(image))
        )


@dataclass(frozen=True)
class Nearness:
    """How much of another image was changed: mean absolute difference, and the total variation of the difference.

    Made from that image, only what is needed changes, and in few pieces.

    Attributes:
        image: (3, H, W) or (B, 3, H, W).
        weight: weight of the difference.
        variation: weight of its total variation.
    """

    image: Tensor
    weight: float = 3.0
    variation: float = 10.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        change = image - self.image.to(image)
        return self.weight * change.abs().flatten(1).mean(1) + TotalVariation(self.variation)(change)


@dataclass(frozen=True)
class Blur:
    """Mean square of the difference from the image out of focus: as if it were blurred a little at each step.

    Attributes:
        weight: factor of the penalty.
        sigma: sigma of the Gaussian, in pixels.
    """

    weight: float = 1.0
    sigma: float = 1.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty; only the sharp image is moved towards the other, not the other way."""
        return self.weight * (image - blurred(image.detach(), self.sigma)).square().flatten(1).mean(1)


@dataclass(frozen=True)
class HighFrequency:
    """Mean power of the spectrum, each frequency (in cycles per pixel, at most 0.5 an axis) times itself squared."""

    weight: float = 1.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        down, across = torch.fft.fftfreq(image.shape[2])[:, None], torch.fft.fftfreq(image.shape[3])[None, :]
        power: Tensor = torch.fft.fft2(image, norm="ortho").abs().square()
        squared = (down.square() + across.square()).to(image)
        mean: Tensor = (power * squared).flatten(1).mean(1)
        return self.weight * mean


@dataclass(frozen=True)
class GaussianExpert:
    """Minus the log density of a Gaussian fitted on images, but for a constant (Montavon et al. 2018).

    Its covariance has the images' main directions, and the same variance in all others.

    Attributes:
        mean: (3, H, W) mean image.
        directions: (R, 3 H W), orthonormal.
        variances: (R,) along them.
        rest: variance along all other directions.
        weight: factor of the penalty.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    rest: float
    weight: float = 1.0

    @classmethod
    def fit(cls, images: Tensor, directions: int = 64, weight: float = 1.0, ridge: float = 1e-3) -> GaussianExpert:
        """Return the Gaussian of images.

        Args:
            images: (N, 3, H, W) in [0, 1], at the size at which images will be made.
            directions: main directions to keep; at most N - 1.
            weight: factor of the penalty.
            ridge: least variance of a pixel in any direction.

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
        return cls(mean.view(images.shape[1:]), rows[:kept], variances[:kept] + ridge, rest + ridge, weight)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty: half the squared Mahalanobis distance from the mean, over the number of pixels.

        Raises:
            ConfigError: images of another size than those fitted on.
        """
        if image.shape[1:] != self.mean.shape:
            raise ConfigError(
                f"expert: fitted on images {tuple(self.mean.shape)}, and asked about {tuple(image.shape[1:])}"
            )
        away = (image - self.mean.to(image)).flatten(1)
        along = away @ self.directions.to(image, copy=True).t()  # it may have been made in inference mode
        beside = (away.square().sum(1) - along.square().sum(1)) / self.rest
        distance = (along.square() / self.variances.to(image)).sum(1) + beside
        return 0.5 * self.weight * distance / away.shape[1]
