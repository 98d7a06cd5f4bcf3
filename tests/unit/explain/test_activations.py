"""Reading layers: what comes out, where a pass ends, and that nothing is left behind."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.activations import Reader, find_layer, images_of, layer_names, spatial_layers, visit
from ibd.explain.layer_layout import read_map
from ibd.types import Batch
from tests.model_makers import make_network, make_whitening

IMAGES = torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """A ReLU that runs twice, a layer that never runs, and one that returns a pair."""

    def __init__(self, breaks=False):
        super().__init__()
        self.a, self.relu, self.b = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)
        self.unused, self.pair, self.late = nn.Identity(), nn.LSTM(5, 2), nn.Linear(5, 2)
        self.breaks, self.ends = breaks, 0

    def forward(self, image):
        try:
            hidden = self.relu(self.b(self.relu(self.a(image))))
        except Exception:  # a model that catches what it can does not catch the end of the pass
            self.ends += 1
            return None
        if self.breaks:
            raise RuntimeError("broken")
        self.ends += 1
        self.late(hidden.mean((2, 3)))
        return self.late(self.pair(hidden.mean((2, 3)))[0].repeat(1, 3)[:, :5])


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_the_last_output_of_a_layer_that_runs_twice_is_meant_and_the_pass_ends_there():
    model = Twice()
    reader = Reader(model, ["relu", "a"])
    found = reader(IMAGES)
    assert found["relu"].shape == (2, 5, 8, 10)
    assert found["a"].requires_grad
    assert model.ends == 1  # the first pass counts
    again = reader(IMAGES)
    assert model.ends == 1
    torch.testing.assert_close(again["relu"], model.b(model.a(IMAGES).relu()).relu())
    layers, output = reader.whole(IMAGES)
    assert model.ends == 2
    assert output.shape == (2, 2)
    torch.testing.assert_close(layers["relu"], again["relu"])
    assert hooks_of(model) == 0


def test_hooks_go_away_when_a_model_raises():
    model = Twice(breaks=True)
    for call in (lambda: Reader(model, ["a"])(IMAGES), lambda: visit(model, IMAGES, lambda *_: None)):
        with pytest.raises(RuntimeError, match="broken"):
            call()
        assert hooks_of(model) == 0


def test_mistakes_name_what_there_is():
    with pytest.raises(ConfigError, match=r"no layer 'rely' in Twice. Layers, the nearest first: relu, "):
        Reader(Twice(), ["rely"])
    with pytest.raises(ConfigError, match="nearest first: a, relu, b, unused, pair, late"):
        find_layer(Twice(), "zzz")
    with pytest.raises(UnsupportedError, match="layer 'unused' does not run"):
        Reader(Twice(), ["unused"])(IMAGES)
    with pytest.raises(UnsupportedError, match="layer 'pair' returns a tuple"):
        Reader(Twice(), ["pair"])(IMAGES)
    with pytest.raises(ConfigError, match=r"first: 11, 1, 10, .* \(14 in all\)"):
        find_layer(nn.Sequential(*(nn.Identity() for _ in range(14))), "11x")
    with pytest.raises(UnsupportedError, match=r"2 numbers for each image, no map. .*the nearest first: a, relu, b"):
        read_map(Twice(), IMAGES, "late")


def test_spatial_layers_in_the_order_in_which_they_run():
    model = Twice()
    assert spatial_layers(model, IMAGES) == {"a": (4, 10, 12), "b": (5, 8, 10), "relu": (5, 8, 10)}
    assert layer_names(model) == ["a", "relu", "b", "unused", "pair", "late"]


def test_layers_of_our_modules_are_counted_from_the_network():
    module = make_whitening()
    image = torch.rand(1, 3, 16, 16)
    name = module.network.layer_names[-1]
    plain = read_map(module, image, f"backbone.{name}")
    torch.testing.assert_close(plain, read_map(module, image, f"network.backbone.{name}"))
    torch.testing.assert_close(plain, module.network.encode(image).maps)


def test_images_of_what_loaders_yield():
    batch = Batch(IMAGES, torch.zeros(2).long(), torch.zeros(2, 1), torch.arange(2))
    for given in (batch, (IMAGES, 3), [IMAGES], {"image": IMAGES}, IMAGES):
        assert images_of(given) is IMAGES
    with pytest.raises(DataError, match="yields a str"):
        images_of("cat")


def test_a_network_is_left_alone():
    network = make_network()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    read_map(network, IMAGES, "backbone.conv")
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert hooks_of(network) == 0
