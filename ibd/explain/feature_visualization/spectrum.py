"""Images of a fixed magnitude spectrum, of which the phases alone are optimized (MACO, Fel et al. 2023).

That of natural images, so that neither fine noise nor more contrast than theirs can excite a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.explain.feature_visualization.parametrizations import Canvas, Colors, Parametrization, frequencies, logits


@dataclass(frozen=True)
class FixedSpectrum(Parametrization):
    """The phases of the spectrum of the logits' independent colors; their magnitudes stay as they are.

    Attributes:
        magnitude: (C, H, W // 2 + 1) of the real Fourier transform ("ortho"); that of the mean may be negative.
        colors: colors that go together.
    """

    magnitude: Tensor
    colors: Colors = field(default_factory=Colors.natural)
    lr: ClassVar[float] = 0.5

    @classmethod
    def of(cls, images: Tensor) -> FixedSpectrum:
        """Return the mean magnitudes, and the colors, of images.

        Args:
            images: (N, C, H, W) in [0, 1], at the size at which images will be made.

        Raises:
            DataError: they are no images, or all of one color.
        """
        colors = Colors.of(images)
        spectrum = torch.fft.rfft2(colors.unmix(logits(images.detach().float())), norm="ortho")
        magnitude = spectrum.abs().mean(0)
        magnitude[:, 0, 0] = spectrum[:, :, 0, 0].real.mean(0)
        return cls(magnitude, colors)

    @classmethod
    def natural(cls, size: tuple[int, int], contrast: float = 1.0) -> FixedSpectrum:
        """Return magnitudes that fall with the frequency, as those of photographs do, and their colors.

        Args:
            size: H and W.
            contrast: standard deviation of the independent colors' logits.
        """
        magnitude = 1 / frequencies(*size)
        magnitude[0, 0] = 0.0
        sides = torch.full((size[1] // 2 + 1,), 2.0)  # all columns but the outermost stand for two frequencies
        sides[0] = 1.0
        if size[1] % 2 == 0:
            sides[-1] = 1.0
        power = (magnitude.square() * sides).sum() / (size[0] * size[1])
        return cls((contrast * magnitude / power.sqrt()).expand(3, -1, -1).clone())

    def start(self, like: Tensor, generator: torch.Generator, image: Tensor | None) -> Canvas:
        """Return a canvas of random phases, or of those of an image.

        Raises:
            ConfigError: another size, or other channels, than those of the spectrum.
        """
        batch, channels, height, width = like.shape
        if self.magnitude.shape != (channels, height, width // 2 + 1):
            raise ConfigError(
                f"spectrum: magnitudes {tuple(self.magnitude.shape)} are not of images {tuple(like.shape[1:])}: "
                f"({channels}, {height}, {width // 2 + 1}) is needed"
            )
        magnitude = self.magnitude.to(like, copy=True)
        if image is None:
            phases = 2 * torch.pi * torch.rand((batch, *magnitude.shape), generator=generator)
        else:
            phases = torch.fft.rfft2(self.colors.unmix(logits(image))).angle()
        phases = phases.to(like).detach().clone().requires_grad_()

        def draw() -> Tensor:
            angles = _odd(phases, width)
            spectrum = torch.complex(magnitude * angles.cos(), magnitude * angles.sin())
            return self.colors.mix(torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")).sigmoid()

        return Canvas([phases], draw)


def _odd(phases: Tensor, width: int) -> Tensor:
    """Return (..., H, W // 2 + 1) phases that a real image can have: minus a frequency has minus its phase.

    The frequencies that come twice are those of the first column, and of the last where W is even.
    """
    columns = torch.tensor([0, width // 2] if width % 2 == 0 else [0], device=phases.device)
    some = phases.index_select(-1, columns)
    return phases.index_copy(-1, columns, (some - some.flip(-2).roll(1, -2)) / 2)
