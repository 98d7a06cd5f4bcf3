"""Rollout and gradient-weighted attention: against weights multiplied by hand, and on an answer in a known patch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer, resnet18
from torchvision.models.swin_transformer import SwinTransformer

from ibd.errors import UnsupportedError
from ibd.explain.attention_maps import AttentionGradient, AttentionRollout
from ibd.explain.targets import Target
from tests.attention_makers import STYLES, Attention, Planted, TinyViT, planted_images
from tests.explainer_makers import images
from tests.reference.attention import attentions, rollout, weighted_by_gradient

IMAGE = images(2, (8, 12)).double()
BOTH = [AttentionRollout, AttentionGradient]
close = torch.testing.assert_close


def drawn(tokens, extra):
    """Return the (H, W) map of (N,) tokens."""
    cells = torch.as_tensor(tokens[extra:]).view(1, 1, 2, 3)
    return F.interpolate(cells, (8, 12), mode="bilinear")[0, 0]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("extra", [1, 3])
def test_is_the_product_of_the_layers(pooled, extra):
    model = TinyViT(extra=extra, pooled=pooled)
    rows = slice(extra, None) if pooled else [0]
    found = AttentionRollout()(model, IMAGE, Target.classes([0, 2]))
    weighted = AttentionGradient()(model, IMAGE, Target.classes([0, 2]))
    for row, image in enumerate(IMAGE):
        weights = attentions(model, image)
        for column, index in enumerate((0, 2)):
            close(found.map[row, column], drawn(rollout(weights, rows), extra))
            if (row, column) == (1, 1):  # slow: by differences
                expected = weighted_by_gradient(model, image, index, weights, rows)
                close(weighted.map[row, column], drawn(expected, extra), rtol=1e-5, atol=1e-7)
    close(found.value, model(IMAGE)[:, [0, 2]].detach())
    assert (found.cost.forwards, found.cost.backwards) == (2, 4)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("style", STYLES[:-1])
def test_however_attention_is_written(style, make):
    close(make()(TinyViT(style=style), IMAGE, 1).map, make()(TinyViT(style="matmul"), IMAGE, 1).map)


@pytest.mark.parametrize("make", BOTH)
def test_the_planted_patch_is_lit(make):
    cells = [(1, 2), (0, 1), (1, 0)]
    model = Planted(lambda patches, own: (torch.cat([patches[:, [4, 2, 0, 5, 1, 3]], own], 1), -1))
    for heat, (row, column) in zip(make()(model, planted_images(cells), 1).map, cells, strict=True):
        assert int(F.avg_pool2d(heat[None], 4).argmax()) == 3 * row + column
        assert heat.amin() >= 0


class OwnKeys(nn.Module):
    """A class token that takes the brightest patch, of keys in an order of their own; by any product."""

    def __init__(self, keys, style):
        super().__init__()
        self.patches, self.head, self.keys, self.style = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 1), keys, style
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.patches.weight[0], self.head.weight[:] = 1 / 48, 1.0
        self.double().eval()

    def forward(self, image):
        patches = self.patches(image).flatten(2).transpose(1, 2)
        own = torch.zeros_like(patches[:, :1])
        queries, keys = torch.cat([own, patches], 1), self.keys(patches, own)
        asked = F.linear(queries, queries.new_zeros(4, 4), queries.new_tensor([200.0, 0, 0, 0]))
        if self.style == "fused":
            return self.head((queries * 1e-3 + F.scaled_dot_product_attention(asked, keys, keys))[:, 0])
        weights = (asked @ keys.mT).softmax(-1)
        mixed = torch.einsum("bij,bjd->bid", weights, keys) if self.style == "einsum" else weights @ keys
        return self.head((queries * 1e-3 + mixed)[:, 0])


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("style", ["matmul", "einsum", "fused"])
def test_keys_in_another_order_are_refused(make, style):
    image = torch.zeros(1, 3, 8, 12).double()
    image[:, :, 4:, 4:8] = 1.0
    heat = make()(OwnKeys(lambda patches, own: torch.cat([own, patches], 1), style), image, 0).map
    assert int(F.avg_pool2d(heat, 4).argmax()) == 4
    for keys in (
        lambda patches, own: torch.cat([patches, own], 1),
        lambda patches, own: torch.cat([own, patches.flip(1)], 1),
    ):
        with pytest.raises(UnsupportedError, match=r"attention 1 of 1: its keys are not known") as caught:
            make()(OwnKeys(keys, style), image, 0)
        assert "\n" not in str(caught.value)


class Altered(Attention):
    """Attention whose weights are altered after the softmax."""

    def __init__(self, alter):
        super().__init__(4, 2)
        self.alter = alter

    def forward(self, x):
        parts = F.linear(x, self.inner.in_proj_weight, self.inner.in_proj_bias).chunk(3, -1)
        q, k, v = (each.unflatten(2, (2, -1)).transpose(1, 2) for each in parts)
        mixed = self.alter((q @ k.mT).softmax(-1)) @ v
        return self.inner.out_proj(mixed.transpose(1, 2).flatten(2))


class Layers(nn.Module):
    """Attentions after one another, the mean of whose tokens is read."""

    def __init__(self, *alters):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 2)
        self.attentions = nn.ModuleList(Altered(alter) for alter in alters)
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        for attention in self.attentions:
            x = x + attention(x)
        return self.head(x.mean(1))


def zeroed(weights):
    weights = weights.clone()
    weights[..., 0].mul_(0.5)
    return weights


ALTERS = {
    "one less": lambda weights: 1 - weights,
    "square": lambda weights: weights.square(),
    "in place": lambda weights: weights.clone().pow_(2),
    "a part in place": zeroed,
    "roll": lambda weights: weights.roll(1, -1),
    "transpose": lambda weights: weights.mT,
    "matrix": lambda weights: weights @ torch.full((6, 6), 1 / 6).to(weights),
    "twice": lambda weights: weights @ weights,
    "negative": lambda weights: weights * -1.0,
    "column by column": lambda weights: weights * torch.arange(6).to(weights),
    "filled": lambda weights: weights.masked_fill(torch.eye(6).bool(), 1.0),
}


def keep(weights):
    return weights


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("alter", ALTERS.values(), ids=ALTERS)
def test_weights_that_are_altered_are_no_attention(make, alter):
    for layers in ((alter,), (alter, keep), (keep, alter)):
        with pytest.raises(UnsupportedError) as caught:
            make()(Layers(*layers), IMAGE, 1)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", BOTH)
def test_what_leaves_weights_what_they_are(make):
    expected = make()(Layers(keep, keep), IMAGE, 1).map
    for same in (
        lambda weights: F.dropout(weights.to(torch.float64), 0.5, False).contiguous(),
        lambda weights: (2 * weights.clone()) / 2,
        lambda weights: weights.masked_fill(torch.zeros(6, 6).bool(), 0.0),
    ):
        close(make()(Layers(same, same), IMAGE, 1).map, expected)


class Beside(nn.Module):
    """Two attentions of the same tokens, side by side; or one after the other."""

    def __init__(self, after):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.one, self.other = nn.Conv2d(3, 4, 4, 4), Attention(4, 1), Attention(4, 1)
        self.head, self.after = nn.Linear(4, 2), after
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        one = x + self.one(x)
        return self.head((one + self.other(one if self.after else x)).mean(1))


def few():
    return VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=3).double().eval()


@pytest.mark.parametrize("make", BOTH)
def test_what_is_not_defined_is_refused_in_one_line(make):
    torch.manual_seed(0)
    swin = SwinTransformer([4, 4], 8, [2], [2], [2, 2], num_classes=3).double().eval()
    refused = {
        "this model has none": (resnet18().double().eval(), images(1, (32, 32)).double()),
        "attention 1 of 2 .4 queries, 4 keys. is not of all patches": (swin, images(1, (32, 32)).double()),
        "attention 2 of 2 does not follow the one before": (Beside(after=False), IMAGE),
    }
    for words, (model, image) in refused.items():
        with pytest.raises(UnsupportedError, match=words) as caught:
            make()(model, image, 1)
        assert "\n" not in str(caught.value)
    assert make()(Beside(after=True), IMAGE, 1).map.shape == (2, 8, 12)


@pytest.mark.parametrize("make", BOTH)
def test_torchvision_without_gradients_of_its_own(make):
    model = few()
    nn.init.normal_(model.heads.head.weight)
    before = model(images(2, (16, 16)).double())
    with torch.no_grad():
        found = make()(model, images(2, (16, 16)).double(), 1)
    close(found.value, before[:, 1].detach())
    assert found.map.std((1, 2)).min() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


class Gated(nn.Module):
    """After one attention another, whose weights are a mean of a softmax and of fixed ones: no softmax that is seen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.one, self.head = nn.Conv2d(3, 4, 4, 4), Attention(4, 1), nn.Linear(4, 2)
        self.fixed = nn.Parameter(torch.rand(6, 6).softmax(1))
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = x + (0.5 * self.fixed + 0.5 * (x @ x.mT).softmax(2)) @ x
        return self.head((x + self.one(x)).mean(1))


@pytest.mark.parametrize("make", BOTH)
def test_all_that_mixes_tokens_has_to_be_an_attention(make):
    with pytest.raises(UnsupportedError, match=r"tokens are mixed by .* as well, which is no attention"):
        make()(Gated(), IMAGE, 1)


class HeadsFirst(nn.Module):
    """Weights (heads, images, N, N), or of both in one axis: sizes do not tell which is which."""

    def __init__(self, joined):
        super().__init__()
        self.joined = joined
        torch.manual_seed(0)
        self.patches, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 2)
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        heads = x.unflatten(2, (2, 2)).permute(2, 0, 1, 3)
        parts = heads.flatten(0, 1) if self.joined else heads
        mixed = ((parts @ parts.mT).softmax(-1) @ parts).view(heads.shape)
        return self.head((x + mixed.permute(1, 2, 0, 3).flatten(2)).mean(1))


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_images_are_the_first_axis_of_weights(make, count, joined):
    with pytest.raises(UnsupportedError, match=r"images are not the first axis|not of all patches"):
        make()(HeadsFirst(joined), images(count, (8, 12)).double(), 1)
    assert make()(TinyViT(), IMAGE, 1).map.shape == (2, 8, 12)  # two images, two heads
