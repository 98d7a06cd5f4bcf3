"""Maps with their channels last: against the same network written with its channels first, and against autograd."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer

from ibd.errors import ConfigError, UnsupportedError
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
from ibd.explain.gradients import GradientTimesInput, Saliency
from ibd.explain.lrp import LRP
from ibd.explain.targets import Target
from tests.explainer_makers import images

FAMILY = [GradCAM, HiResCAM, GradCAMPlusPlus, XGradCAM, LayerCAM, EigenCAM, AblationCAM, ScoreCAM]
IMAGE = images(2, (16, 20)).double()
close = torch.testing.assert_close


class First(nn.Module):
    """A mean over positions, then two layers; `backbone` has a normalization over the channels, which come first."""

    def __init__(self, linear=False):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 4, 4), ChannelNorm(6), nn.Conv2d(6, 9, 1), nn.ReLU())
        self.hidden, self.head, self.linear = nn.Linear(9, 7), nn.Linear(9 if linear else 7, 3), linear
        self.double().eval()

    def forward(self, image):
        pooled = self.backbone(image).mean((2, 3))
        return self.head(pooled if self.linear else self.hidden(pooled).tanh())


class ChannelNorm(nn.Module):
    """Layer normalization over axis 1, written down."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(channels)), nn.Parameter(torch.rand(channels))

    def forward(self, x):
        centered = x - x.mean(1, keepdim=True)
        scaled = centered / (centered.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class Last(First):
    """The same function; after the first convolution the channels are last."""

    def __init__(self, linear=False):
        super().__init__(linear)
        conv, norm, second, relu = self.backbone
        layer_norm, dense = nn.LayerNorm(6).double(), nn.Linear(6, 9).double()
        layer_norm.load_state_dict(norm.state_dict())
        dense.weight.data, dense.bias.data = second.weight.data[:, :, 0, 0], second.bias.data
        self.backbone = nn.Sequential(conv, ToLast(), layer_norm, dense, relu)

    def forward(self, image):
        pooled = self.backbone(image).mean((1, 2))
        return self.head(pooled if self.linear else self.hidden(pooled).tanh())


class ToLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


NAMES = {"backbone": "backbone", "backbone.1": "backbone.0", "backbone.2": "backbone.1", "backbone.3": "backbone.2"}
"""Layer of the network with its channels last -> the same of the other."""


def test_both_are_the_same_network():
    close(Last()(IMAGE), First()(IMAGE))


@pytest.mark.parametrize("layer", [None, *NAMES])
def test_maps_are_those_of_the_network_with_its_channels_first(layer):
    for make in FAMILY:
        for target in (1, Target.classes([2, 0])):
            if (make, layer) == (HiResCAM, "backbone.1"):  # what a normalization of each cell follows
                for network, name in ((Last(), layer), (First(), NAMES[layer])):
                    with pytest.raises(UnsupportedError, match="cancels in every cell"):
                        make(name)(network, IMAGE, target)
                continue
            found = make(layer, relu=False)(Last(), IMAGE, target)
            expected = make(NAMES.get(layer), relu=False)(First(), IMAGE, target)
            close(found.map, expected.map)
            assert found.map.abs().max() > 0
    together = Cams(["gradcam", "ablationcam"], layer)(Last(), IMAGE, 1)
    close(together["ablationcam"].map, AblationCAM(NAMES.get(layer))(First(), IMAGE, 1).map)


def test_cam_in_closed_form():
    model = Last(linear=True)
    a = model.backbone(IMAGE).detach() @ model.head.weight[1].detach()
    expected = F.interpolate(a[:, None], IMAGE.shape[2:], mode="bilinear")[:, 0]
    close(CAM()(model, IMAGE, 1).map, expected)
    close(CAM("backbone.4")(model, IMAGE, 1).map, expected)


@pytest.mark.parametrize("method", ["gradient_input", "integrated_gradients", "saliency", "lrp"])
def test_layer_attribution_has_the_channels_of_the_layer(method):
    options = {"name": "lrp", "composite": "epsilon"} if method == "lrp" else method
    last = layer_attribution(Last(linear=True), IMAGE, "backbone", 1, options)
    # Of an affine head, relevance is the gradient times the activation.
    first = layer_attribution(First(linear=True), IMAGE, "backbone", 1, "gradient_input" if method == "lrp" else method)
    assert last.channels.shape == (2, 9)
    for name in ("spatial", "channels", "both"):
        close(getattr(last, name), getattr(first, name))
    if method == "gradient_input":
        model = Last(linear=True)
        close(last.channels, (model.head.weight[1] * model.backbone(IMAGE).mean((1, 2))).detach())
        close(last.completeness, torch.zeros(2).double())


def test_relevance_by_a_layer_has_the_channels_of_the_layer():
    wanted = GradientTimesInput(layer="backbone")(First(linear=True), IMAGE, 1)  # which is what it is of a linear head
    found = LRP("epsilon", layer="backbone")(Last(linear=True), IMAGE, 1)
    assert len(found.unit_names) == 9
    close(found.units, wanted.units)
    close(found.map, wanted.map)


def test_gradients_by_a_layer_are_channels_first():
    found = Saliency("backbone")(Last(), IMAGE, 1)
    close(found.unit_maps, Saliency("backbone")(First(), IMAGE, 1).unit_maps)
    assert found.layer == "backbone"


def by_autograd(model, image, layer, k):
    """Return activation times gradient of a layer that has its channels last, summed over them."""
    kept = []

    def keep(_, __, output):
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1] * 1

    handle = model.get_submodule(layer).register_forward_hook(keep)
    score = model(image)[:, k].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return (gradient * kept[0]).sum(3).detach()


