"""Which map a CAM takes by default: against closed forms, and the same network with that map named."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import inception_v3, mobilenet_v2, resnet18, shufflenet_v2_x0_5, squeezenet1_1

from ibd.errors import UnsupportedError
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
from ibd.explain.targets import Target
from tests.explainer_makers import images

FAMILY = [CAM, GradCAM, HiResCAM, GradCAMPlusPlus, XGradCAM, LayerCAM, EigenCAM, AblationCAM, ScoreCAM]
IMAGE = images(2, (16, 20)).double()
close = torch.testing.assert_close


class Pooled(nn.Module):
    """A map `body` that a function pools to features of a linear head, however often it is used."""

    def __init__(self, pool, features, channels=4):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, channels, 4, 4), nn.ReLU())
        self.query = nn.Conv2d(channels, 1, 1)
        self.pool, self.head = pool, nn.Linear(features, 3)
        self.double().eval()

    def forward(self, image):
        return self.head(self.pool(self, self.body(image)))


def concat(_, a):
    return torch.cat([F.adaptive_max_pool2d(a, 1), F.adaptive_avg_pool2d(a, 1)], 1).flatten(1)


def moments(_, a):
    return torch.cat([a.mean((2, 3)), a.std((2, 3))], 1)


def pyramid(_, a):
    return torch.cat([F.adaptive_avg_pool2d(a, size).flatten(1) for size in (1, 2, 3)], 1)


def upside_down(_, a):
    return torch.cat([F.adaptive_avg_pool2d(a, size).flatten(1) for size in (3, 2, 1)], 1)


def flattened_twice(_, a):
    return torch.cat([a.flatten(1), (a * a).flatten(1)], 1)


def attention(model, a):
    tokens = a.flatten(2)
    weights = torch.softmax(model.query(a).flatten(2), 2)
    return (tokens * weights).sum(2)


def attention_by_einsum(model, a):
    weights = model.query(a).squeeze(1).flatten(1).softmax(1).view(len(a), *a.shape[2:])
    return torch.einsum("bchw,bhw->bc", a, weights)


def gated_unseen(_, a):
    gate = a.amax(1, keepdim=True).sigmoid()  # still a map: used before the map is lost
    return torch.einsum("bchw,bxhw->bc", a, gate)


POOLS = {
    "concat": (concat, 8),
    "moments": (moments, 8),
    "pyramid": (pyramid, 56),
    "pyramid, fine first": (upside_down, 56),
    "flattened twice": (flattened_twice, 160),
    "attention": (attention, 4),
    "attention by einsum": (attention_by_einsum, 4),
    "gated": (gated_unseen, 4),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("target", [Target.cls(1), Target.classes([2, 0, 1])], ids=["one", "many"])
def test_a_map_that_is_used_several_times_is_taken_whole(name, target):
    model = Pooled(*POOLS[name])
    for make in FAMILY[1:]:
        by_default, named = make(relu=False)(model, IMAGE, target), make("body", relu=False)(model, IMAGE, target)
        close(by_default.map, named.map)
        assert by_default.map.dtype == torch.float64
        assert by_default.layer == named.layer == "body"
        assert by_default.map.abs().max() > 0


def test_a_concatenated_pool_in_closed_form():
    """The mean's part is spread evenly, the maximum's is at the peak alone."""
    model = Pooled(*POOLS["concat"])
    a, weight = model.body(IMAGE).detach(), model.head.weight.detach()[2]
    peaks = torch.zeros_like(a).flatten(2).scatter(2, a.flatten(2).argmax(2, keepdim=True), 1.0).view_as(a)
    gradient = weight[:4, None, None] * peaks + weight[4:, None, None] / a[0, 0].numel()
    expected = F.interpolate((gradient * a).sum(1, keepdim=True), IMAGE.shape[2:], mode="bilinear")[:, 0]
    close(HiResCAM()(model, IMAGE, 2).map, expected)
    alike = gradient.mean((2, 3), keepdim=True)
    cells = (alike * a).sum(1, keepdim=True)
    close(GradCAM(relu=False)(model, IMAGE, 2).map, F.interpolate(cells, IMAGE.shape[2:], mode="bilinear")[:, 0])
    together = Cams(["gradcam", "hirescam", "ablationcam"])(model, IMAGE, 2)
    close(together["gradcam"].map, F.interpolate(cells.relu(), IMAGE.shape[2:], mode="bilinear")[:, 0])
    close(together["hirescam"].map, expected)


def test_cam_of_two_linear_pools_is_that_of_their_sum():
    """`u mean(a) + v mean(a)`, pooled twice, is `(u + v) mean(a)`."""
    twice = Pooled(lambda _, a: torch.cat([F.adaptive_avg_pool2d(a, 1).flatten(1), a.mean((2, 3))], 1), 8)
    once = Pooled(lambda _, a: a.mean((2, 3)), 4)
    once.body.load_state_dict(twice.body.state_dict())
    once.head.weight.data = twice.head.weight.data[:, :4] + twice.head.weight.data[:, 4:]
    once.head.bias.data = twice.head.bias.data
    for make in FAMILY:
        close(make()(twice, IMAGE, 1).map, make("body")(once, IMAGE, 1).map)


def test_the_head_alone_runs_again_where_the_map_was_cut_once():
    found = AblationCAM()(Pooled(*POOLS["moments"]), IMAGE, 1)
    assert found.cost.forwards == 2  # of one image, for two images
    assert found.cost.heads >= 8
    again = AblationCAM()(Pooled(*POOLS["pyramid"]), IMAGE, 1)
    assert again.cost.forwards == 4  # once to find the map, once to cut there


class WithBackbone(nn.Module):
    """`backbone` ends in whatever it is given; what it pools is `backbone.body`."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential()
        self.backbone.add_module("body", nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU()))
        for number, each in enumerate(end):
            self.backbone.add_module(str(number), each)
        self.head = nn.Linear(5, 3)
        self.double().eval()

    def forward(self, image):
        return self.head(self.backbone(image).flatten(1))


