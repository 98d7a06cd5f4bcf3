"""Guided backpropagation and deconvnet, wherever a ReLU is called."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.explain.gradients import Saliency
from ibd.explain.relu_modes import Deconvnet, GuidedBackprop
from ibd.explain.targets import Target
from tests.explainer_makers import Functional, images

WAYS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU(inplace)": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu(inplace)": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "x.relu()": lambda x: x.relu(),
    "x.relu_()": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp(0)": lambda x: torch.clamp(x, 0),
    "clamp_": lambda x: x.clamp_(min=0.0),
    "clamp_min": lambda x: x.clamp_min(0),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 1e6),
}


def forget(x):
    """In place, without use of what is returned."""
    x.relu_()
    return x


WAYS["statement"] = forget


def model_with(relu):
    torch.manual_seed(0)
    return Functional(relu).eval()


def by_hooks(way, image, k):
    """The same by full backward hooks on modules, as others do it."""
    model = model_with(None)
    model.relu = lambda x: x
    first, second = nn.ReLU(), nn.ReLU()

    def guided(_, given, __):
        return (given[0].clamp(min=0),)

    def deconvnet(_, __, made):
        return (made[0].clamp(min=0),)

    for each in (first, second):
        each.register_full_backward_hook(guided if way == "guided" else deconvnet)
    leaf = image.clone().requires_grad_()
    x = F.max_pool2d(first(model.first(leaf)), 2)
    logits = model.head(second(model.second(x)).mean((2, 3)))
    return torch.autograd.grad(logits[:, k].sum(), leaf)[0]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_a_relu(way):
    model, image = model_with(WAYS[way]), images()
    guided, plain = GuidedBackprop()(model, image, 1), Saliency(reduce="sum")(model, image, 1)
    torch.testing.assert_close(guided.map, by_hooks("guided", image, 1).sum(1))
    torch.testing.assert_close(Deconvnet()(model, image, 1).map, by_hooks("deconvnet", image, 1).sum(1))
    torch.testing.assert_close(guided.value, plain.value)
    assert not torch.allclose(guided.map, plain.map, atol=1e-5)


def test_relu6_is_closed_above():
    model, image = model_with(nn.ReLU6()), images()
    with torch.no_grad():
        model.first.weight.mul_(20)
    other = model_with(lambda x: F.hardtanh(x, 0, 6))
    other.load_state_dict(model.state_dict())
    found = GuidedBackprop()(model, image, 1).map
    assert torch.equal(GuidedBackprop()(other, image, 1).map, found)
    open_above = model_with(F.relu)
    open_above.load_state_dict(model.state_dict())
    assert not torch.allclose(GuidedBackprop()(open_above, image, 1).map, found)


class Line(nn.Module):
    """One logit, ``3 relu6(2 x)`` of each pixel, added up."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu

    def forward(self, image):
        return 3 * self.relu(2 * image).flatten(1).sum(1, keepdim=True)


BOUNDED = {
    "nn.ReLU6": nn.ReLU6(),
    "F.relu6": F.relu6,
    "F.relu6(inplace)": lambda x: F.relu6(x, inplace=True),
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "nn.Hardtanh": nn.Hardtanh(0.0, 6.0),
    "clamp": lambda x: x.clamp(0, 6),
    "clip": lambda x: torch.clip(x, min=0, max=6.0),
    "clamp_": lambda x: x.clamp_(0.0, 6.0),
}


@pytest.mark.parametrize("way", BOUNDED)
def test_both_bounds_close(way):
    """Pixels of -1, 1, 2.9, 3.1 and 5 become -2, 2, 5.8, 6.2 and 10: open between 0 and 6 alone, with a slope of 6."""
    image = torch.tensor([-1.0, 1.0, 2.9, 3.1, 5.0]).view(1, 1, 1, 5)
    model = Line(BOUNDED[way])
    guided = GuidedBackprop()(model, image, 0)
    torch.testing.assert_close(guided.map[0, 0], torch.tensor([0.0, 6.0, 6.0, 0.0, 0.0]))
    torch.testing.assert_close(guided.value, torch.tensor([3 * (2.0 + 5.8 + 6.0 + 6.0)]))
    torch.testing.assert_close(Deconvnet()(model, image, 0).map[0, 0], torch.full((5,), 6.0))
    assert not GuidedBackprop()(model, image, Target.absent()).map.any()  # nothing of it is positive


@pytest.mark.parametrize("explainer", [GuidedBackprop, Deconvnet])
def test_refused_where_there_is_no_relu(explainer):
    for relu in (F.gelu, torch.tanh, lambda x: x.clamp(min=-1), lambda x: F.hardtanh(x)):
        with pytest.raises(UnsupportedError, match="no ReLU of this model is a function"):
            explainer()(model_with(relu), images(), 1)


def test_of_a_layer():
    model, image = model_with(F.relu), images()
    found = GuidedBackprop("first")(model, image, 1)
    assert found.units.shape == (3, 5)
    assert found.unit_maps.shape[1] == 5


@pytest.mark.parametrize("other", [F.hardswish, F.gelu])
def test_other_activations_beside_relus_are_no_secret(other):
    def relu_and_other(x):
        return other(F.relu(x))

    with pytest.warns(UserWarning, match=f"'guided_backprop' changes only ReLUs: {other.__name__} of this model keep"):
        GuidedBackprop()(Functional(relu_and_other), images(1), 0)
