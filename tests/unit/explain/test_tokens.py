"""Maps of tokens: a transformer whose answer is in one known patch has to light that patch, or be refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import MaxVit, VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from ibd.errors import UnsupportedError
from ibd.explain.attention_maps import AttentionRollout
from ibd.explain.attribution import layer_attribution
from ibd.explain.cam import (
    CAM,
    AblationCAM,
    Cams,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from ibd.explain.factorization import neuron_groups
from ibd.explain.feature_visualization import Objective, maximize_activation
from ibd.explain.gradients import IntegratedGradients
from ibd.explain.layer_layout import read_map
from ibd.explain.patches import maximally_activating_patches
from tests.attention_makers import STYLES, Attention, Planted, TinyViT, planted_images
from tests.explainer_makers import images

FAMILY = [GradCAM, HiResCAM, GradCAMPlusPlus, XGradCAM, LayerCAM, EigenCAM, AblationCAM, ScoreCAM]
IMAGE = images(2, (8, 12)).double()
CELLS = [(1, 2), (0, 1), (1, 0), (0, 0)]
ORDER = torch.tensor([4, 2, 0, 5, 1, 3])
close = torch.testing.assert_close


def class_first(patches, own):
    return torch.cat([own, patches], 1), 0


def class_last(patches, own):
    return torch.cat([patches, own], 1), -1


def registers(patches, own):
    """A class token, three registers as green as a patch of the answer, and the patches."""
    like = own.new_tensor([0.0, 0.9, 0.0, 0.0]).expand(len(own), 3, 4)
    return torch.cat([own, like, patches], 1), 0


def shuffled(patches, own):
    return torch.cat([patches[:, ORDER], own], 1), 6


def rolled(patches, own):
    return torch.roll(torch.cat([own, patches], 1), 2, 1), 2


def by_scatter(patches, own):
    """Through channels first, padded by one token that becomes the class token."""
    padded = F.pad(patches.transpose(1, 2), (1, 0)).transpose(1, 2)
    return padded + F.pad(own, (0, 0, 0, 6)), 0


PLACED = {name.__name__: name for name in (class_first, class_last, registers, shuffled, rolled, by_scatter)}


def check(maps, cells=CELLS, share=0.5):
    """Check that maps are at their largest in the right patch, and small two patches away."""
    for heat, (row, column) in zip(maps, cells, strict=True):
        middle = heat[4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3].mean()
        means = F.avg_pool2d(heat[None], 4)[0].flatten()
        assert int(means.argmax()) == 3 * row + column
        assert middle > heat.amax() * share > 0


@pytest.mark.parametrize("placed", PLACED.values(), ids=PLACED)
def test_the_planted_patch_is_lit_wherever_its_token_is(placed):
    model, image = Planted(placed), planted_images(CELLS)
    greens = torch.stack([image[i, 1, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() for i, (r, c) in enumerate(CELLS)])
    close(model(image)[:, 1].detach(), greens, rtol=1e-3, atol=0.0)
    together = Cams([make.name for make in FAMILY if make is not EigenCAM])(model, image, 1)
    for make in FAMILY:
        found = make()(model, image, 1)
        check(found.map.relu() if make is EigenCAM else found.map)
        if make is not EigenCAM:
            close(together[make.name].map, found.map)
    for method in ("gradient_input", "integrated_gradients", "lrp"):
        parts = layer_attribution(model, image, "block", 1, method)
        assert [divmod(int(part.argmax()), 3) for part in parts.spatial.flatten(1)] == CELLS


@pytest.mark.parametrize("style", STYLES[:-1])
def test_however_attention_is_written(style):
    model, image = Planted(registers, style), planted_images(CELLS)
    expected = Planted(registers, "matmul")
    for make in (GradCAM, HiResCAM):
        close(make()(model, image, 1).map, make()(expected, image, 1).map)
        check(make()(model, image, 1).map)


@pytest.mark.parametrize("extra", [1, 3])
def test_by_default_the_tokens_that_the_last_attention_reads(extra):
    """Behind it the gradient by patches is 0, and by its unnormalized input gradient times value is."""
    model = TinyViT(extra=extra)
    found = HiResCAM()(model, IMAGE, 1)
    assert found.layer == "blocks.1.norm1"
    x = model.blocks[0](model.tokens(IMAGE)).detach()
    normed = model.blocks[1].norm1(x).detach().requires_grad_()
    middle = x + model.blocks[1].attention(normed)
    score = model.head(model.norm(middle + model.blocks[1].mlp(model.blocks[1].norm2(middle)))[:, 0])[:, 1]
    product = (torch.autograd.grad(score.sum(), normed)[0] * normed.detach()).sum(2)[:, extra:].view(2, 1, 2, 3)
    close(found.map, F.interpolate(product, (8, 12), mode="bilinear")[:, 0])
    for layer in ("norm", "blocks", "blocks.1"):
        with pytest.raises(UnsupportedError, match=f"does not depend on the patches that layer '{layer}'") as caught:
            GradCAM(layer)(model, IMAGE, 1)
        assert "\n" not in str(caught.value)
    close(HiResCAM("blocks.1.norm1")(model, IMAGE, 1).map, found.map)


@pytest.mark.parametrize("way", ["matmul", "einsum", "slice"])
def test_products_with_weights_leave_each_token_by_itself(way):
    """What follows the last attention does not mix tokens, however it is written: it is not a map of what was read."""

    class Net(TinyViT):
        def forward(self, image):
            x = self.blocks(self.tokens(image))
            weight = self.head.weight.detach()[:, :4]
            if way == "matmul":
                return (self.norm(x)[..., :4] @ weight.t())[:, 0]
            if way == "einsum":
                return torch.einsum("bnd,cd->bnc", self.norm(x)[:, :, :4], weight)[:, 0]
            return F.linear(self.norm(x).narrow(1, 0, 1).squeeze(1)[:, :4], weight)

    found = GradCAM(relu=False)(Net(), IMAGE, 1)
    assert found.layer == "blocks.1.norm1"
    assert found.map.abs().min() > 0


def test_pooled_patches_are_taken_after_the_last_normalization_and_add_up():
    model = TinyViT(extra=2, pooled=True)
    found = HiResCAM()(model, IMAGE, 1)
    cells = model.norm(model.blocks(model.tokens(IMAGE)))[:, 2:] @ model.head.weight[1] / 6
    close(found.map, F.interpolate(cells.detach().view(2, 1, 2, 3), (8, 12), mode="bilinear")[:, 0])
    close(CAM()(model, IMAGE, 1).map / 6, found.map)
    parts = layer_attribution(model, IMAGE, "norm", 1)
    close(parts.spatial, cells.detach().view(2, 2, 3))
    close(parts.completeness, torch.zeros(2).double())
    close(parts.offset, model.head.bias[1].detach().expand(2))
    named = IntegratedGradients(layer="blocks.0", steps=40)(model, IMAGE, 1)
    assert named.extra["completeness"].abs().max() < 1e-4 * named.value.abs().max() + 1e-6


class Sequence(nn.Module):
    """The planted answer, with tokens before images (N, B, D), or channels before tokens (B, D, N)."""

    def __init__(self, channels):
        super().__init__()
        self.inner, self.channels, self.read = Planted(class_first), channels, nn.Identity()
        self.double().eval()

    def forward(self, image):
        own = image.new_tensor([0.0, 0.0, 1.0, 0.0]).expand(len(image), 1, 4)
        x, _ = self.inner.placed(self.inner.patches(image).flatten(2).transpose(1, 2), own)
        x = self.read(x.transpose(1, 2) if self.channels else x.transpose(0, 1))
        x = x.transpose(1, 2) if self.channels else x.transpose(0, 1)
        return self.inner.head((x + self.inner.attention(x))[:, 0])


@pytest.mark.parametrize("count", [4, 7, 1])
@pytest.mark.parametrize("channels", [False, True])
def test_axes_in_another_order(channels, count):
    """Also of as many images as tokens."""
    cells = (CELLS * 2)[:count]
    for make in FAMILY:
        check(make("read")(Sequence(channels), planted_images(cells), 1).map.relu(), cells)


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_swin_windows_and_channels_last_light_the_patch(size):
    """The answer of a Swin is made to depend on one cell, behind shifted windows, and channels last."""
    torch.manual_seed(0)
    swin = SwinTransformer([4, 4], 8, [2], [2], [2, 2], num_classes=3).eval().double()
    swin.avgpool = nn.Flatten(2)
    weight = torch.zeros(size[0] // 4, size[1] // 4, dtype=torch.float64)
    weight[5, 2] = 1.0

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.swin = swin

        def forward(self, image):
            x = swin.permute(swin.norm(swin.features(image)))
            return swin.head((x * weight.to(x)).sum((2, 3)))

    image = images(1, size).double()
    for explain in (HiResCAM(), HiResCAM("swin.norm"), LayerCAM("swin.features.1", relu=False)):
        heat = explain(Net(), image, 1).map[0].abs()
        row, column = divmod(int(heat.argmax()), size[1])
        assert abs(row - 21.5) < 3
        assert abs(column - 9.5) < 3
    maps = read_map(Net(), image, "swin.features.1")
    close(maps, swin.features(image).permute(0, 3, 1, 2).detach())
    made = maximize_activation(Net().float(), Objective.channel("swin.features.1", 5), size, steps=1, progress=False)
    close(made.value, swin.features(made.image)[..., 5].mean((1, 2)).detach())


def test_patches_groups_and_made_images_of_tokens():
    model, image = Planted(registers), planted_images(CELLS)
    patches = maximally_activating_patches(model, [image[:2], image[2:]], "block", [1], k=4)
    best = sorted(zip(patches.image[0].tolist(), patches.position[0].tolist(), strict=True))
    assert best == [(index, list(cell)) for index, cell in enumerate(CELLS)]
    groups = neuron_groups(model, image, "patches", 1)
    assert groups.maps.shape[-2:] == (2, 3)
    made = maximize_activation(model, Objective.channel("block", 1), (8, 12), steps=2, progress=False)
    close(made.value, model.patches(made.image.double())[:, 1].mean((1, 2)).detach())  # over patches alone


class Mixer(nn.Module):
    """Tokens mixed by a linear layer: which output is which patch is nobody's to say."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 4, 4, 4), nn.Linear(6, 6), nn.Linear(4, 2)
        self.double().eval()

    def forward(self, image):
        return self.head(self.mix(self.patches(image).flatten(2)).relu().mean(2))


