"""The network cut in two at its whitened layer: what it computes, what can be edited, what an axis is worth."""

import copy

import pytest
import torch
from torch import nn

from ibd.backbones import build_backbone
from ibd.backbones.base import Backbone
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.values import Scale
from tests.unit.models.concept_whitening.makers import SPEC, make_module, make_network, settle

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(7))
FAMILIES = [
    ({"name": "small_cnn"}, ["*"]),
    ({"name": "cifar_resnet", "depth": 8}, ["layer3.0.bn2"]),
    ({"name": "resnet18"}, ["layer4.*.bn1", "layer3.1.bn2"]),
    ({"name": "resnet18"}, ["layer4.0.downsample.1"]),
    ({"name": "vgg11_bn"}, None),
    ({"name": "densenet121"}, ["features.denseblock4.denselayer2.norm1", "features.norm5"]),
    ({"name": "mobilenet_v3_small"}, None),
]


@pytest.mark.parametrize(("backbone", "layers"), FAMILIES)
@torch.no_grad()
def test_two_halves_are_the_whole(backbone, layers):
    """And running the second half leaves the first one's results as they were, in spite of in-place ReLUs."""
    torch.manual_seed(0)
    network = ConceptWhiteningNetwork(build_backbone(backbone), SPEC.class_names, SPEC.concept_names, layers)
    settle(network, size=(32, 32))
    image = torch.rand(4, 3, 32, 32)
    whole = network.head(network.backbone(image).mean((2, 3)))
    units = network.encode(image)
    before = [part.clone() for part in units.state]
    torch.testing.assert_close(network.decode(units), whole)
    assert all(torch.equal(a, b) for a, b in zip(before, units.state, strict=True))
    assert torch.equal(units.maps, before[0])
    assert bool((units.maps < 0).any())
    maps = network.depth_maps(image)
    assert list(maps) == network.layer_names
    assert torch.equal(maps[network.layer_names[-1]], before[0])
    assert all(bool((each < 0).any()) for each in maps.values())
    assert not [name for name in network.state_dict() if "halves" in name]


def test_default_layers():
    for name, layer in (
        ("small_cnn", "stage4.norm"),
        ("cifar_resnet", "layer3.2.bn1"),
        ("resnet50", "layer4.2.bn1"),
        ("densenet121", "features.norm5"),
        ("vgg11_bn", "features.26"),
    ):
        network = ConceptWhiteningNetwork(build_backbone({"name": name}), ["a"], ["x"])
        assert network.layer_names == [layer]
        assert isinstance(network.backbone.get_submodule(layer), ConceptWhiteningLayer)


