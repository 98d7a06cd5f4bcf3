"""An expert that is learned: how much a small convolutional denoiser would change in an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.errors import DataError, check_range
from ibd.explain.feature_visualization.material import Source, descend, drawing, gathered
from ibd.explain.feature_visualization.penalties import Weighted

_DILATIONS = (1, 2, 4, 2, 1)
"""A pixel is denoised from those at most 11 away."""
_PATCH = 32


@dataclass(frozen=True)
class DenoisingExpert(Weighted):
    """Mean square of what a denoiser would take away from an image.

    Where the denoiser is the best there is for noise of deviation s, what it takes away is s^2 times the slope of minus
    the log density of noisy images (Alain & Bengio 2014): a step against it goes to what is more probable.

    Attributes:
        denoiser: (B, C, H, W) -> the same without noise, trained and frozen; of any size.
    """

    denoiser: nn.Module

    @classmethod
    def fit(
        cls,
        images: Source,
        noise: float = 0.15,
        width: int = 16,
        steps: int = 600,
        batch: int = 16,
        lr: float = 1e-2,
        seed: int = 0,
        progress: bool = True,
        share: float = 0.3,
        weight: float | None = None,
    ) -> DenoisingExpert:
        """Train a denoiser on patches of images, and return the expert.

        Args:
            images: (N, C, H, W) in [0, 1], a data loader, or a folder of image files.
            noise: standard deviation of the noise that is taken away.
            width: channels of its layers.
            steps: steps of training.
            batch: patches in each.
            lr: largest length of a step.
            seed: seed of weights, patches and noise.
            progress: whether to show a bar, if it takes more than two seconds.
            share: share of the first gain, see `Weighted`.
            weight: a factor in its place.

        Raises:
            ConfigError: a number out of its range.
            DataError: fewer than two images.
        """
        for key, value in (("noise", noise), ("lr", lr)):
            check_range(key, value, above=0.0)
        for key, value in (("width", width), ("steps", steps), ("batch", batch)):
            check_range(key, value, least=1)
        given = gathered(images, progress=progress)
        with drawing(seed) as generator:
            denoiser = Denoiser(given.shape[1], width).to(given.device)

            def loss(_: int) -> Tensor:
                clean = _patches(given, batch, generator)
                noisy = clean + noise * torch.randn(clean.shape, generator=generator).to(clean)
                return F.mse_loss(denoiser(noisy), clean)

            descend([denoiser], loss, steps, lr, "learning a denoiser", progress)
        return cls(denoiser, share=share, weight=weight)

    def size(self, image: Tensor) -> Tensor:
        """Return the penalty; only the image is moved towards what is made of it.

        Raises:
            DataError: the denoiser makes something else of images.
        """
        weight = next(self.denoiser.parameters(), image)
        with torch.no_grad():
            clean = self.denoiser(image.to(weight)).to(image)
        if clean.shape != image.shape:
            raise DataError(f"denoiser: it makes {tuple(clean.shape)} of images {tuple(image.shape)}")
        away: Tensor = (image - clean).square().flatten(1).mean(1)
        return away


class Denoiser(nn.Module):
    """Convolutions of growing and falling dilation; the last one gives the noise, which is taken away.

    Args:
        channels: channels of the images.
        width: channels within.
    """

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        sizes = [channels, *[width] * (len(_DILATIONS) - 1), channels]
        layers: list[nn.Module] = []
        for number, dilation in enumerate(_DILATIONS):
            layer = nn.Conv2d(sizes[number], sizes[number + 1], 3, dilation=dilation, padding=dilation)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # torch's own lets the signal fade
            layers += [layer, nn.ReLU()]
        nn.init.zeros_(layer.weight)  # it begins with what it is given
        self.noise = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, C, H, W) images without noise."""
        clean: Tensor = image - self.noise(image - 0.5)
        return clean


def _patches(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return patches at random, (count, C, p, p)."""
    height, width = (min(_PATCH, side) for side in images.shape[2:])
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    top = torch.randint(images.shape[2] - height + 1, (count,), generator=generator).tolist()
    left = torch.randint(images.shape[3] - width + 1, (count,), generator=generator).tolist()
    places = zip(chosen, top, left, strict=True)
    return torch.stack([images[number, :, y : y + height, x : x + width] for number, y, x in places])
