"""A network that loses what it has learned: every tensor, by itself, and the original is left alone."""

import copy

import pytest
import torch
from torch import nn

from ibd.comparison.probes.randomize import random_network, randomizable, randomize, stages
from ibd.errors import ConfigError
from ibd.explain.activations import network_of
from tests.explainer_makers import MODELS, images, make
from tests.model_state import check_untouched, snapshot

STAYS = ("normalize.mean", "normalize.std", "provenance.moved")
"""Floating-point tensors that are not made random: the unit of the pixels, and where prototypes are from."""


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_random_after_the_last_stage(name):
    model, image = make(name), images(2, (32, 32))
    before = snapshot(model)
    parts = stages(model, image, 4)
    network = copy.deepcopy(network_of(model))
    old = {key: value.clone() for key, value in network.state_dict().items()}
    changed = set()
    for _, names in parts:
        randomize(network, names, draw=3)
        now = network.state_dict()
        differs = {key for key in old if not torch.equal(old[key].nan_to_num(), now[key].nan_to_num())}
        assert differs == changed | set(names)  # this stage's, and nothing else
        changed = differs
    check_untouched(model, before)
    unknown = {key for key, value in old.items() if value.is_floating_point() and bool(value.isnan().all())}
    floating = {key for key, value in old.items() if value.is_floating_point() and not key.endswith(STAYS)}
    assert changed == floating - unknown
    assert all(bool(value.isfinite().all()) for key, value in network.state_dict().items() if key in changed)
    output = network.eval()(image)
    output = output["logits"] if isinstance(output, dict) else output[0] if isinstance(output, tuple) else output
    assert bool(getattr(output, "logits", output).isfinite().all())


def test_prototypes_rotations_and_heads_are_among_them():
    wanted = {
        "protopnet": ("prototypes", "head.weight", "factor"),
        "pipnet": ("head.weight", "add_on.weight"),
        "cbm": ("concepts.weight", "head.weight", "low"),
        "concept_whitening": ("head.weight", "backbone.stage3.norm.rotation", "backbone.stage1.norm.running_var"),
    }
    for name, tensors in wanted.items():
        assert set(tensors) <= set(randomizable(network_of(make(name)))), name


def test_stages_follow_the_pass():
    model = make("protopnet")
    names = [names for _, names in stages(model, images(1, (32, 32)), 100)]
    owners = [each[0] for each in names]
    assert owners[0] == "backbone.stage1.conv.weight"
    assert owners.index("add_on.0.weight") < owners.index("prototypes") < owners.index("head.weight")
    for most in (1, 3, 5):
        parts = stages(model, images(1, (32, 32)), most)
        assert len(parts) == most
        assert [name for _, some in parts for name in some] == [name for some in names for name in some]
        assert len({title for title, _ in parts}) == most
    with pytest.raises(ConfigError, match="stages"):
        stages(model, images(1, (32, 32)), 0)


def test_tensors_are_drawn_by_name_and_draw():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(50, 40), nn.Linear(50, 40)
            self.tied = nn.Linear(50, 40)
            self.tied.weight = self.one.weight

        def forward(self, x):
            return self.one(x) + self.two(x) + self.tied(x)

    model = Twins()
    first, again, other = random_network(model), random_network(model), random_network(model, draw=1)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert not torch.equal(value, other.state_dict()[key])
    both = torch.stack([first.one.weight.flatten(), first.two.weight.flatten()]).detach()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1  # published code gives equal layers equal weights
    assert first.tied.weight is first.one.weight
    assert len(randomizable(model)) == 5
    assert abs(float(first.one.weight.detach().std() / model.one.weight.detach().std()) - 1) < 0.1


def test_statistics_stay_what_they_can_be():
    network = network_of(make("concept_whitening"))
    found = random_network(network)
    for name, module in found.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.running_var > 0).all())
            assert not torch.equal(module.running_var, network.get_submodule(name).running_var)
    for name, layer in found.whitened.items():
        old = network.whitened[name]
        torch.testing.assert_close(layer.rotation @ layer.rotation.t(), torch.eye(layer.channels), rtol=0, atol=1e-5)
        now, before = (torch.linalg.eigvalsh(each.running_covariance) for each in (layer, old))
        torch.testing.assert_close(now, before, rtol=1e-3, atol=1e-5)
        assert not torch.allclose(layer.running_covariance, old.running_covariance, atol=1e-3)


class Turning(nn.Module):
    """A layer of a user's own: an orthogonal matrix, and a unit that is nothing learned."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.eye(4))
        self.bias = nn.Parameter(torch.zeros(4))

    def randomized(self, name, old, normal):
        return torch.linalg.qr(normal(old.shape, old.dtype))[0] if name == "turn" else None

    def forward(self, x):
        return x @ self.turn + self.bias


class Unit(nn.Module):
    learns_nothing = True

    def __init__(self):
        super().__init__()
        self.register_buffer("unit", torch.full((4,), 2.0))

    def forward(self, x):
        return x / self.unit


def test_a_layer_says_what_its_tensors_become():
    model = nn.Sequential(Unit(), Turning(), nn.Linear(4, 3))
    other = random_network(model, 1)
    assert list(randomizable(model)) == ["1.turn", "1.bias", "2.weight", "2.bias"]
    assert torch.equal(other[0].unit, model[0].unit)
    torch.testing.assert_close(other[1].turn @ other[1].turn.t(), torch.eye(4), rtol=0, atol=1e-5)
    assert not torch.allclose(other[1].turn.abs(), torch.eye(4), atol=0.05)
    assert float(other[1].bias.abs().min()) > 0
