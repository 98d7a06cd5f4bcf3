"""Every rule against its matrix form, with the weights from the Jacobian."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.lrp import LRP, AlphaBeta, Choice, Composite, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus, composite
from ibd.explain.targets import Target
from tests.reference import lrp as reference

LOW, HIGH = -4.0, 5.0  # beyond all values of the images
RULES = {
    "epsilon": Epsilon(),
    "gamma": Gamma(0.25),
    "alpha_beta": AlphaBeta(2.0, 1.0),
    "z_plus": ZPlus(),
    "z_box": ZBox(LOW, HIGH),
    "w_square": WSquare(),
    "flat": Flat(),
}
LAYERS = {
    "linear": lambda bias: nn.Sequential(nn.Flatten(), nn.Linear(36, 5, bias=bias)),
    "conv": lambda bias: nn.Conv2d(4, 3, 2, bias=bias),
    "conv, stride and padding": lambda bias: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=bias),
    "conv, groups and dilation": lambda bias: nn.Conv2d(4, 6, 2, groups=2, dilation=2, bias=bias),
    "conv, depthwise": lambda bias: nn.Conv2d(4, 4, 3, groups=4, padding="same", bias=bias),
    "transposed": lambda bias: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1, bias=bias),
    "transposed, groups": lambda bias: nn.ConvTranspose2d(4, 6, 2, groups=2, bias=bias),
    "conv1d": lambda bias: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 3, padding=1, bias=bias)),
    "transposed 1d": lambda bias: nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 3, 3, stride=2, bias=bias)),
    "conv3d": lambda bias: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 3, 2, padding=1, bias=bias)),
    "transposed 3d": lambda bias: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.ConvTranspose3d(2, 3, 2, bias=bias)),
}


class Scored(nn.Module):
    """A layer, and a score in which each of its outputs counts with a weight of its own."""

    def __init__(self, layer, width=4):
        super().__init__()
        self.layer = layer
        with torch.no_grad():
            outputs = layer(torch.zeros(1, width, 3, 3, dtype=torch.float64)).numel()
        self.register_buffer("weight", torch.linspace(-1, 1, outputs, dtype=torch.float64).view(1, -1))

    def forward(self, x):
        return (self.layer(x).flatten(1) * self.weight).sum(1, keepdim=True)


def explained(layer, x, rule, ignore=False):
    found = LRP(Composite((Choice(rule),)), bias="ignore" if ignore else "absorb")(Scored(layer), x, 0)
    torch.testing.assert_close(found.value, Scored(layer)(x)[:, 0].detach(), rtol=1e-12, atol=0)
    return found


def image(seed=0):
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("bias", "ignore"),
    [(False, False), (True, False), (True, True), pytest.param(False, True, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("rule", RULES)
def test_rules_are_their_matrix_form(rule, layer, bias, ignore):
    torch.manual_seed(0)
    module, x = LAYERS[layer](bias).double(), image()
    found = explained(module, x, RULES[rule], ignore)
    weights = Scored(module).weight[0]
    for index, each in enumerate(x):
        w, b = (part.detach() for part in reference.matrix(module, each))
        r = weights * (w @ each.flatten() + b)
        kept = {"absorb": not ignore, "low": LOW, "high": HIGH}
        expected = reference.relevance(rule, each.flatten(), w, b, r, **kept).view(4, 3, 3).sum(0)
        torch.testing.assert_close(found.map[index], expected, rtol=1e-9, atol=1e-9)


def test_epsilon_takes_what_its_formula_says():
    torch.manual_seed(0)
    module, x = nn.Conv2d(4, 3, 2).double(), image()
    found = explained(module, x, Epsilon(0.3))
    weights = Scored(module).weight[0]
    for index, each in enumerate(x):
        w, b = (part.detach() for part in reference.matrix(module, each))
        r = weights * (w @ each.flatten() + b)
        expected = reference.relevance("epsilon", each.flatten(), w, b, r, epsilon=0.3).view(4, 3, 3).sum(0)
        torch.testing.assert_close(found.map[index], expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found.map, explained(module, x, Epsilon()).map)


@pytest.mark.parametrize("rule", [WSquare(), Flat()])
def test_rules_without_inputs_give_nothing_to_zeros_in_the_middle(rule):
    """What is 0 behind a ReLU cannot pass relevance on; what is not gets it all."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 3, 3)).double()
    found = LRP(Composite((Choice(rule, first=False),)))(Scored(network), image(), 0)
    torch.testing.assert_close(found.extra["conservation"], torch.ones(2, dtype=torch.float64))


def test_products_with_constants_are_linear_maps():
    torch.manual_seed(0)
    weight = torch.randn(5, 36, dtype=torch.float64)
    ways = [
        lambda x: nn.functional.linear(x.flatten(1), weight),
        lambda x: x.flatten(1) @ weight.t(),
        lambda x: torch.mm(x.flatten(1), weight.t()),
        lambda x: torch.addmm(torch.zeros(5, dtype=torch.float64), x.flatten(1), weight.t()),
        lambda x: torch.einsum("bi,ji->bj", x.flatten(1), weight),
        lambda x: (weight @ x.flatten(1).unsqueeze(2)).squeeze(2),
        lambda x: torch.bmm(weight.expand(len(x), -1, -1), x.flatten(1).unsqueeze(2)).squeeze(2),
        lambda x: torch.matmul(x.flatten(1).unsqueeze(1), weight.t()).squeeze(1),
    ]

    class Way(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    maps = [explained(Way(way), image(), ZPlus()).map for way in ways]
    for each in maps[1:]:
        torch.testing.assert_close(each, maps[0], rtol=1e-10, atol=1e-10)


def test_bad_numbers_are_refused():
    for make in (lambda: AlphaBeta(2.0, 0.5), lambda: Gamma(-1.0), lambda: Epsilon(float("nan"))):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(ConfigError, match="Did you mean one of: 'epsilon_plus'"):
        composite("epsilonplus")
    with pytest.raises(ConfigError, match="absorb, ignore"):
        LRP(bias="zero")
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)).double()
    with pytest.raises(UnsupportedError, match="first operation"):
        LRP(Composite((Choice(ZBox(), first=False),)))(Scored(network), image(), 0)


def test_a_composite_chooses_by_kind_depth_and_place():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(36, 3)).double()
    x, target = image(), Target.cls(1)

    def by(*choices):
        return LRP(Composite(choices))(network, x, target).map

    same = by(Choice(ZPlus(), before=1), Choice(Gamma(), kind="conv"))
    torch.testing.assert_close(same, by(Choice(ZPlus(), first=True), Choice(Gamma(), place="2")))
    torch.testing.assert_close(same, by(Choice(Epsilon(), kind="linear"), Choice(Gamma(), since=1), Choice(ZPlus())))
    assert not torch.allclose(same, by(Choice(Gamma(), kind="conv")))
