"""A small vision transformer to train from nothing, whose patches are its feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones.base import Backbone, Normalization
from ibd.errors import ConfigError, DataError, check_range

_MOST_WIDTH, _MOST_DEPTH = 4096, 100
_LONGEST_WAVE = 100.0


class SmallViT(Backbone):
    """A plain vision transformer without a class token; (B, 3, H, W) -> (B, width, H / patch, W / patch).

    Patches, fixed positions of sines and cosines, blocks of attention and two layers, each with a normalization before
    and added to what it is given, and a normalization of the map: as Beyer et al. (2022), "Better plain ViT baselines".
    Every cell sees the whole image, and is centered on its patch. Images may have any size that patches fill.

    Args:
        width: Channels of a token; a multiple of 4 and of `heads`.
        depth: Number of blocks.
        heads: Number of heads of an attention.
        patch: Pixels along a side of a patch.
        expansion: Channels within a block's two layers, in multiples of `width`.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else "half".
    """

    channels_last_on = frozenset()

    def __init__(
        self,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        patch: int = 8,
        expansion: int = 2,
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        super().__init__(normalize)
        for name, value, most in (("width", width, _MOST_WIDTH), ("depth", depth, _MOST_DEPTH)):
            check_range(name, value, least=1)
            if value > most:
                raise ConfigError(f"{name}: {value} given, at most {most} is allowed")
        for name, value in (("heads", heads), ("patch", patch), ("expansion", expansion)):
            check_range(name, value, least=1)
        if width % 4 or width % heads:
            raise ConfigError(f"width: {width} given, but it has to be a multiple of 4, and of heads, which is {heads}")
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*(Block(width, heads, expansion) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.out_channels, self.patch = width, patch
        self.start_from(weights, init_from)

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, D, h, w) features of (B, 3, H, W) images in [0, 1].

        Raises:
            DataError: patches do not fill the image.
        """
        if image.shape[2] % self.patch or image.shape[3] % self.patch:
            size = f"{image.shape[2]} x {image.shape[3]}"
            raise DataError(f"images of {size} pixels given, but patches of {self.patch} pixels do not fill them")
        cells = self.patches(self.normalize(image))
        tokens = cells.flatten(2).transpose(1, 2) + positions(cells)
        tokens = self.norm(self.blocks(tokens))
        features: Tensor = tokens.transpose(1, 2).unflatten(2, cells.shape[2:])
        return features


class Block(nn.Module):
    """Attention, then two layers, each of normalized tokens (B, N, D) and added to them.

    Args:
        width: channels D of a token.
        heads: number of heads.
        expansion: channels within the two layers, in multiples of D.
    """

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        tokens = tokens + self.out(self._attended(self.norm1(tokens)))
        added: Tensor = self.contract(F.gelu(self.expand(self.norm2(tokens))))
        return tokens + added

    def _attended(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).flatten(2)


def positions(cells: Tensor) -> Tensor:
    """Return (h w, D) positions of a (B, D, h, w) map: sines and cosines of row and column, a quarter of D each."""
    _, width, rows, columns = cells.shape
    speed = _LONGEST_WAVE ** -torch.linspace(0, 1, width // 4, dtype=torch.float32, device=cells.device)
    row, column = (torch.arange(count, dtype=torch.float32, device=cells.device) for count in (rows, columns))
    by_row = (row[:, None] * speed)[:, None].expand(rows, columns, -1)
    by_column = (column[:, None] * speed)[None].expand(rows, columns, -1)
    waves = torch.cat([by_row.sin(), by_row.cos(), by_column.sin(), by_column.cos()], 2)
    return waves.flatten(0, 1).to(cells.dtype)