class Dropped(Planted):
    """Half of the tokens are left out on the way."""

    def __init__(self):
        super().__init__(lambda patches, own: (torch.cat([own, patches[:, ::2]], 1), 0))


def test_where_tokens_are_dropped_the_last_map_of_all_is_taken():
    found = HiResCAM()(Dropped(), IMAGE, 1)
    assert found.layer == "patches"
    close(found.map, HiResCAM("patches")(Dropped(), IMAGE, 1).map)


class Cut(TinyViT):
    """Tokens of the map that is left of another."""

    def __init__(self, cut, cells):
        super().__init__(grid=cells)
        self.cut = cut

    def tokens(self, image):
        x = self.cut(self.patches(image)).flatten(2).transpose(1, 2)
        return torch.cat([self.extra.expand(len(x), -1, -1), x], 1) + self.places


CUTS = {
    "the last row and column": (lambda a: a[:, :, :4, :6], (4, 6)),
    "all around": (lambda a: a[:, :, :, 1:6], (5, 5)),
    "padded": (lambda a: F.pad(a, (0, 1, 0, 1)), (6, 8)),
}


@pytest.mark.parametrize("name", CUTS)
def test_tokens_of_a_map_that_was_cut_are_not_drawn_over_the_whole_image(name):
    image, model = images(2, (20, 28)).double(), Cut(*CUTS[name])
    found = HiResCAM()(model, image, 1)
    assert found.layer == "patches"
    close(found.map, HiResCAM("patches")(model, image, 1).map)
    with pytest.raises(UnsupportedError, match="not of all patches where the image has them"):
        AttentionRollout()(model, image, 1)