def swin():
    return SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[1, 2], num_heads=[2, 2], window_size=[4, 4], num_classes=4
    )


def convnext():
    """Return one that does not cancel all before its normalizations."""
    model = ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=4)
    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = 0.1
    return model


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        *((swin, layer) for layer in ("features.0", "features.1.0.norm1", "features.3.1.mlp.0", "features.3", "norm")),
        *((convnext, f"features.1.0.block.{index}") for index in (1, 2, 3, 4, 5)),
    ],
)
def test_layers_of_torchvision_that_have_their_channels_last(build, layer):
    torch.manual_seed(0)
    model, image = build().double().eval(), images(2, (32, 32)).double()
    expected = F.interpolate(by_autograd(model, image, layer, 1)[:, None], (32, 32), mode="bilinear")[:, 0]
    close(HiResCAM(layer)(model, image, 1).map, expected)


@pytest.mark.parametrize(("build", "layer"), [(swin, "norm"), (convnext, "features")])
def test_the_default_layer_of_torchvisions_is_their_last_map(build, layer):
    torch.manual_seed(0)
    model, image = build().double().eval(), images(2, (32, 32)).double()
    for make in FAMILY[:-1]:
        close(make()(model, image, 1).map, make(layer)(model, image, 1).map)


class Mystery(nn.Module):
    """A map that no known function makes; `end` makes a vector of it."""

    def __init__(self, end, features):
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.end = nn.Parameter(torch.randn(3, 4)), end
        self.made, self.head = nn.Identity(), nn.Linear(features, 3)
        self.double().eval()

    def forward(self, image):
        mixed = torch.einsum("bchw,cd->bdhw", F.avg_pool2d(image, 4), self.weight)
        return self.head(self.end(self.made(mixed)))


def test_what_cannot_be_known_is_refused_and_can_be_said():
    model = Mystery(lambda a: a.flatten(1), 80)
    for layer in (None, "made"):
        with pytest.raises(UnsupportedError, match=r"axis holds the channels: .+'channels_first'") as caught:
            GradCAM(layer)(model, IMAGE, 1)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedError, match="which axis holds the channels"):
        layer_attribution(model, IMAGE, "made", 1)
    a = torch.einsum("bchw,cd->bdhw", F.avg_pool2d(IMAGE, 4), model.weight).detach()
    product = a * model.head.weight[1].detach().view(a.shape[1:])
    expected = F.interpolate(product.sum(1, keepdim=True), IMAGE.shape[2:], mode="bilinear")[:, 0]
    close(HiResCAM("made", layout="channels_first")(model, IMAGE, 1).map, expected)
    assert layer_attribution(model, IMAGE, "made", 1, layout="channels_first").channels.shape == (2, 4)
    parts = layer_attribution(model, IMAGE, "made", 1, layout="channels_last")
    close(parts.channels, product.sum((1, 2)))
    close(parts.spatial, product.sum(3))
    with pytest.raises(ConfigError, match="layout: 'nhwc' is not one of auto, channels_first, channels_last"):
        GradCAM(layout="nhwc")
    with pytest.raises(ConfigError, match="'gradcam' has the layout 'auto', not 'channels_last'"):
        Cams([GradCAM()], layout="channels_last")


def test_a_mean_over_positions_says_where_the_channels_are():
    model = Mystery(lambda a: a.mean((2, 3)), 4)
    assert layer_attribution(model, IMAGE, "made", 1).channels.shape == (2, 4)
    turned = Mystery(lambda a: a.transpose(1, 3).mean((1, 2)), 4)  # (B, w, h, C)
    turned.load_state_dict(model.state_dict())
    close(GradCAM("made")(turned, IMAGE, 1).map, GradCAM("made")(model, IMAGE, 1).map)


class Heads(nn.Module):
    """Normalizes values, or queries alone, within their heads, (B, heads, N, size): no picture of heads x N places."""

    def __init__(self, queries):
        super().__init__()
        self.patches, self.norm, self.queries = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(8), queries
        self.head = nn.Linear(16, 3)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        heads = x.reshape(len(x), -1, 1, 2, 8).permute(2, 0, 3, 1, 4)[0]
        normal = self.norm(heads)
        mixed = (normal @ heads.transpose(2, 3)).softmax(3) @ heads if self.queries else normal
        return self.head(mixed.transpose(1, 2).reshape(x.shape).mean(1))


@pytest.mark.parametrize("queries", [False, True])
def test_attention_heads_are_no_picture(queries):
    with pytest.raises(UnsupportedError, match="which axis holds the channels"):
        GradCAM("norm")(Heads(queries), images(2, (32, 32)), 1)
