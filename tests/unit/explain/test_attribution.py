"""What places and channels of a layer account for: against closed forms."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.attribution import layer_attribution
from ibd.explain.gradients import GradientTimesInput, IntegratedGradients, Saliency, Sensitivity
from ibd.explain.lrp import LRP
from ibd.explain.relu_modes import Deconvnet, GuidedBackprop
from ibd.explain.smoothgrad import SmoothGrad
from ibd.explain.targets import Target
from tests.explainer_makers import Functional, images, make

close = torch.testing.assert_close


class TwoSteps(nn.Module):
    """A head of two linear layers with a ReLU between them, on features that are not negative."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
        self.one, self.two = nn.Linear(5, 7), nn.Linear(7, 4)

    def forward(self, image):
        return self.two(self.one(self.features(image).mean((2, 3))).relu())


class Aside(TwoSteps):
    """Computes something that no score depends on."""

    def __init__(self):
        super().__init__()
        self.late = nn.Conv2d(3, 3, 1)

    def forward(self, image):
        self.late(image)
        return super().forward(image)


def twosteps():
    return TwoSteps().double().eval(), images().double()


def by_hand(model, image, layer, k):
    """Return the activations of a layer, and the gradients of score k by them."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output))
    score = model(image)[:, k].sum()
    handle.remove()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def test_a_linear_head_on_pooled_features_is_divided_exactly():
    model = make("baseline").double().eval()
    network, image = model.network, images().double()
    features = network.backbone(image).detach()
    weight, bias = network.head.weight.detach(), network.head.bias.detach()
    predicted = network(image).logits.argmax(1)
    for layer, target, k in (("backbone", 2, torch.full((3,), 2)), ("network.backbone", None, predicted)):
        found = layer_attribution(model, image, layer, target)
        close(found.channels, weight[k] * features.mean((2, 3)))
        close(found.spatial, torch.einsum("bdhw,bd->bhw", features, weight[k]) / features[0, 0].numel())
        close(found.spatial.sum((1, 2)), found.value - bias[k])
        close(found.offset, bias[k])
        close(found.completeness, torch.zeros(3).double())
        close(found.both.sum(1), found.spatial)
    assert (found.layer, found.method) == ("network.backbone", "gradient_input")


def test_of_units_and_of_several_scores():
    model, image = make("cbm").double().eval(), images().double()
    several = layer_attribution(model, image, "backbone", Target.units([0, 2]))
    assert several.spatial.shape == (3, 2, *several.both.shape[3:])
    close(several.completeness, torch.zeros(3, 2).double())  # a concept is the mean of a linear map
    for place, unit in enumerate((0, 2)):
        single = layer_attribution(model, image, "backbone", Target.unit(unit))
        for name in ("spatial", "channels", "both", "value", "offset"):
            close(getattr(several, name)[:, place], getattr(single, name))
        close(single.value, model(image).units.scores[:, unit].detach())
    difference = layer_attribution(model, image, "backbone", Target.unit(0) - Target.unit(2))
    close(difference.channels, several.channels[:, 0] - several.channels[:, 1])


@pytest.mark.parametrize(
    ("explainer", "formula"),
    [
        (GradientTimesInput, lambda a, g: a * g),
        (Saliency, lambda a, g: g),
        (Sensitivity, lambda a, g: g.square()),
        (lambda layer: LRP("epsilon", layer=layer), lambda a, g: a * g),
        (lambda layer: SmoothGrad("gradient_input", n=2, noise=0.0, layer=layer), lambda a, g: a * g),
    ],
)
def test_every_gradient_takes_a_layer(explainer, formula):
    model, image = twosteps()
    for layer in ("features.0", "features"):
        expected = formula(*by_hand(model, image, layer, 1))
        found = explainer(layer=layer)(model, image, 1)
        close(found.unit_maps, expected)
        close(found.units, expected.sum((2, 3)))
        several = explainer(layer=layer)(model, image, Target.classes([3, 1]))
        close(several.unit_maps[:, 1], expected)
        assert several.map.shape == (3, 2, 33, 38)


def test_relus_are_changed_above_the_layer_only():
    model, image = twosteps()
    value, _ = by_hand(model, image, "features", 1)
    above, hidden = model.two.weight[1].clamp(min=0), model.one(value.mean((2, 3)))
    for explainer, way in ((Deconvnet, above.expand(3, -1)), (GuidedBackprop, above * (hidden > 0))):
        expected = (way @ model.one.weight / value[0, 0].numel())[:, :, None, None].expand_as(value)
        close(explainer("features")(model, image, 1).unit_maps, expected.detach())


def test_integrated_gradients_know_what_the_baseline_scores():
    model, image = twosteps()
    found = layer_attribution(model, image, "features", 1, {"name": "integrated_gradients", "steps": 400})
    close(found.offset, model(torch.zeros_like(image))[:, 1].detach())
    close(found.both.sum((1, 2, 3)) + found.offset, found.value + found.completeness)  # which itself is but rounding
    assert found.completeness.abs().max() < 1e-3


class Cubic(nn.Module):
    """The logit of class 1 is the third power of the sum of the features, which are the pixels."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()

    def forward(self, image):
        score = self.features(image).sum((1, 2, 3)) ** 3
        return torch.stack([torch.zeros_like(score), score], 1)


