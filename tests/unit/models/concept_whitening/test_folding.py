"""A folded network computes the same without its whitened layers."""

import copy

import pytest
import torch
from torch import nn

from ibd.backbones import build_backbone
from ibd.backbones.base import Backbone
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.whitening import Whitening
from ibd.models.values import Scale
from tests.model_makers import settle

CONCEPTS = ["wing::red", "wing::blue"]
SMALL = {"name": "small_cnn", "width": 4, "depth": 3}


def whitened(backbone, size=(16, 16), layers=None, dtype=torch.float32, **options):
    torch.manual_seed(0)
    backbone = build_backbone(backbone) if isinstance(backbone, dict) else backbone
    network = ConceptWhiteningNetwork(backbone, ["ant", "bee", "cow"], CONCEPTS, layers, **options)
    return settle(network.to(dtype), size)


def places(network):
    """Return what stands in the place of each whitened layer."""
    return [network.backbone.get_submodule(name) for name in network.layer_names]


def close(value, expected, tolerance=1e-4):
    assert value.shape == expected.shape
    assert value.dtype == expected.dtype
    scale = float(expected.abs().max())
    assert scale > 0
    assert float((value - expected).abs().max()) <= tolerance * scale


def check_same(network, folded, image, tolerance=1e-4):
    with torch.no_grad():
        expected, found = network(image), folded(image)
    close(found.logits, expected.logits, tolerance)
    close(found.units.maps, expected.units.maps, tolerance)
    close(found.units.scores, expected.units.scores, tolerance)


CASES = {
    "small_cnn": (SMALL, (16, 16), {}, [nn.Identity]),
    "several": (SMALL, (16, 16), {"layers": ["stage2.norm", "stage3.norm"]}, [nn.Identity] * 2),
    "groups": (SMALL, (16, 16), {"whitening": Whitening(groups=4)}, [nn.Identity]),
    "max": (SMALL, (16, 16), {"activation": "max"}, [nn.Identity]),
    "residual": ({"name": "cifar_resnet", "depth": 8, "width": 4}, (16, 16), {}, [nn.Identity]),
    "every one of a residual network": (
        {"name": "cifar_resnet", "depth": 8, "width": 4},
        (16, 16),
        {"layers": ["*"]},
        [nn.Identity] * 9,
    ),
    "depthwise": (
        {"name": "mobilenet_v3_small"},
        (32, 32),
        {"layers": ["features.1.block.0.1", "features.2.block.0.1"]},
        [nn.Conv2d, nn.Identity],
    ),
    "no convolution before": (
        {"name": "densenet121"},
        (32, 32),
        {"layers": ["features.norm0", "features.denseblock1.denselayer1.norm1"]},
        [nn.Identity, nn.Conv2d],
    ),
}


@pytest.mark.parametrize(("backbone", "size", "options", "kinds"), CASES.values(), ids=CASES)
def test_the_same_axes_and_logits(backbone, size, options, kinds):
    network = whitened(backbone, size, **options)
    before = copy.deepcopy(network.state_dict())
    folded = network.for_inference()
    assert [type(place) for place in places(folded)] == kinds
    assert not any(isinstance(module, ConceptWhiteningLayer) for module in folded.modules())
    check_same(network, folded, torch.rand(3, 3, *size))
    assert all(isinstance(place, ConceptWhiteningLayer) for place in places(network))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_float64_is_exact_to_rounding():
    network = whitened(SMALL, dtype=torch.float64)
    check_same(network, network.for_inference(), torch.rand(2, 3, 16, 16, dtype=torch.float64), 1e-12)


def test_the_memory_layout_stays():
    network = whitened(SMALL).to(memory_format=torch.channels_last)
    folded = network.for_inference()
    weight = folded.backbone.stage3.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    check_same(network, folded, torch.rand(2, 3, 16, 16).contiguous(memory_format=torch.channels_last))


def test_all_that_is_made_of_the_axes_is_the_same():
    network = whitened(SMALL, layers=["stage2.norm", "stage3.norm"])
    folded, image = network.for_inference(), torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        expected, found = network.encode(image), folded.encode(image)
        close(folded.contributions(found), network.contributions(expected))
        for values in ({"wing::red": 2.5}, {"wing::blue": Scale(0.5), 3: 0}):
            close(folded.decode(folded.edit(found, values)), network.decode(network.edit(expected, values)))
        maps = network.depth_maps(image)
        for name, value in folded.depth_maps(image).items():
            close(value, maps.pop(name))
    assert not maps
    assert folded.layer_names == network.layer_names
    assert folded.unit_names == network.unit_names
    assert not folded.whitened


def test_folding_again_changes_nothing():
    network = whitened({"name": "mobilenet_v3_small"}, (32, 32), ["features.1.block.0.1", "features.2.block.0.1"])
    once = network.train().for_inference()
    assert network.training
    assert not any(module.training for module in once.modules())
    twice, image = once.for_inference(), torch.rand(2, 3, 32, 32)
    assert [type(place) for place in places(twice)] == [nn.Conv2d, nn.Identity]
    with torch.no_grad():
        assert torch.equal(twice(image).logits, once(image).logits)


class Own(Backbone):
    """A whitened layer after a convolution that something else depends on as well."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.out_channels = kind, 4
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", stride=2, dilation=2)
        self.norm, self.later = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        if kind == "subclass":
            self.conv = Doubled(4, 4, 1)
        if kind == "hook":
            self.conv.register_forward_hook(lambda _, __, output: output * 2)
        if kind == "second name":
            self.again = nn.Sequential(self.conv, nn.ReLU())

    def forward(self, image):
        x = self.stem(self.normalize(image))
        y = self.conv(x)
        z = self.norm(y.relu() if self.kind == "between" else y)
        if self.kind == "read elsewhere":
            z = z + y
        if self.kind == "twice":
            z = self.conv(z.relu())
        if self.kind == "second name":
            z = self.again(z.relu())
        if self.kind == "weight":
            z = nn.functional.conv2d(z.relu(), self.conv.weight, padding=1)
        return self.later(z.relu())


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", ["between", "read elsewhere", "twice", "second name", "weight", "subclass", "hook"])
def test_a_convolution_that_others_depend_on_stays_as_it_is(kind):
    network = whitened(Own(kind))
    folded = network.for_inference()
    assert [type(place) for place in places(folded)] == [nn.Conv2d]
    assert torch.equal(folded.backbone.conv.weight, network.backbone.conv.weight)
    check_same(network, folded, torch.rand(2, 3, 16, 16))


def test_any_stride_padding_dilation_and_bias_will_do():
    network = whitened(Own(""))
    folded = network.for_inference()
    assert [type(place) for place in places(folded)] == [nn.Identity]
    check_same(network, folded, torch.rand(2, 3, 16, 16))


def test_a_shared_weight_is_left_to_the_other_module():
    backbone = Own("")
    backbone.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1))
    backbone.stem[1].weight = backbone.conv.weight
    network = whitened(backbone)
    folded = network.for_inference()
    assert folded.backbone.stem[1].weight is not folded.backbone.conv.weight
    check_same(network, folded, torch.rand(2, 3, 16, 16))