def test_layers_are_found_in_the_order_in_which_they_run():
    network = make_module(layers=["stage3.norm", "stage1.norm"], concepts=["wing::red"]).network
    assert network.layer_names == ["stage1.norm", "stage3.norm"]
    assert len(network.unit_names) == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layers": ["stage9.norm"]},
            "model.layers: SmallCNN has no batch normalization 'stage9.norm'. Did you mean one of: 'stage3.norm', "
            "'stage2.norm', 'stage1.norm'?",
        ),
        ({"layers": []}, "model.layers: at least one is needed. Known: stage1.norm, stage2.norm, stage3.norm."),
        ({"backbone": {"name": "small_cnn", "norm": "group"}}, "has no batch normalization for"),
        (
            {"backbone": {"name": "small_cnn", "width": 1, "depth": 3}},
            "a layer with 4 channels has no axes for 6 concepts",
        ),
        ({"concepts": ["wing::rde"]}, "the data has no concept 'wing::rde'. Did you mean"),
        ({"concepts": ["flies", "flies"]}, "model.concepts: 'flies' is given twice"),
        ({"concepts": []}, "concept whitening needs concepts"),
        ({"concept_folder": "nowhere"}, "model.concept_folder: there is no folder 'nowhere'"),
        ({"whitening": {"groups": 5}}, "model.whitening.groups: 5 do not divide the 32 channels"),
        ({"label_smoothing": 2.0}, "model.label_smoothing: 2.0 given"),
        ({"alignment": {"momentum": 0}}, "model.alignment.momentum: 0 given"),
        ({"alignment": {"every": -1}}, "model.alignment.every: -1 given"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises((ConfigError, UnsupportedError, Exception)) as caught:
        make_module(**options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Twice(Backbone):
    """Runs one layer two times."""

    out_channels = 6

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, image):
        return self.norm(self.norm(self.conv(self.normalize(image))))


class Deciding(Twice):
    """Looks at the values, which cannot be traced."""

    def forward(self, image):
        x = self.norm(self.conv(image))
        return x if bool((x > 0).any()) else -x


class Adding(Twice):
    """Adds to the layer's output in place, and carries the image over."""

    def forward(self, image):
        x = self.norm(self.conv(image))
        x += image.mean(1, keepdim=True)
        return nn.functional.relu(x, inplace=True)


class Dropping(Twice):
    """Looks at its mode."""

    def forward(self, image):
        x = nn.functional.dropout(self.norm(self.conv(image)), 0.5, self.training)
        return x * 2 if self.training else x


@torch.no_grad()
def test_code_that_looks_at_its_mode_is_followed_in_both():
    torch.manual_seed(0)
    network = ConceptWhiteningNetwork(Dropping(), ["a"], ["x"])
    network(IMAGES)
    network.eval()
    logits = network(IMAGES).logits
    torch.testing.assert_close(logits, network.head(network.backbone(IMAGES).mean((2, 3))))
    assert torch.equal(network(IMAGES).logits, logits)
    network.train()
    assert not torch.equal(network(IMAGES).logits, network(IMAGES).logits)


@torch.no_grad()
def test_modules_replaced_in_the_backbone_are_what_runs():
    """As synchronized batch statistics do it, and folding."""
    network = make_network(backbone=build_backbone({"name": "cifar_resnet", "depth": 8}))
    network(IMAGES)
    network.backbone.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    units = network.encode(IMAGES)
    torch.testing.assert_close(network.decode(units), network.head(network.backbone(IMAGES).mean((2, 3))))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    run = {id(module) for part in converted.halves for module in part.modules()}
    kept = [m for m in converted.backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(kept) == 8
    assert {id(module) for module in kept} <= run
    assert not any(type(module) is nn.BatchNorm2d for part in converted.halves for module in part.modules())


def test_backbones_that_cannot_be_cut():
    with pytest.raises(UnsupportedError, match=r"layer 'norm' runs 2 times in a pass: it must run once"):
        ConceptWhiteningNetwork(Twice(), ["a"], ["x"])
    with pytest.raises(UnsupportedError, match=r"Deciding cannot be cut at norm: torch.fx cannot follow it"):
        ConceptWhiteningNetwork(Deciding(), ["a"], ["x"])


@torch.no_grad()
def test_what_is_carried_over_is_not_written_over():
    network = make_network(backbone=Adding())
    units = network.encode(IMAGES)
    assert [tuple(part.shape) for part in units.state] == [(5, 6, 16, 16), (5, 3, 16, 16)]
    before = units.maps.clone()
    first = network.decode(units)
    assert torch.equal(network.decode(units), first)
    assert torch.equal(units.maps, before)


def test_names_and_groups():
    network = make_network()
    assert network.unit_names[:7] == [*SPEC.concept_names, "axis 6"]
    assert network.unit_groups["wing"] == [0, 1, 2]
    assert network.unit_plural == "axes"
    folder = make_network(concepts=["flies", "wing::red"])
    assert folder.unit_names[:3] == ["flies", "wing::red", "axis 2"]


@torch.no_grad()
def test_edits_act_on_the_map_and_the_rest_runs_on():
    network = make_network()
    units = network.encode(IMAGES)
    edited = network.edit(units, {"wing::red": 0, 9: 1.5, "flies": Scale(0.5), "size": "big"})
    expected = units.maps.clone()
    expected[:, 0], expected[:, 9], expected[:, 5], expected[:, 3] = 0, 1.5, expected[:, 5] * 0.5, 1.0
    torch.testing.assert_close(edited.maps, expected)
    torch.testing.assert_close(edited.scores, network.pool(expected))
    layer = network.backbone.stage3
    torch.testing.assert_close(network.decode(edited), network.head(layer.relu(expected).mean((2, 3))))
    assert torch.equal(units.maps, network.encode(IMAGES).maps)
    column = network.edit(units, {"wing::red": torch.arange(5.0)})
    assert column.maps[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wing::red": "xx"}, "a number is needed"),
        ({"wing::red": float("nan")}, "a finite number is needed"),
        ({"wing::red": "x0.5"}, "'wing::red=x0.5': a number is needed, or a group and its member"),
        ({"wing::red": Scale(float("inf"))}, "a finite number is needed"),
        ({"wing::rad": 1}, "unknown axis 'wing::rad'. Did you mean one of: 'wing::red'"),
        ({"wing::red": 1, 0: Scale(2)}, "is given twice"),
    ],
)
def test_impossible_edits(values, message):
    network = make_network()
    with pytest.raises(ConfigError) as caught:
        network.edit(network.encode(IMAGES), values)
    assert message in str(caught.value)


@torch.no_grad()
def test_contributions_are_what_removing_an_axis_does(monkeypatch):
    network = make_network()
    units = network.encode(IMAGES)
    logits = network.decode(units)
    whole = network.contributions(units)
    for axis in (0, 5, 31):
        torch.testing.assert_close(whole[:, axis], logits - network.decode(network.edit(units, {axis: 0})))
    monkeypatch.setattr("ibd.models.concept_whitening.network._MOST_VALUES", 1)  # an axis at a time
    torch.testing.assert_close(network.contributions(units), whole)


def test_the_table_says_that_contributions_do_not_add_up():
    module = make_module()
    settle(module.network)
    module.network.low[:], module.network.high[:] = -0.5, 1.25
    text = str(module.predict(IMAGES[:1]))
    assert "each is the logit lost without that unit alone; they do not add up" in text
    assert "= logit" not in text
    assert "-0.50 to 1.25" in text
    after = module.predict(IMAGES[:1]).intervene({"wing::red": Scale(2), "flies": 0})
    assert after.edited[0].nonzero().flatten().tolist() == [0, 5]


def test_every_gradient_explainer_can_work_in_evaluation_mode():
    """Of a logit and of an axis, by the image and by the axis's map: against finite differences in float64."""
    network = copy.deepcopy(make_network()).double()
    image = IMAGES[:1].double().requires_grad_()
    direction = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for score in (lambda x: network(x).logits[0, 1], lambda x: network(x).units.scores[0, 2]):
        gradient = torch.autograd.grad(score(image), image)[0]
        step = 1e-6
        with torch.no_grad():
            change = (score(image + step * direction) - score(image - step * direction)) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(float(change), rel=1e-4)


def test_it_computes_in_float32_under_autocast():
    network = make_network()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        output = network(IMAGES)
    assert output.units.scores.dtype == output.units.maps.dtype == output.logits.dtype == torch.float32
    half = copy.deepcopy(network).bfloat16()
    assert all(b.dtype == torch.float32 for layer in half.whitened.values() for b in layer.buffers() if b.ndim)
    with torch.no_grad():
        assert half(IMAGES.bfloat16()).logits.dtype == torch.bfloat16