@pytest.mark.parametrize("cut", [lambda a: a[:, :, ::2, ::2], lambda a: F.pad(a, (0, 1, 0, 1))[:, :, :-1:2, :-1:2]])
def test_tokens_of_every_other_row_lie_where_the_image_has_them(cut):
    image = images(2, (20, 28)).double()
    assert HiResCAM()(Cut(cut, (3, 4)), image, 1).layer == "blocks.1.norm1"
    assert AttentionRollout()(Cut(cut, (3, 4)), image, 1).map.shape == (2, 20, 28)


class ByHand(nn.Module):
    """Tokens written into a buffer."""

    def __init__(self):
        super().__init__()
        self.patches, self.attention, self.head = nn.Conv2d(3, 4, 4, 4), Attention(4, 1), nn.Linear(4, 2)
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.zeros_like(x)
        tokens[:, ORDER] = x
        return self.head((tokens + self.attention(tokens)).mean(1))


class Summed(TinyViT):
    """Attention as an elementwise product and a sum, of which it is not known which axis is that of the queries."""

    def __init__(self):
        super().__init__(style="sum")


@pytest.mark.parametrize("model", [Mixer, ByHand, Summed])
def test_tokens_of_unknown_places_are_refused_in_one_line(model):
    for make in FAMILY:
        with pytest.raises(UnsupportedError, match=r"cannot be told which token is which patch.*'occlusion'") as caught:
            make()(model(), IMAGE, 1)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", ["vit", "maxvit"])