@pytest.mark.parametrize("make", FAMILY)
def test_a_backbone_that_pools_is_looked_into(make):
    for end in ([nn.AdaptiveAvgPool2d(1)], [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Identity()]):
        model = WithBackbone(end)
        found = make(relu=False)(model, IMAGE, 1)
        close(found.map, make("backbone.body", relu=False)(model, IMAGE, 1).map)
        assert found.layer == "backbone.body"
        assert found.map.std() > 0


def test_a_resnet_without_its_head_as_backbone():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = resnet18(weights=None)
            self.backbone.fc = nn.Identity()
            self.head = nn.Linear(512, 3)

        def forward(self, image):
            return self.head(self.backbone(image))

    torch.manual_seed(0)
    model, image = Wrapped().double(), images(1, (64, 64)).double()
    found = HiResCAM()(model, image, 1)
    assert found.layer == "backbone.layer4"
    a = model.eval().backbone
    a = nn.Sequential(*list(a.children())[:-2])(image).detach()
    expected = torch.einsum("bchw,c->bhw", a, model.head.weight[1].detach()) / 4
    close(found.map, F.interpolate(expected[:, None], (64, 64), mode="bilinear")[:, 0])


class Segmenter(nn.Module):
    """Linear classes at every pixel."""

    def __init__(self, size=None):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU())
        self.classes, self.size = nn.Conv2d(5, 3, 1), size
        self.double().eval()

    def forward(self, image):
        out = self.classes(self.features(image))
        return {"out": out if self.size is None else F.interpolate(out, self.size)}


@pytest.mark.parametrize("size", [None, (16, 20)])
def test_the_cut_is_in_the_model_and_not_in_the_target(size):
    """A mean over pixels of linear classes is a linear class of the mean, whose class activation map is known."""
    model = Segmenter(size)
    target = Target.of(lambda output: output["out"][:, 1].mean((1, 2)))
    a, weight = model.features(IMAGE).detach(), model.classes.weight[1, :, 0, 0].detach()
    expected = F.interpolate(torch.einsum("bchw,c->bhw", a, weight)[:, None], (16, 20), mode="bilinear")[:, 0]
    found = CAM()(model, IMAGE, target)
    assert found.layer == "features"
    close(found.map, expected)
    close(GradCAM(relu=False)(model, IMAGE, target).map, expected / a[0, 0].numel())


def test_a_probe_in_the_target_sees_the_map_that_the_model_puts_out():
    features, probe = Segmenter().features, torch.randn(5, dtype=torch.float64)
    found = CAM()(features, IMAGE, Target.of(lambda a: a.mean((2, 3)) @ probe))
    a = features(IMAGE).detach()
    close(found.map, F.interpolate(torch.einsum("bchw,c->bhw", a, probe)[:, None], (16, 20), mode="bilinear")[:, 0])


