"""A model's own map: it adds up, it lies where the units were seen, and how it is painted is a choice."""

import pytest
import torch
from torch import nn

from ibd.backbones.base import Backbone
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.intrinsic import Intrinsic, repaint
from ibd.explain.targets import Target
from ibd.models.base import InterpretableNetwork
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.types import DataSpec, Units
from tests.explainer_makers import images, make

PAINTINGS = ("pooling", "score_sign", "peak", "top", "minimum", "receptive_field")


class Patches(Backbone):
    """Cells of 4 x 4 pixels, side by side: the first channel is red minus blue, the second blue."""

    def __init__(self):
        super().__init__()
        self.out_channels = 2
        self.conv = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        self.normalize = nn.Identity()
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0], self.conv.weight[0, 2], self.conv.weight[1, 2] = 1 / 16, -1 / 16, 1 / 16


def picture():
    """A blue image of 16 x 16 pixels with one red cell."""
    image = torch.zeros(1, 3, 16, 16)
    image[:, 2] = 1
    image[:, :, 4:8, 8:12] = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    return image


def red_prototype(weight=1.0):
    """A prototype network that knows red: cosine similarity 1 to the red cell, below 0 to all others."""
    spec = DataSpec(("red", "other"), image_size=(16, 16))
    network = PrototypeNetwork(Patches(), spec, 1, 2, add_on="none", distance="cosine", activation="linear").eval()
    with torch.no_grad():
        network.prototypes.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        network.head.weight.copy_(torch.tensor([[weight, 0.0], [0.0, 1.0]]))
    return network


@pytest.mark.parametrize("weight", [1.5, -1.5])
def test_a_prototype_is_painted_at_its_match_and_nowhere_else(weight):
    network, image = red_prototype(weight), picture()
    units = network.encode(image)
    assert float(units.scores[0, 0]) == pytest.approx(1)
    assert float(units.maps[0, 0].mean()) < 0  # by the sign of which the match would get nothing
    heat = Intrinsic()(network, image, 0).map[0]
    assert float(heat.sum()) == pytest.approx(weight, rel=1e-5)
    match = heat[4:8, 8:12]
    assert bool((match.sign() == (1 if weight > 0 else -1)).all())
    assert float(match.abs().min()) > 0
    away = heat.clone()
    away[2:10, 6:14] = 0  # bilinear: as far as the next cells' centers
    assert float(away.abs().max()) == 0


def test_through_the_receptive_field_a_cell_is_spread_over_what_it_sees():
    heat = Intrinsic("receptive_field")(red_prototype(), picture(), 0).map[0]
    wanted = torch.zeros(16, 16)
    wanted[4:8, 8:12] = 1 / 16
    torch.testing.assert_close(heat, wanted)


class Strided(Backbone):
    """One channel: the mean of 3 x 3 pixels around every fourth pixel, from pixel 0 on."""

    def __init__(self):
        super().__init__()
        self.out_channels = 1
        self.conv = nn.Conv2d(3, 1, 3, stride=4, padding=1, bias=False)
        self.normalize = nn.Identity()
        nn.init.constant_(self.conv.weight, 1 / 27)


def test_a_cell_is_drawn_where_it_looks_and_not_where_its_share_of_the_image_would_be():
    network = BaselineNetwork(Strided(), ["dark", "bright"]).eval()
    nn.init.ones_(network.head.weight)
    image = torch.zeros(1, 3, 16, 16)
    image[:, :, 8, 8] = 1
    heat = Intrinsic()(network, image, 1).map[0]
    assert divmod(int(heat.argmax()), 16) == (8, 8)


@pytest.mark.parametrize("painting", PAINTINGS)
@pytest.mark.parametrize("size", [(33, 38), (24, 64)])
@pytest.mark.parametrize("model", ["cbm", "cem", "protopnet", "pipnet", "baseline"])
def test_the_map_of_a_class_adds_up_to_its_logit_less_the_bias(model, size, painting):
    module = make(model).eval()
    torch.manual_seed(1)
    image = torch.rand(2, 3, *size)
    found = Intrinsic(painting)(module, image, Target.classes([0, 2]))
    wanted = found.value - module.network.bias()[[0, 2]]
    torch.testing.assert_close(found.map.sum((2, 3)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("painting", PAINTINGS)
@pytest.mark.parametrize("model", ["cbm", "cem", "protopnet", "concept_whitening"])
def test_known_contributions_are_painted_as_if_they_were_not(model, painting):
    module, image = make(model).eval(), images(2, (33, 38))
    found = Intrinsic(painting)(module, image, Target.cls([0, 2]))
    painted = repaint(module, image, Intrinsic()(module, image, Target.cls([0, 2])).units, painting)
    torch.testing.assert_close(painted, found.map, rtol=1e-4, atol=1e-5)


class OneLogit(InterpretableNetwork):
    """Four units with a weight each to the one logit."""

    unit_kind = "concept"
    weights = torch.tensor([[1.0], [-2.0], [0.5], [3.0]])

    def encode(self, image):
        maps = self.backbone(image)
        return Units(maps.mean((2, 3)), maps, ())

    def decode(self, units):
        return units.scores @ self.weights

    def contributions(self, units):
        return units.scores.unsqueeze(2) * self.weights

    def edit(self, units, values):
        return units

    def bias(self):
        return torch.zeros(1)

    def readable(self, units):
        return units.scores


@pytest.mark.parametrize(
    ("target", "sign"),
    [
        (0, 1),
        ("yes", 1),
        ("no", -1),
        (Target.absent(), -1),
        (Target.cls(0, "centered_logit"), 1),
        (-2.0 * Target.cls("no"), 2),
        (None, None),
    ],
)
def test_of_one_logit_the_class_and_its_absence(target, sign):
    network = OneLogit(nn.Conv2d(3, 4, 3, padding=1), list("abcd"), ["no", "yes"]).eval()
    image = torch.rand(3, 3, 6, 6)
    logit = network(image).logits[:, 0].detach()
    found = Intrinsic()(network, image, target)
    expected = logit.abs() if sign is None else sign * logit
    torch.testing.assert_close(found.value, expected)
    torch.testing.assert_close(found.map.sum((1, 2)), expected)


def test_another_painting_is_one_line():
    with pytest.raises(ConfigError, match=r"unknown painting 'peek'\. Did you mean 'peak'\?"):
        Intrinsic("peek")


def test_what_cells_see_must_be_known_to_paint_by_it():
    network = red_prototype()
    network.receptive_field = lambda _: None
    assert Intrinsic()(network, picture(), 0).map.shape == (1, 16, 16)
    with pytest.raises(UnsupportedError, match=r"the part of the image that a cell of .* sees is unknown"):
        Intrinsic("receptive_field")(network, picture(), 0)
