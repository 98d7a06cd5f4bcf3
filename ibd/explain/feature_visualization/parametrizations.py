"""What is optimized in place of the image, and how the image in [0, 1] comes from it.

The optimum stays where it is; the way there is another one (Olah et al. 2017): in decorrelated Fourier space all
frequencies and colors move at the same pace, and noise in the finest ones does not win.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, DataError

_EDGE = 0.01
"""An image to start from is kept this far from black and white, where the sigmoid has no slope."""


@dataclass
class Canvas:
    """An image that is being made.

    Attributes:
        parameters: leaves that are optimized.
        draw: function that returns the (B, C, H, W) image in [0, 1] they stand for.
        pull: a penalty (B,) on the parameters themselves, if any.
    """

    parameters: list[Tensor]
    draw: Callable[[], Tensor]
    pull: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Colors:
    """How colors go together: ``logit(pixel) = matrix @ independent + mean``.

    Attributes:
        matrix: (C, C), a square root of the covariance of the C colors, its longest column of length 1.
        mean: (C,) mean of the channels.
    """

    matrix: Tensor
    mean: Tensor

    @classmethod
    def natural(cls) -> Colors:
        """Return those of photographs (ImageNet, as lucid gives them): mostly light and dark, then blue to orange."""
        root = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
        return cls(root / root.norm(dim=0).max(), torch.zeros(3))

    @classmethod
    def of(cls, images: Tensor) -> Colors:
        """Return those of images (N, C, H, W) in [0, 1], with their mean color.

        Raises:
            DataError: they are no images, or all of one color.
        """
        if images.dim() != 4:
            raise DataError(f"colors are taken from images (N, C, H, W), not {tuple(images.shape)}")
        pixels = images.detach().double().cpu().transpose(0, 1).flatten(1)
        values, vectors = torch.linalg.eigh(torch.cov(pixels).view(len(pixels), len(pixels)))
        if float(values[-1]) <= 0:
            raise DataError("colors: these images are all of one color")
        floor = values[-1] * 1e-3  # gray images would fix the hue
        root = vectors * values.clamp(min=float(floor)).sqrt()
        mean = torch.logit(pixels.mean(1).clamp(_EDGE, 1 - _EDGE))
        return cls((root / root.norm(dim=0).max()).float(), mean.float())

    @classmethod
    def independent(cls, channels: int = 3) -> Colors:
        """Return each channel on its own."""
        return cls(torch.eye(channels), torch.zeros(channels))

    def mix(self, planes: Tensor) -> Tensor:
        """Return (B, C, H, W) logits of pixels.

        Raises:
            ConfigError: these are colors of another number of channels.
        """
        if planes.shape[1] != len(self.mean):
            raise ConfigError(
                f"colors: these have {len(self.mean)} channels, but the images {planes.shape[1]}: use Colors.of"
                f"(images) or Colors.independent({planes.shape[1]})"
            )
        matrix = self.matrix.to(planes, copy=True)  # it may have been made in inference mode
        return torch.einsum("rc,bchw->brhw", matrix, planes) + self.mean.to(planes).view(-1, 1, 1)

    def unmix(self, logits: Tensor) -> Tensor:
        """Return what `mix` makes these logits of."""
        planes = logits - self.mean.to(logits).view(-1, 1, 1)
        return torch.einsum("cr,brhw->bchw", torch.linalg.inv(self.matrix.double()).to(logits), planes)


class Parametrization(abc.ABC):
    """How an image is written down.

    Attributes:
        lr: length of a step of Adam that fits its numbers.
    """

    lr: ClassVar[float] = 0.1

    @abc.abstractmethod
    def start(self, like: Tensor, generator: torch.Generator, image: Tensor | None) -> Canvas:
        """Return a canvas of random numbers, or with an image on it.

        Args:
            like: (B, C, H, W): the shape, kind of numbers and device wanted.
            generator: generator of the random numbers, on the CPU.
            image: (B, C, H, W) in [0, 1].
        """


@dataclass(frozen=True)
class Pixels(Parametrization):
    """Logits of pixels.

    Attributes:
        colors: colors that go together.
        spread: standard deviation of the noise at the start.
    """

    colors: Colors = field(default_factory=Colors.natural)
    spread: float = 0.1

    def start(self, like: Tensor, generator: torch.Generator, image: Tensor | None) -> Canvas:
        """Return a canvas."""
        planes = _noise(like.shape, generator, like, self.spread) if image is None else self.colors.unmix(logits(image))
        planes = planes.detach().clone().requires_grad_()
        return Canvas([planes], lambda: self.colors.mix(planes).sigmoid())


@dataclass(frozen=True)
class Fourier(Parametrization):
    """The spectrum of the logits, each frequency divided by itself to the power of `decay`.

    Attributes:
        colors: colors that go together.
        decay: 1 as in natural images; 0 is a white spectrum; more makes smoother images.
        spread: standard deviation of the spectrum at the start.
    """

    colors: Colors = field(default_factory=Colors.natural)
    decay: float = 1.0
    spread: float = 0.6

    def start(self, like: Tensor, generator: torch.Generator, image: Tensor | None) -> Canvas:
        """Return a canvas."""
        batch, channels, height, width = like.shape
        scale = (frequencies(height, width) ** -self.decay).to(like)
        if image is None:
            spectrum = _noise((batch, channels, height, width // 2 + 1, 2), generator, like, self.spread)
        else:
            planes = torch.fft.rfft2(4 * self.colors.unmix(logits(image)), norm="ortho")
            spectrum = torch.view_as_real(planes / scale)
        spectrum = spectrum.detach().clone().requires_grad_()

        def draw() -> Tensor:
            planes = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(height, width), norm="ortho")
            return self.colors.mix(planes / 4).sigmoid()

        return Canvas([spectrum], draw)


class Decoder(Parametrization):
    """A code, which a generator of images decodes: only its images can come out (Nguyen et al. 2016).

    Args:
        decoder: (B, *code) -> (B, C, H, W) in [0, 1], such as half of an autoencoder or a GAN; left as it is.
        code: shape of a code.
        spread: standard deviation of the codes at the start, where they are noise.
        pull: weight of the mean square of the code, which keeps it where the decoder knows its way; of its difference
            from the start, where that is the code of an image.
        codes: (N, *code) codes of images, of which one at random is the start of each image, in place of noise.
        encode: (B, C, H, W) -> (B, *code), for images to start from.
    """

    def __init__(
        self,
        decoder: Callable[[Tensor], Tensor],
        code: int | tuple[int, ...],
        spread: float = 1.0,
        pull: float = 0.0,
        codes: Tensor | None = None,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.decoder, self.spread, self.pull = decoder, spread, pull
        self.code = (code,) if isinstance(code, int) else tuple(code)
        if codes is not None and (not len(codes) or tuple(codes.shape[1:]) != self.code):
            raise DataError(f"codes: (N, {', '.join(map(str, self.code))}) are needed, not {tuple(codes.shape)}")
        self.codes, self.encode = codes, encode

    def start(self, like: Tensor, generator: torch.Generator, image: Tensor | None) -> Canvas:
        """Return a canvas.

        Raises:
            ConfigError: an image is given, of which nobody knows the code; or the decoder makes others than asked for.
        """
        first = self._first(like, generator, image)
        code = first.clone().requires_grad_()
        home = torch.zeros_like(first) if image is None and self.codes is None else first
        weights = (parameter.dtype for module in self.modules for parameter in module.parameters())
        kind = next(weights, like.dtype)

        def draw() -> Tensor:
            image = self.decoder(code.to(kind)).to(like.dtype)
            if image.shape != like.shape:
                raise ConfigError(
                    f"decoder: it makes images of shape {tuple(image.shape)}, but {tuple(like.shape)} is asked for"
                )
            return image

        return Canvas([code], draw, lambda: self.pull * (code - home).square().flatten(1).mean(1))

    def _first(self, like: Tensor, generator: torch.Generator, image: Tensor | None) -> Tensor:
        """Return the codes to start from."""
        if image is not None:
            if self.encode is None:
                raise ConfigError("start: a decoder starts from a random code; the code of an image is unknown")
            return self.encode(image).detach().to(like)
        if self.codes is not None:
            chosen = torch.randint(len(self.codes), (len(like),), generator=generator)
            return self.codes[chosen.to(self.codes.device)].detach().to(like)
        return _noise((len(like), *self.code), generator, like, self.spread)

    @property
    def modules(self) -> list[nn.Module]:
        """The decoder, if it is a module."""
        return [self.decoder] if isinstance(self.decoder, nn.Module) else []


def logits(image: Tensor) -> Tensor:
    """Return the logits of pixels in [0, 1], of which black and white have finite ones."""
    return torch.logit(image.clamp(_EDGE, 1 - _EDGE))


def frequencies(height: int, width: int) -> Tensor:
    """Return (H, W // 2 + 1): cycles per pixel of a real Fourier transform; the mean counts as the lowest frequency."""
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :]
    frequency: Tensor = (down.square() + across.square()).sqrt().clamp(min=1 / max(height, width))
    return frequency


def _noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor, spread: float) -> Tensor:
    return (spread * torch.randn(shape, generator=generator)).to(like)
