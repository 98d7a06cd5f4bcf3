"""The families on backbones of timm: what is theirs alone about a backbone that others built."""

import pytest
import torch
from torch import nn

from ibd.backbones import build_backbone
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.placement import choose_layers
from ibd.models.pipnet.network import PIPNetwork
from ibd.types import DataSpec, groups_of

pytest.importorskip("timm")
NAMES = ("a::x", "a::y", "b")
SPEC = DataSpec(class_names=("a", "b"), concept_names=NAMES, concept_groups=groups_of(NAMES), image_size=(64, 64))


def pipnet(name, **options):
    return PIPNetwork(build_backbone({"name": f"timm/{name}"}), SPEC, **options).eval()


def test_finer_keeps_the_resolution_of_the_last_stage_alone():
    """Also where all the stages lie in one module, as those of an EfficientNet."""
    image = torch.rand(1, 3, 64, 64)
    for name in ("test_efficientnet", "resnet18"):
        assert [pipnet(name, finer=n).encode(image).maps.shape[-1] for n in (0, 1, 2)] == [2, 4, 8]


def test_finer_is_refused_where_strides_are_not_all():
    with pytest.raises(UnsupportedError, match="timm/test_resnet halves the resolution by pooling"):
        pipnet("test_resnet", finer=1)
    with pytest.raises(UnsupportedError, match="timm/test_vit takes images of one size"):
        pipnet("test_vit", finer=1)


def test_whitening_takes_the_place_of_a_normalization_without_an_activation_in_it():
    """timm's BatchNormAct2d may hold the ReLU, which whitening would take away."""
    backbone = build_backbone({"name": "timm/test_efficientnet"})
    inside = {name: module for name, module in backbone.named_modules() if isinstance(module, nn.BatchNorm2d)}
    acting = [name for name, module in inside.items() if not isinstance(module.act, nn.Identity)]
    (chosen,) = choose_layers(backbone, None)
    assert acting
    assert chosen not in acting
    with pytest.raises(ConfigError, match=f"has no batch normalization '{acting[-1]}'"):
        choose_layers(backbone, [acting[-1]])


def test_a_whitened_network_can_be_edited_and_decoded_again():
    torch.manual_seed(0)
    model = ConceptWhitening(SPEC, {"name": "timm/test_efficientnet"}).eval()
    image = torch.rand(2, 3, 64, 64)
    units = model.network.encode(image)
    torch.testing.assert_close(model.network.decode(units), model(image).logits)
    assert not torch.allclose(model.network.decode(model.network.edit(units, {"b": 5.0})), model(image).logits)