class Attention(nn.Module):
    """Written by hand: as many heads as numbers in each, so that (heads, size) has the shape of a picture."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.qkv = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48)
        self.mixed = nn.Identity()
        self.out, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        rows, count, _ = x.shape
        q, k, v = (each.view(rows, count, 4, 4).transpose(1, 2) for each in self.qkv(x).chunk(3, 2))
        mixed = self.mixed((q @ k.transpose(2, 3) / 2).softmax(3) @ v)
        return self.head(self.out(mixed.transpose(1, 2).reshape(rows, count, 16)).mean(1))


class Streams(nn.Module):
    """Two maps of the image, side by side, or one after the other; each is pooled into the score."""

    def __init__(self, after):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4 if after else 3, 4, 2, 2)
        self.head, self.after = nn.Linear(8, 3), after
        self.double().eval()

    def forward(self, image):
        one = self.one(image).relu()
        other = self.other(one if self.after else image).relu()
        return self.head(torch.cat([other.mean((2, 3)), one.mean((2, 3))], 1))


def test_two_maps_side_by_side_are_refused_and_the_one_before_both_is_taken():
    with pytest.raises(
        UnsupportedError, match="no single feature map carries the whole score in this model: name a layer"
    ):
        GradCAM()(Streams(after=False), IMAGE, 1)
    model = Streams(after=True)
    a = model.one(IMAGE).relu().detach().requires_grad_()
    score = model.head(torch.cat([model.other(a).relu().mean((2, 3)), a.mean((2, 3))], 1))[:, 1]
    product = torch.autograd.grad(score.sum(), a)[0] * a.detach()
    found = HiResCAM()(model, IMAGE, 1)
    assert found.layer == "relu of 'one'"
    close(found.map, F.interpolate(product.sum(1, keepdim=True), IMAGE.shape[2:], mode="bilinear")[:, 0])


class Scattered(Attention):
    """Tokens are put into a buffer, in an order of their own: it is not known which is which patch."""

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.zeros_like(x)
        tokens[:, torch.arange(x.shape[1]).flip(0)] = x
        return self.head(self.out(tokens).mean(1))


WORKS = "use a method of pixels such as 'integrated_gradients' or 'occlusion'"


def test_tokens_of_unknown_places_are_refused_in_one_line_that_says_what_works():
    model, image = Scattered().eval(), images(2, (16, 16))
    for make in FAMILY:
        with pytest.raises(UnsupportedError, match=f"made from tokens .*{WORKS}") as caught:
            make()(model, image, 1)
        assert "\n" not in str(caught.value)
    for layer, refused in {"out": "it is not known which are which patch", "head": "no map"}.items():
        with pytest.raises(UnsupportedError, match=refused) as caught:
            GradCAM(layer)(model, image, 1)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedError, match="which axis holds the channels"):  # of attention heads
        GradCAM("mixed")(Attention().eval(), image, 1)


@pytest.mark.parametrize("count", [1, 4, 16, 64, 65])
def test_tokens_are_known_of_any_number_of_images(count):
    """Of 4 tokens of 16 numbers, with as many images as either, as both together, and more."""
    model, image = Attention().eval().double(), images(count, (8, 8)).double()
    found = HiResCAM()(model, image, 1)
    assert found.layer == "out"
    kept = []
    handle = model.out.register_forward_hook(lambda _, __, output: kept.append(output.detach()))
    model(image)
    handle.remove()
    cells = (kept[0] @ model.head.weight[1].detach()).view(count, 1, 2, 2) / 4
    close(found.map, F.interpolate(cells, (8, 8), mode="bilinear")[:, 0])
    with pytest.raises(UnsupportedError, match="made from tokens"):
        EigenCAM()(Scattered().eval().double(), image, 1)


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (mobilenet_v2, "features"),
        (squeezenet1_1, "classifier.2"),
        (shufflenet_v2_x0_5, "conv5"),
        (lambda weights: inception_v3(weights=weights, init_weights=False, aux_logits=False), "Mixed_7c"),
    ],
)
def test_the_last_map_of_common_networks(build, layer):
    torch.manual_seed(0)
    model, image = build(weights=None).eval(), images(1, (160, 160) if layer == "Mixed_7c" else (64, 64))
    found = EigenCAM()(model, image, 1)
    assert found.layer == layer
    assert found.cost.forwards == 1
    close(found.map, EigenCAM(layer)(model, image, 1).map)
