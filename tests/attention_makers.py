"""Small vision transformers: one with its answer in a known patch, by weights set by hand, and one drawn at random."""

import torch
from torch import nn
from torch.nn import functional as F

STYLES = ("module", "fused", "matmul", "einsum", "sum")
"""Ways in which an attention can be written."""


class Attention(nn.Module):
    """Attention of (B, N, D) tokens, written in one of several ways."""

    def __init__(self, width, heads, style="module", bias=True):
        super().__init__()
        self.inner = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True)
        self.heads, self.style = heads, style

    def forward(self, x):
        if self.style == "module":
            return self.inner(x, x, x, need_weights=False)[0]
        inner = self.inner
        q, k, v = F.linear(x, inner.in_proj_weight, inner.in_proj_bias).chunk(3, -1)
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        scale = q.shape[-1] ** -0.5
        if self.style == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.style == "matmul":
            mixed = (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v
        elif self.style == "einsum":
            weights = torch.einsum("bhid,bhjd->bhij", q * scale, k).softmax(-1)
            mixed = torch.einsum("b h i j, b h j d -> b h i d", F.dropout(weights, 0.5, self.training), v)
        else:  # as elementwise products
            weights = torch.matmul(q * scale, k.mT).softmax(-1)
            mixed = (weights.unsqueeze(-1) * v.unsqueeze(2)).sum(3)
        return inner.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """The usual block: normalization and attention, then normalization and two layers, each added."""

    def __init__(self, width, heads, style="module", bias=True):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.attention = Attention(width, heads, style, bias)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width, bias=bias), nn.GELU(), nn.Linear(2 * width, width, bias=bias)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """Patches of 4 pixels; `extra` tokens before them, of which the first is read, or the mean of all patches."""

    def __init__(
        self, grid=(2, 3), width=8, depth=2, heads=2, extra=1, pooled=False, style="module", bias=True, classes=3
    ):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, width, 4, 4, bias=bias)
        self.extra = nn.Parameter(torch.randn(1, extra, width))
        self.places = nn.Parameter(torch.randn(1, extra + grid[0] * grid[1], width) * (0.3 if bias else 0.0))
        self.blocks = nn.Sequential(*(Block(width, heads, style, bias) for _ in range(depth)))
        self.norm, self.head, self.pooled = nn.LayerNorm(width, bias=bias), nn.Linear(width, classes, bias=bias), pooled
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.2)
        self.double().eval()

    def tokens(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), -1, -1), x], 1) + self.places

    def forward(self, image):
        x = self.norm(self.blocks(self.tokens(image)))
        return self.head(x[:, self.extra.shape[1] :].mean(1) if self.pooled else x[:, 0])


class AnySize(TinyViT):
    """Without places, so that images may have any size."""

    def tokens(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), -1, -1), x], 1)


class Planted(nn.Module):
    """Class 1 is how green the reddest patch is: a class token looks for red, and takes green; weights set by hand.

    A token has four numbers: how red its patch is, how green, whether it is the class token, what was taken.

    Args:
        tokens: function of (B, N, 4) patches and a (B, 1, 4) class token that returns tokens in any order, and the
            place of the class token among them.
        style: way in which attention is written.
    """

    def __init__(self, tokens, style="module"):
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 4, 4, 4), Attention(4, 1, style)
        self.block, self.out, self.head, self.placed = nn.Identity(), nn.Identity(), nn.Linear(4, 2), tokens
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.patches.weight[0, 0], self.patches.weight[1, 1] = 1 / 16, 1 / 16
            query, key, value = self.attention.inner.in_proj_weight.chunk(3)
            query[0, 2], key[0, 0], value[1, 1] = 40.0, 1.0, 1.0
            self.attention.inner.out_proj.weight[3, 1], self.head.weight[1, 3] = 1.0, 1.0
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        own = x.new_tensor([0.0, 0.0, 1.0, 0.0]).expand(len(x), 1, 4)
        x, place = self.placed(x, own)
        x = self.block(x)
        return self.head(self.out(x + self.attention(x))[:, place])


def planted_images(cells, grid=(2, 3)):
    """Return images of 4-pixel patches, bluish noise, of which one each is red and green, in float64."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(len(cells), 3, 4 * grid[0], 4 * grid[1], generator=generator, dtype=torch.float64) * 0.2
    image[:, 2] += 0.5
    for index, (row, column) in enumerate(cells):
        image[index, :2, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.7
    return image