def test_torchvision_says_its_layer(build):
    torch.manual_seed(0)
    model = {
        "vit": lambda: VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=4),
        "maxvit": lambda: MaxVit((32, 32), 8, 2, [8], [1], 4, 0.0, num_classes=4),
    }[build]().eval()
    nn.init.normal_(list(model.parameters())[-2])
    found = GradCAM(relu=False)(model, images(2, (32, 32)), 1)
    assert found.layer == {"vit": "encoder.layers.encoder_layer_2.ln_1", "maxvit": "blocks.0"}[build]
    assert found.map.shape == (2, 32, 32)
    assert found.map.std((1, 2)).min() > 0


class Keeps(TinyViT):
    """Derives something at its first image, and keeps it: later passes call fewer functions."""

    kept = None

    def tokens(self, image):
        x = super().tokens(image)
        if self.kept is None:
            self.kept = x.new_zeros(x.shape[1], x.shape[2]).cos() * 1.0
        return x * self.kept


def test_a_model_that_keeps_what_it_derives_is_cut_at_the_same_place():
    found, expected = HiResCAM()(Keeps(), IMAGE, 1), HiResCAM()(TinyViT(), IMAGE, 1)
    assert found.layer == expected.layer == "blocks.1.norm1"
    close(found.map, expected.map)


def test_what_cancels_in_every_cell_is_no_map():
    """Of what a normalization of each token is made from, gradient times value is 0 but for rounding."""
    model = TinyViT(pooled=True, extra=0)
    with pytest.raises(UnsupportedError, match=r"cancels in every cell of 'blocks.1'") as caught:
        HiResCAM("blocks.1")(model, IMAGE, 1)
    assert "\n" not in str(caught.value)
    assert GradCAM("blocks.1")(model, IMAGE, 1).map.std() > 0
