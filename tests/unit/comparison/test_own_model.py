"""A user's own model, none of ours: sliders, unit ablation and self-consistency by its own rule, answers by hand.

Its units hold with the probability s, and its head reads ``2 s - 1``: a unit that is off is one of which nothing is
known. With two classes and weights of w and -w, its logits are ``sum w (2 s - 1)`` and the negative of it.
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from ibd.backbones.base import Backbone
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.units import encoded, unit_tables
from ibd.comparison.self_consistency import (
    bottleneck_against_pixels,
    concept_leakage,
    part_locality,
    self_consistency,
    unit_account,
)
from ibd.comparison.showing import shown_images
from ibd.data.toybirds import PARTS, ToyBirds
from ibd.errors import UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.linear_head import replaced
from ibd.models.prediction import Prediction
from ibd.models.sliders import value_sliders
from ibd.types import Units
from tests.model_makers import TensorData
from tests.self_consistency_makers import Drawn
from tests.slider_makers import slider_logits

W = torch.tensor([1.0, 0.5, -0.25])


class Pixels(Backbone):
    """The image itself."""

    out_channels = 3

    def forward(self, image):
        return image


class Own(InterpretableNetwork):
    """A unit holds as far as its channel is bright."""

    unit_kind = "trait"
    truth_values = True

    def __init__(self, names, classes, weight):
        super().__init__(Pixels(), names, classes)
        self.register_buffer("weight", torch.stack([weight, -weight]))
        self.register_buffer("shift", torch.tensor([0.5, -0.5]))

    def encode(self, image):
        return Units(image.mean((2, 3)), image)

    def passed(self, units):
        return 2 * units.scores - 1

    def decode(self, units):
        return self.passed(units) @ self.weight.t() + self.shift

    def decode_without(self, units, off, value=0.0):
        return replaced(self.passed(units), off, value) @ self.weight.t() + self.shift

    def edit(self, units, values):
        scores = units.scores.clone()
        for index, value in self.resolve_values(values).items():
            scores[:, index] = self.column(value, scores)
        return Units(scores, units.maps, units.state)

    def contributions(self, units):
        return self.passed(units).unsqueeze(2) * self.weight.t()

    def bias(self):
        return self.shift

    def readable(self, units):
        return units.scores

    def linear_weight(self):
        return self.weight

    def value_range(self, passed=None):
        return -1.0, 1.0


class Knowing(Own):
    """Knows of each variant of each part whether it is there."""

    def __init__(self, drawn, spec):
        count = len(spec.concept_names)
        super().__init__(spec.concept_names, ["a", "b"], torch.linspace(-1, 1, count))
        self.drawn = drawn

    def encode(self, image):
        held = [{f"{part}::{variant}" for part, variant in scene.parts.items()} for scene, _ in self.drawn.of(image)]
        scores = torch.tensor([[float(name in each) for name in self.unit_names] for each in held])
        return Units(scores, scores[:, :, None, None])


@pytest.fixture(scope="module")
def birds():
    return ToyBirds("tiny", train_size=4, val_size=4, test_size=6)


def of_colors(*colors):
    """Return 4 x 4 images of one color each."""
    return torch.tensor(colors).view(-1, 3, 1, 1).expand(-1, -1, 4, 4).contiguous()


def own():
    return Own(["wing::red", "wing::blue", "flies"], ["a", "b"], W)


class ComparedImages(SimpleNamespace):
    def __len__(self):
        return len(self.pixels)


def shown(network, images):
    """Return what a report shows of images of a network, and of the network."""
    units = network.encode(images)
    prediction = Prediction(network, units, network.decode(units), torch.zeros_like(units.scores, dtype=torch.bool))
    model = SimpleNamespace(
        foreign=False,
        info=SimpleNamespace(name="own"),
        module=SimpleNamespace(network=network, predict=lambda _: prediction),
    )
    chosen = ComparedImages(pixels=images, labels=torch.tensor([0, 1]), masks=None)
    case = SimpleNamespace(model=model, images=chosen, classes=torch.tensor([0, 1]), passed=network.passed(units))
    found = SimpleNamespace(shown_models={}, shown=[], class_names=["a", "b"])
    return shown_images(found, case, [], {}, 2), found.shown_models["own"]


def test_its_units_are_shown_and_no_sliders_that_it_does_not_speak_for():
    images = of_colors((1.0, 0.25, 0.5), (0.0, 0.5, 1.0))
    pictures, about = shown(own(), images)
    assert [[unit.name for unit in picture.units["own"]] for picture in pictures] == [
        ["wing::red", "wing::blue", "flies"],
        ["wing::red", "flies", "wing::blue"],
    ]
    assert (about.positions, about.classes, about.sliders) == ([0, 1], ["a", "b"], None)
    assert about.groups == {}
    assert about.why == "setting traits takes the network itself"


def test_it_may_speak_for_them():
    class Speaking(Own):
        def sliders(self, units, seen=None):
            doubled = value_sliders(self.unit_names, self.class_names, {}, units.scores, 2 * self.weight, self.bias())
            return dataclasses.replace(doubled, bias=doubled.bias - self.weight.sum(1).numpy())

    network = Speaking(["wing::red", "wing::blue", "flies"], ["a", "b"], W)
    images = of_colors((1.0, 0.25, 0.5), (0.0, 0.5, 1.0))
    sliders = shown(network, images)[1].sliders
    torch.testing.assert_close(slider_logits(sliders).float(), network.decode(network.encode(images)))


def test_units_are_switched_off_by_its_own_rule():
    network, images = own(), of_colors((1.0, 0.25, 0.5), (0.0, 1.0, 1.0))
    predictor, classes = Predictor(network, images), torch.tensor([0, 0])
    units = encoded(predictor, images)
    parts = network.contributions(units)[..., 0]
    torch.testing.assert_close(parts, torch.tensor([[1.0, -0.25, 0.0], [-1.0, 0.5, -0.25]]))
    tables = unit_tables(predictor, units, parts, classes, steps=3)
    logits = [[1.25, 0.25, 0.5, 0.5], [-0.25, 0.75, 0.25, 0.5]]  # the largest goes first, and the bias stays
    torch.testing.assert_close(tables.ordered.centered, torch.tensor(logits).double())
    logits = [[1.25, 1.25, 1.5, 0.5], [-0.25, 0.0, -0.5, 0.5]]
    torch.testing.assert_close(tables.reversed.centered, torch.tensor(logits).double())
    assert float(network.passed(units).mean()) == pytest.approx((1 - 0.5 + 0 - 1 + 1 + 1) / 6)


def test_it_is_as_honest_as_it_is(monkeypatch, birds):
    drawn = Drawn(monkeypatch)
    network, images = Knowing(drawn, birds.spec), birds.dataset("test")
    local = part_locality(network, images, [0, 3])
    torch.testing.assert_close(local.matrix, torch.eye(5).double())
    assert local.rows == local.columns == list(PARTS)
    same = bottleneck_against_pixels(network, images, [0, 3])
    torch.testing.assert_close(same.similarity, torch.ones(2, 5).double())
    leakage = concept_leakage(network, images, range(6)).figures()
    assert leakage["leakage_gap"] == 0
    found, skipped = self_consistency(network, birds, [0, 1, 2, 3])
    assert found.figures["locality"] == pytest.approx(1)
    assert found.figures["intervention_consistency"] == pytest.approx(1)
    assert found.figures["completeness_error"] < 1e-5
    assert not skipped


def test_units_beside_a_bias():
    data = TensorData((2, 2, 4))
    images = data.splits["test"][0]
    found = unit_account(own(), data.dataset("test"), range(4))
    logits = (2 * images.mean((2, 3)) - 1) * W
    torch.testing.assert_close(found.named, (logits.abs().sum(1) / (logits.abs().sum(1) + 0.5)).double())
    assert found.error.max() < 1e-6


def test_shades_are_rounded():
    data = TensorData((2, 2, 4))
    network = Own(data.spec.concept_names, ["a", "b"], torch.tensor([3.0, -1.0, -1.0, 0, 0, 0]))
    shades = torch.tensor([0.6, 0.9, 0.9, 0, 0, 0])  # 0.6 - 0.8 - 0.8 + 0.5 is below 0, 3 - 1 - 1 + 0.5 above it
    network.encode = lambda image: Units(shades.expand(len(image), -1), image[:, :1].expand(-1, 6, -1, -1))
    found = concept_leakage(network, data.dataset("test"), range(4))
    right = data.splits["test"][1]
    assert found.soft.tolist() == (right == 1).double().tolist()
    assert found.hard.tolist() == (right == 0).double().tolist()
    with pytest.raises(UnsupportedError, match="the data annotates 6 concepts, and the model has 3 traits"):
        concept_leakage(own(), data.dataset("test"), range(4))
