"""A trained CNN becomes a B-cos network: at first it computes what it did, in the end a linear map of the pixels."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from ibd.backbones import Linearized, bcosify, build_backbone, faded, set_fade
from ibd.backbones.bcos.fading import fade_during
from ibd.backbones.bcos.fading_layers import FadingConv2d, FadingNorm
from ibd.comparison.probes.randomize import randomizable
from ibd.errors import CheckpointError, ConfigError
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from tests.model_makers import SPEC

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SMALL = {"width": 4, "depth": 3}
PLAIN, BCOS = {"name": "small_cnn", **SMALL}, {"name": "bcos_small_cnn", **SMALL}


class NormAct(nn.BatchNorm2d):
    """A batch normalization that drops and activates, as timm's are."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU(inplace=True)

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


def of_timms_kind():
    convolutions = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), NormAct(8), nn.Conv2d(8, 8, 3, padding=1, groups=8)]
    return nn.Sequential(*convolutions, NormAct(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def torchvisions(name):
    return lambda: models.get_model(name, weights=None, num_classes=5)


SLOW = ("densenet121", "efficientnet_b0", "mobilenet_v2")
NETWORKS = {
    "as timm": of_timms_kind,
    **{name: torchvisions(name) for name in ("resnet18", "mobilenet_v3_small", *SLOW)},
}


def settle(network, images):
    """Give normalizations random parameters, and the statistics of the images."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | FadingNorm):
            layer.momentum = None
            layer.reset_parameters()
            nn.init.normal_(layer.weight, 1.0, 0.2)
            nn.init.normal_(layer.bias, 0.0, 0.2)
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def pixels(count=4, size=64):
    return torch.rand(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name",
    [*("as timm", "resnet18", "mobilenet_v3_small"), *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_at_first_it_computes_what_it_did_and_in_the_end_a_linear_map(name):
    torch.manual_seed(0)
    network, x = NETWORKS[name]().double(), pixels()
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    settle(network, (x - mean) / std)
    with torch.no_grad():
        before = network((x - mean) / std)
        six = torch.cat([x, 1 - x], 1)
        assert bcosify(network, 1.75, MEAN, STD) is network
        torch.testing.assert_close(network(six), before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))
    set_fade(network, 1.0)
    settle(network, six)
    with Linearized():
        logits = network(six.requires_grad_())
        (rows,) = torch.autograd.grad(logits[:, 3].sum(), six)
    scale = float(logits.detach().abs().max())
    assert scale > 0
    with torch.no_grad():
        torch.testing.assert_close(network(six), logits, rtol=0, atol=1e-9 * scale)
        torch.testing.assert_close((rows * six).sum((1, 2, 3)), logits[:, 3], rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("config", [PLAIN, {"name": "cifar_resnet", "depth": 8, "width": 4}], ids=["small", "resnet"])
def test_our_own_backbones_keep_their_three_channels(config):
    torch.manual_seed(0)
    backbone, x = build_backbone(config).double(), pixels()
    settle(backbone, x)
    with torch.no_grad():
        before, in_training = backbone(x), copy.deepcopy(backbone).train()(x)
        bcosify(backbone)
        torch.testing.assert_close(backbone(x), before, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(copy.deepcopy(backbone).train()(x), in_training, rtol=1e-9, atol=1e-9)
    network = BaselineNetwork(backbone, SPEC.class_names).double().eval()
    set_fade(backbone, 0.9)
    assert network.account == "cells"
    set_fade(backbone, 1.0)
    assert network.account == "pixels"
    settle(backbone, x)
    with torch.no_grad():
        scores = network.linear_pass(x)[1]
    torch.testing.assert_close(network.pixel_maps(x).heat.sum((2, 3)), scores, rtol=1e-9, atol=1e-9)


def test_the_fade_is_part_of_the_state(tmp_path):
    torch.manual_seed(0)
    network = bcosify(build_backbone(PLAIN))
    set_fade(network, 0.3)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    again = bcosify(build_backbone(PLAIN))
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert faded(again) == faded(copy.deepcopy(again)) == 0.3
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again.eval()(image), network.eval()(image))
    assert not any("extra_state" in name for name in randomizable(network))
    damaged = network.state_dict() | {"stage1.conv._extra_state": torch.tensor(7.0)}
    with pytest.raises(CheckpointError, match=r"has faded to 7\.0: from 0 to 1 is possible"):
        again.load_state_dict(damaged)


def test_it_fades_in_step_with_the_training_and_never_back():
    network = bcosify(build_backbone(PLAIN))
    network.fade_share = 0.5
    seen = []
    for step in range(8):
        fade_during(network, (step + 1) / 8)
        seen.append(faded(network))
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    fade_during(network, 0.1)
    assert faded(network) == 1
    set_fade(network, 0.0)
    network.fade_share = 0.0
    fade_during(network, 0.01)
    assert faded(network) == 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """State files of a plain network, of a B-cos network, and of a converted one that has faded."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("states")
    networks = {"plain": build_backbone({**PLAIN, "normalize": "imagenet"}), "bcos": build_backbone(BCOS)}
    for network in networks.values():
        settle(network.double(), pixels(size=32)) if network is networks["plain"] else network.double().train()(
            pixels(size=32)
        )
    networks["converted"] = bcosify(copy.deepcopy(networks["plain"]))
    set_fade(networks["converted"], 1.0)
    paths = {}
    for name, network in networks.items():
        paths[name] = str(folder / f"{name}.pt")
        torch.save(network.state_dict(), paths[name])
    return networks, paths


@pytest.mark.parametrize(("kind", "converted"), [("bcos", False), ("plain", True), ("converted", True)])
def test_weights_to_start_from(files, kind, converted):
    """The statistics that are folded are those of the state, not the default ones."""
    networks, paths = files
    started = build_backbone({**BCOS, "converted": converted, "weights": paths[kind]}).double().eval()
    assert faded(started) == (0 if kind == "plain" else 1)
    x = pixels(size=32)
    with torch.no_grad():
        torch.testing.assert_close(started(x), networks[kind].eval()(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (BCOS, "plain", "a plain network, which does not fit BcosSmallCNN: model.backbone.converted=true converts it"),
        (BCOS, "converted", "of a converted network, .* BcosSmallCNN: set model.backbone.converted=true"),
        ({**BCOS, "converted": True}, "bcos", "a B-cos network already: set model.backbone.converted=false"),
        (PLAIN, "bcos", "a B-cos network, .* fit SmallCNN: take a backbone whose name begins with bcos_$"),
        (PLAIN, "converted", "a converted network, .*begins with bcos_, and model.backbone.converted=true$"),
        ({**BCOS, "converted": True, "width": 8}, "plain", "does not fit BcosSmallCNN: [0-9]+ of another shape"),
    ],
)
def test_weights_of_another_kind(files, config, kind, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        build_backbone({**config, "weights": files[1][kind]})
    assert "\n" not in str(caught.value)


def test_published_weights_are_those_of_a_plain_network(monkeypatch):
    state = models.resnet18(weights=None).state_dict()
    state |= {"normalize.mean": torch.tensor(MEAN), "normalize.std": torch.tensor(STD)}
    monkeypatch.setattr("ibd.backbones.weights.download", lambda model, weights: {"resnet18": state}[model])
    started = build_backbone({"name": "bcos_resnet18", "converted": True, "weights": "DEFAULT"})
    alpha = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(started.conv1.weight[:, :3], state["conv1.weight"] * alpha.view(3, 1, 1))
    assert started.name == "bcos_resnet18"
    monkeypatch.setattr("ibd.backbones.weights.download", lambda *_: pytest.fail("downloaded for nothing"))
    with pytest.raises(
        ConfigError, match=r"'DEFAULT' are those of the plain resnet18, which model.*converted=true con"
    ):
        build_backbone({"name": "bcos_resnet18", "weights": "DEFAULT"})


def test_whitening_in_a_converted_backbone_centers_nothing():
    torch.manual_seed(0)
    body = build_backbone({**BCOS, "converted": True})
    network = ConceptWhiteningNetwork(body, SPEC.class_names, ["red", "blue"], ["stage2.norm"]).double()
    set_fade(network, 1.0)
    x = pixels(size=32)
    network.train()(x)
    body.normalize = nn.Identity()
    six = torch.cat([x, 1 - x], 1).requires_grad_()
    with Linearized():
        features = body.eval()(six)[:, 3].sum((1, 2))
        (rows,) = torch.autograd.grad(features.sum(), six)
    torch.testing.assert_close((rows * six).sum((1, 2, 3)), features, rtol=0, atol=1e-9)


def test_a_layer_that_is_there_twice_still_is_one():
    torch.manual_seed(0)
    twice = nn.Conv2d(4, 4, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), twice, twice, nn.Sequential(twice)).double()
    x = pixels(size=8)
    with torch.no_grad():
        before = network(x)
        bcosify(network)
        torch.testing.assert_close(network(torch.cat([x, 1 - x], 1)), before)
    assert isinstance(network[1], FadingConv2d)
    assert network[1] is network[2] is network[3][0]


class Scaled(nn.Conv2d):
    """A convolution that is none."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Scaled(3, 4, 3)], "'0', a Scaled, has no B-cos form here: it is no plain Conv2d"),
        ([nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)], "'1', a GroupNorm, has no B-cos form here: it is no linear map"),
        ([nn.Conv2d(3, 4, 3), nn.Softplus()], "'1', a Softplus, "),
        ([nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4)], "'1', a FrozenBatchNorm2d, .*: its bias would stay"),
        ([nn.Conv2d(3, 4, 3, padding="same")], "padding 'same' of zeros has no B-cos form here"),
        ([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)], "without running statistics"),
        ([nn.Conv2d(1, 4, 3)], "'0', the first convolution, sees 1 channels: 3 are needed"),
        ([nn.Flatten()], "Sequential has no convolution"),
        ([bcosify(nn.Sequential(nn.Conv2d(3, 4, 3)))[0]], "'0' is a B-cos layer already"),
        ([nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))], "'0', a ParametrizedConv2d, has no B-cos form"),
    ],
)
def test_what_has_no_bcos_form_is_refused_and_left_as_it_is(layers, message):
    network = nn.Sequential(OrderedDict((str(number), layer) for number, layer in enumerate(layers)))
    before = str(network)
    with pytest.raises(ConfigError, match=message):
        bcosify(network)
    assert str(network) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b": 0.5}, "b: 0.5 given"),
        ({"mean": (0.5,)}, "mean, std: one number for each of three channels is needed"),
        ({"std": (1.0, 1.0, 0.0)}, "mean, std: .* deviations above 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        bcosify(nn.Sequential(nn.Conv2d(3, 4, 3)), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fade": 1.5}, "^model.backbone.fade: 1.5 given, a share of the training, from 0 to 1"),
        ({"max_out": 2}, "^model.backbone.max_out: 2 given, but a converted network keeps its units: 1 is needed"),
    ],
)
def test_options_of_a_converted_backbone_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        build_backbone({**BCOS, "converted": True, **options})
    with pytest.raises(ConfigError, match="mean, std: a backbone has those of its first layer"):
        bcosify(build_backbone(PLAIN), mean=MEAN)
    with pytest.raises(ConfigError, match=r"fade: 1\.5 given, from 0 .* to 1"):
        set_fade(bcosify(build_backbone(PLAIN)), 1.5)
