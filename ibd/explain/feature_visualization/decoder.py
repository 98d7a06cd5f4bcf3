"""A decoder of images that is trained by one call: activation maximization in its codes (Nguyen et al. 2016)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.errors import check_range
from ibd.explain.activations import chunked
from ibd.explain.feature_visualization.material import Source, descend, drawing, gathered
from ibd.explain.feature_visualization.parametrizations import Decoder

_LEAST = 4
"""Rows and columns of the map that a code becomes first, about."""
_NOISE = 0.1
"""Deviation of a pixel from what is decoded, which says how much a code may tell (Kingma & Welling 2014)."""


def train_decoder(
    images: Source,
    size: int | tuple[int, int] = 64,
    code: int = 64,
    width: int = 16,
    steps: int = 1000,
    batch: int = 32,
    lr: float = 2e-3,
    pull: float = 0.01,
    most: int = 4096,
    seed: int = 0,
    progress: bool = True,
) -> Decoder:
    """Train a variational autoencoder on images, and return its decoder as a parametrization of images.

    Its codes are then brought to mean 0 and covariance 1 over the images, so that codes at random decode to images much
    like them.

    Args:
        images: (N, C, H, W) in [0, 1], a data loader, or a folder of image files.
        size: H and W of what is decoded, or one number for both.
        code: length of a code.
        width: channels at half the size; each further halving has twice as many, up to eight times.
        steps: steps of training.
        batch: images in each.
        lr: largest length of a step.
        pull: weight of the mean square of the code while images are made, see `Decoder`.
        most: largest number of images.
        seed: seed of weights, order and noise.
        progress: whether to show a bar, if it takes more than two seconds.

    Raises:
        ConfigError: a number out of its range.
        DataError: fewer than two images.
    """
    shape = (size, size) if isinstance(size, int) else (size[0], size[1])
    for key, value in (("code", code), ("width", width), ("steps", steps), ("batch", batch)):
        check_range(key, value, least=1)
    check_range("size", min(shape), least=8)
    check_range("lr", lr, above=0.0)
    check_range("pull", pull, least=0.0)
    given = gathered(images, shape, most, progress)
    with drawing(seed) as generator:
        encoder = _encoder(given.shape[1], shape, code, width).to(given.device)
        decoder = DecoderNetwork(given.shape[1], shape, code, width).to(given.device)

        def loss(_: int) -> Tensor:
            clean = given[torch.randint(len(given), (batch,), generator=generator)]
            mean, spread = encoder(clean).chunk(2, 1)
            drawn = mean + spread.exp() * torch.randn(mean.shape, generator=generator).to(mean)
            told = 0.5 * (mean.square() + (2 * spread).exp() - 1).sum(1) - spread.sum(1)
            wrong = (decoder(drawn) - clean).square().flatten(1).sum(1) / (2 * _NOISE**2)
            bound: Tensor = (told + wrong).mean() / clean[0].numel()
            return bound

        descend([encoder, decoder], loss, steps, lr, "learning a decoder", progress)
        with torch.no_grad():
            codes = torch.cat([encoder(given[part])[:, :code] for part in chunked(len(given), 256)])
        decoder.whiten(codes)
    return Decoder(decoder, code, pull=pull)


class DecoderNetwork(nn.Module):
    """A linear map from a code to a small map, then enlargements and convolutions.

    Args:
        channels: channels of the images.
        size: H and W of the images.
        code: length of a code.
        width: channels at half the size.
    """

    def __init__(self, channels: int, size: tuple[int, int], code: int, width: int) -> None:
        super().__init__()
        self.size, sizes = size, _widths(size, width)
        self.small = (math.ceil(size[0] / 2 ** len(sizes)), math.ceil(size[1] / 2 ** len(sizes)))
        self.first = nn.Linear(code, sizes[-1] * self.small[0] * self.small[1])
        blocks = []
        for before, after in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            blocks.append(nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(1, after), nn.SiLU()))
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Conv2d(sizes[0], channels, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        """Return (B, C, H, W) images in [0, 1] of (B, code)."""
        features = F.silu(self.first(code).view(len(code), -1, *self.small))
        for block in self.blocks:
            features = block(F.interpolate(features, scale_factor=2.0, mode="nearest"))
        large = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
        image: Tensor = self.last(large)[:, :, : self.size[0], : self.size[1]].sigmoid()
        return image

    @torch.no_grad()
    def whiten(self, codes: Tensor) -> None:
        """Let codes of mean 0 and covariance 1 stand for (N, code) ones as they are.

        Where codes hardly differ, a step of 1 is one of 0.01.
        """
        away = codes.double() - codes.double().mean(0)
        covariance = away.t() @ away / max(1, len(codes) - 1)
        values, vectors = torch.linalg.eigh(covariance)
        root = ((vectors * values.clamp(min=1e-4).sqrt()) @ vectors.t()).to(codes)
        self.first.bias.add_(self.first.weight @ codes.mean(0))
        self.first.weight.copy_(self.first.weight @ root)


def _encoder(channels: int, size: tuple[int, int], code: int, width: int) -> nn.Module:
    """Return what tells the mean, and the logarithm of the deviation, of the code of an image, (B, 2 code)."""
    sizes = _widths(size, width)
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *sizes]):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(1, after), nn.SiLU()]
    small = [side // 2 ** len(sizes) for side in size]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(sizes[-1] * small[0] * small[1], 2 * code))


def _widths(size: tuple[int, int], width: int) -> list[int]:
    """Return the channels at half the size, at a quarter, and so on."""
    halvings = max(1, round(math.log2(max(1.0, min(size) / _LEAST))))
    return [width * min(8, 2**step) for step in range(halvings)]
