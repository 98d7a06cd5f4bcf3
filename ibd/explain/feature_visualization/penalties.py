"""What an image is made to avoid: a number for each image, weighed and subtracted from the objective."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.explain.baselines import blurred

Penalty = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [0, 1] -> (B,)."""


@dataclass(frozen=True, kw_only=True)
class Weighted(abc.ABC):
    """A penalty whose weight means something, whatever the scale of the objective.

    A share s of 0.3 says: of what the objective gained over the first steps, in which there is no penalty, the penalty
    of the image at their end takes away three tenths. The gain counts from a gray image, or from the start where that
    was lower. As penalties are 0 or more, an image without any penalty that has lost all of this gain is never better
    than that image: with shares of less than 1 in all, nothing fades to a gray that is no better. An image that gains
    nothing, as its class was there already and is there in gray too, keeps its noise.

    Attributes:
        share: share of the first gain, above 0 and at most 1.
        weight: a factor of your own in place of the share.
    """

    share: float = 0.3
    weight: float | None = None

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 < self.share <= 1:
            raise ConfigError(f"penalty: share: {self.share} given, above 0 and at most 1 is needed")

    def __call__(self, image: Tensor) -> Tensor:
        """Return the penalty of (B, C, H, W) images in [0, 1], (B,), times the weight if there is one."""
        return self.size(image) if self.weight is None else self.weight * self.size(image)

    @abc.abstractmethod
    def size(self, image: Tensor) -> Tensor:
        """Return the penalty without a weight, (B,), 0 or more."""


@dataclass(frozen=True)
class L2(Weighted):
    """Mean square of the pixels' distance from gray: activation maximization as Simonyan et al. 2014 do it."""

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        return (image - 0.5).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Norm(Weighted):
    """Mean of the pixels' distance from gray to a power: a high one leaves all but extreme pixels alone.

    Attributes:
        power: alpha of Mahendran & Vedaldi 2015, who take 6.
    """

    power: float = 6.0

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        return (2 * image - 1).abs().pow(self.power).flatten(1).mean(1)


@dataclass(frozen=True)
class TotalVariation(Weighted):
    """Mean absolute difference of neighboring pixels, of those beside plus those below each other."""

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        return sum((image.diff(dim=dim).abs().flatten(1).mean(1) for dim in (2, 3)), image.new_zeros(len(image)))


@dataclass(frozen=True)
class Roughness(Weighted):
    """Mean of (dx^2 + dy^2)^(power / 2), dx and dy the differences from the pixels beside and below.

    Attributes:
        power: beta of Mahendran & Vedaldi 2015: 1 is isotropic total variation, 2 does without its spikes.
    """

    power: float = 2.0

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        across, down = image.diff(dim=3)[:, :, :-1], image.diff(dim=2)[:, :, :, :-1]
        squared = across.square() + down.square()
        tiny = torch.finfo(image.dtype).eps ** 2  # a root has no slope at 0
        powered = squared if self.power == 2 else (squared + tiny) ** (self.power / 2)
        return powered.flatten(1).mean(1)


@dataclass(frozen=True)
class Nearness(Weighted):
    """How much of another image was changed: mean absolute difference, and the total variation of the difference.

    Made from that image, only what is needed changes, and in few pieces.

    Attributes:
        image: (C, H, W) or (B, C, H, W).
        variation: weight of the total variation, beside one of 1 of the difference.
    """

    image: Tensor
    variation: float = 3.0

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        change = image - self.image.to(image)
        return change.abs().flatten(1).mean(1) + self.variation * TotalVariation().size(change)


@dataclass(frozen=True)
class Blur(Weighted):
    """Mean square of the difference from the image out of focus: as if it were blurred a little at each step.

    Attributes:
        sigma: sigma of the Gaussian, in pixels.
    """

    sigma: float = 1.0

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty; only the sharp image is moved towards the other, not the other way."""
        return (image - blurred(image.detach(), self.sigma)).square().flatten(1).mean(1)


@dataclass(frozen=True)
class HighFrequency(Weighted):
    """Mean power of the spectrum, each frequency (in cycles per pixel, at most 0.5 an axis) times itself squared."""

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty."""
        down, across = torch.fft.fftfreq(image.shape[2])[:, None], torch.fft.fftfreq(image.shape[3])[None, :]
        power: Tensor = torch.fft.fft2(image, norm="ortho").abs().square()
        squared = (down.square() + across.square()).to(image)
        mean: Tensor = (power * squared).flatten(1).mean(1)
        return mean
