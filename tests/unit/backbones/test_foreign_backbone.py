"""A layer of a network of anybody's as a backbone."""

import sys
import types

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from ibd import registry
from ibd.backbones import build_backbone
from ibd.config import check
from ibd.errors import ConfigError, UnsupportedError, UntrustedError
from ibd.io import load_model
from ibd.models.baseline.lightning import Baseline
from tests.model_makers import SPEC


class Looking(nn.Module):
    """A network that looks at its numbers, which torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, image):
        return self.layer(image) if image.sum() > 0 else self.layer(-image)


@pytest.fixture
def own(monkeypatch, tmp_path):
    module = types.ModuleType("own_network")

    def make():
        torch.manual_seed(3)
        return resnet18(weights=None, num_classes=4)

    module.make, module.ready, module.looking = make, make().eval(), Looking
    module.number, module.needy = lambda: 3, lambda path: path
    (tmp_path / "broken_network.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_network", module)
    return module


BLOCK = {"name": "foreign/own_network:make", "layer": "layer4", "preprocess": "imagenet", "probed_size": 64}


@torch.no_grad()
def test_it_puts_out_what_the_layer_does(own):
    backbone = build_backbone(BLOCK).eval()
    assert backbone.out_channels == 512
    image = torch.rand(2, 3, 64, 96)
    fed = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    seen = []
    own.ready.layer4.register_forward_hook(lambda _, __, output: seen.append(output))
    own.ready(fed)
    assert torch.allclose(backbone(image), seen[0], atol=1e-6)
    assert not any(name.startswith("network.fc") for name in backbone.state_dict())
    ready = build_backbone({**BLOCK, "name": "foreign/own_network:ready", "layer": "layer2", "preprocess": "unit"})
    assert ready.out_channels == 128


def test_a_checkpoint_keeps_its_weights_and_asks_for_trust(own, tmp_path):
    module = Baseline(SPEC, BLOCK).eval()
    image = torch.rand(1, 3, *SPEC.image_size)
    with torch.no_grad():
        module.network.backbone.network.conv1.weight.mul_(2.0)
        logits = module(image).logits
    module.save(tmp_path / "m.ckpt")
    with torch.no_grad():
        assert torch.allclose(load_model(tmp_path / "m.ckpt", trust=True)(image).logits, logits, atol=1e-6)
    with pytest.raises(Exception, match="is none of ibd's own classes"):
        load_model(tmp_path / "m.ckpt")
    with registry.loading(), pytest.raises(UntrustedError):
        registry.locate("backbones", BLOCK["name"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "layer5"}, r"layer: the network has no 'layer5'\. Did you mean one of: 'layer4'"),
        ({"layer": "fc"}, r"layer: 'fc' puts out \(1, 4\), a map \(B, D, h, w\) is needed"),
        ({"preprocess": "imagnet"}, r"preprocess: 'imagnet' is not one of unit, imagenet, half"),
        ({"name": "foreign/own_network"}, r"package.module:NAME is needed"),
        ({"name": "foreign/own_network:mak"}, r"module 'own_network' has no 'mak'\. Did you mean 'make'"),
        ({"name": "foreign/own_network:number"}, r"what it makes is no torch.nn.Module \(int\)"),
        ({"name": "foreign/own_network:needy"}, r"backbone 'foreign/own_network:needy' fails: TypeError: "),
        ({"name": "foreign/broken_network:make"}, r"module 'broken_network' cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_does_not_fit(own, change, message):
    with pytest.raises(ConfigError, match=message):
        build_backbone({**BLOCK, **change})


def test_a_network_that_cannot_be_cut(own):
    with pytest.raises(UnsupportedError, match=r"layer: the network cannot be cut at 'layer' \(torch.fx\): "):
        build_backbone({**BLOCK, "name": "foreign/own_network:looking", "layer": "layer"})


def test_its_options_are_those_of_a_configuration(own):
    with pytest.raises(ConfigError, match="preprocess: missing"):
        check("backbones", {"name": BLOCK["name"], "layer": "layer4"})
