"""Cutting a model at a layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import convnext_tiny, densenet121, mobilenet_v3_small, resnet18

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.base import Call, undisturbed
from ibd.explain.cam import GradCAM, HiResCAM
from ibd.explain.layers import LayerCut
from ibd.explain.targets import Target
from tests.explainer_makers import Functional, images, make


def cut_at(model, image, layer=None, target=None, replay=True):
    with undisturbed(model):
        at = LayerCut(Call(model, target or Target.cls(1)), image, layer, replay=replay)
        at.gradients()
        return at


def flattened(weights=None):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(100, 3))


@pytest.mark.parametrize(
    ("build", "last"),
    [
        (resnet18, lambda m, x: m.layer4),
        (densenet121, None),
        (flattened, lambda m, x: m[1]),
        (mobilenet_v3_small, lambda m, x: m.features),
        (convnext_tiny, lambda m, x: m.features),
    ],
)
def test_the_last_map_is_found(build, last):
    torch.manual_seed(0)
    model, image = build(weights=None).eval(), images(2, (64, 70))
    expected = []
    if last is None:
        expected.append(F.relu(model.features(image)))
    else:
        handle = last(model, image).register_forward_hook(lambda _, __, output: expected.append(output.clone()))
        model(image)
        handle.remove()
    at = cut_at(model, image)
    torch.testing.assert_close(at.value, expected[0])
    torch.testing.assert_close(at.scores[:, 0], model(image)[:, 1])
    assert at._replayable()


@pytest.mark.parametrize("name", ["baseline", "cbm", "cem", "protopnet", "pipnet"])
def test_ours_are_cut_after_their_backbone(name):
    model, image = make(name).eval(), images()
    for target in (Target.cls(1), Target.unit(1), Target.units([0, 2])):
        at = cut_at(model, image, target=target)
        torch.testing.assert_close(at.value, model.network.backbone(image))


def test_concept_whitening_is_cut_where_the_score_comes_from():
    model, image = make("concept_whitening").eval(), images()
    units = model.encode(image)
    at = cut_at(model, image)
    torch.testing.assert_close(at.value, model.halves.second(*units.state))
    pooled = cut_at(model, image, target=Target.unit(2)).value
    assert pooled.shape[1] == units.maps.shape[1]
    assert not torch.equal(pooled, at.value)
    with pytest.raises(UnsupportedError, match="not every score depends on one feature map"):
        cut_at(model, image, target=Target((*Target.cls(0).sums, *Target.unit(0).sums), many=True))


@pytest.mark.parametrize("layer", ["layer3", "layer4", "layer4.1.bn2", "layer2.0.downsample"])
def test_named_layers(layer):
    torch.manual_seed(0)
    model, image = resnet18(weights=None).eval(), images(2, (64, 64))
    at = cut_at(model, image, layer)
    # The same by an ordinary backward pass through the whole network.
    leaf = []

    def retain(_, __, output):
        output = output.clone()
        output.retain_grad()
        leaf.append(output)
        return output.clone()

    handle = model.get_submodule(layer).register_forward_hook(retain)
    model(image)[:, 1].sum().backward()
    handle.remove()
    torch.testing.assert_close(at.value, leaf[0])
    torch.testing.assert_close(at.gradients()[:, 0], leaf[0].grad, rtol=1e-3, atol=1e-6)
    # Other values: the tape against the model.
    changed = at.value.detach() * 0.5
    with undisturbed(model), torch.no_grad():
        assert at._replayable() is (layer != "layer2.0.downsample")  # there it is added to what came before
        fast = at.at(changed)
        at.tape = None
        slow = at.at(changed)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fast, at.scores)


def test_names_from_the_model_and_from_its_network():
    model, image = make("baseline"), images()
    one = GradCAM("network.backbone.stage2")(model, image, 1).map
    assert torch.equal(GradCAM("backbone.stage2")(model, image, 1).map, one)
    assert not torch.equal(GradCAM()(model, image, 1).map, one)
    assert torch.equal(GradCAM("backbone")(model, image, 1).map, GradCAM()(model, image, 1).map)


def test_a_wrong_name_is_told_the_right_ones():
    model, image = make("baseline"), images()
    with pytest.raises(ConfigError, match=r"no layer 'network.backbone.stage9'.*nearest first: backbone\.stage"):
        GradCAM("network.backbone.stage9")(model, image, 1)
    with pytest.raises(UnsupportedError, match=r"'network\.head' returns 3 numbers for each image, no map"):
        GradCAM("network.head")(model, image, 1)
    model = Functional()
    model.unused = nn.Identity()
    with pytest.raises(UnsupportedError, match=r"'unused' does not run.*nearest first: second, first"):
        GradCAM("unused")(model, image, 1)


def test_no_map_at_all():
    class Rows(nn.Module):
        def forward(self, image):
            return image.view(len(image), -1)[:, :4]

    with pytest.raises(UnsupportedError, match="not every score"):
        GradCAM()(Constant(), images(), 1)
    for model in (Rows(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 33 * 38, 3))):  # the image itself is no feature map
        with pytest.raises(UnsupportedError, match="no feature map is pooled or flattened in this model"):
            HiResCAM()(model, images(), 1)


class Constant(nn.Module):
    """Pools a feature map, and then forgets it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, image):
        self.conv(image).mean((2, 3))
        return image.new_ones(len(image), 3)


def test_no_graph_below_the_layer():
    model, image = make("functional"), images()
    seen = []
    handle = model.second.register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
    GradCAM()(model, image, 1)
    handle.remove()
    assert seen == [False]


def test_a_module_that_runs_twice_is_cut_at_its_last_run():
    class Twice(Functional):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, image):
            return self.head(self.act(self.second(self.act(self.first(image)))).mean((2, 3)))

    at = cut_at(Twice().eval(), images(), "act")
    assert at.value.shape[1] == 6
    assert at._replayable()


def test_autocast_inside_the_head_is_replayed():
    model, image = make("cbm").eval(), images()
    with torch.autocast("cpu", torch.bfloat16):
        at = cut_at(model, image)
        assert at._replayable()
        assert at.scores.dtype == torch.float32
        with undisturbed(model), torch.no_grad():
            torch.testing.assert_close(at.at(at.value.detach()), at.scores.detach())