@pytest.mark.parametrize(("steps", "missing"), [(1, -1 / 4), (2, 0)])
def test_what_integrated_gradients_miss_of_a_cubic_is_known(steps, missing):
    """One point in the middle gives 3 (S / 2)^2 S, two of Gauss and Legendre are exact for a third power."""
    image = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    found = layer_attribution(Cubic(), image, "features", 1, {"name": "integrated_gradients", "steps": steps})
    torch.testing.assert_close(found.completeness, missing * image.sum((1, 2, 3)) ** 3, rtol=1e-9, atol=1e-9)


def test_relevance_of_a_layer_by_a_rule():
    model, image = twosteps()
    value, _ = by_hand(model, image, "features", 1)
    a = value.mean((2, 3))
    one, two = model.one, model.two
    hidden = one(a).relu()
    score = two(hidden)[:, 1]
    parts = hidden * two.weight[1].clamp(min=0)
    relevance = parts / (parts.sum(1, keepdim=True) + two.bias[1].clamp(min=0)) * score[:, None]
    parts = a[:, None] * one.weight.clamp(min=0)
    share = relevance / (parts.sum(2) + one.bias.clamp(min=0))
    channels = torch.einsum("bjd,bj->bd", parts, torch.where(hidden > 0, share, 0))
    found = layer_attribution(model, image, "features", 1, {"name": "lrp", "composite": "excitation_backprop"})
    close(found.channels, channels.detach())
    shares = value / value.sum((2, 3), keepdim=True).clamp(min=1e-12)
    close(found.spatial, (shares * channels[:, :, None, None]).sum(1).detach())
    close(found.completeness, torch.zeros(3).double(), atol=1e-9, rtol=0)
    ignored = layer_attribution(model, image, "features", 1, {"name": "lrp", "bias": "ignore"})
    close(ignored.channels.sum(1), ignored.value)
    several = layer_attribution(model, image, "features", Target.classes([0, 1]), "lrp")
    close(several.channels[:, 1], layer_attribution(model, image, "features", 1, "lrp").channels)


def test_relevance_of_a_layer_of_each_kind_of_model():
    for name in ("baseline", "cbm", "cem", "protopnet", "pipnet"):
        model, image = make(name).double().eval(), images().double()
        found = layer_attribution(model, image, "backbone.stage2", Target.unit(1), "lrp")
        close(found.completeness, torch.zeros(3).double(), atol=1e-8, rtol=1e-8)
        assert found.spatial.shape[0] == 3
        assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ConfigError, match="no layer 'stage7'"):
        LRP(layer="stage7")(make("baseline"), images(), 1)


def test_a_score_past_the_layer_has_no_relevance_there():
    model = Functional()
    model.unused = nn.Conv2d(3, 3, 1)
    with pytest.raises(UnsupportedError, match="layer 'unused' does not run"):
        LRP(layer="unused")(model, images(), 1)
    with pytest.raises(UnsupportedError, match=r"no relevance of the score passes through this layer"):
        LRP(layer="late")(Aside().eval(), images(), 1)


def test_a_vector_has_channels_alone():
    model, image = twosteps()
    found = layer_attribution(model, image, "one", 1)
    assert found.spatial is None
    value, gradient = by_hand(model, image, "one", 1)
    close(found.channels, value * gradient)
    assert torch.equal(found.both, found.channels)
    close(layer_attribution(model, image, "one", 1, {"name": "lrp", "composite": "epsilon"}).channels, found.channels)


def test_what_gives_no_numbers_is_refused():
    model, image = twosteps()
    assert layer_attribution(model, image, "features", 1, "saliency").offset is None
    smooth = layer_attribution(model, image, "features", 1, {"name": "smoothgrad", "base": "gradient_input", "n": 2})
    assert smooth.completeness is None
    assert smooth.channels.shape == (3, 5)
    for method in ("gradcam", "occlusion", "intrinsic", {"name": "smoothgrad", "base": "gradcam", "n": 1}):
        with pytest.raises(UnsupportedError, match="gives no number for every value of a layer: take one of grad"):
            layer_attribution(model, image, "features", 1, method)
    with pytest.raises(ConfigError, match=r"unknown explainer 'gradent_input'\. Did you mean"):
        layer_attribution(model, image, "features", 1, "gradent_input")
    with pytest.raises(ConfigError, match=r"'saliency' was made with its own"):
        SmoothGrad(Saliency(), layer="features")
    assert IntegratedGradients("features", steps=1)(model, image, 1).unit_maps.shape == (3, 5, 16, 18)
