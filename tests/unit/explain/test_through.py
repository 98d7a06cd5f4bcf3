"""The part of a class that passes units, or channels of a layer: concept relevance propagation."""

import copy

import pytest
import torch
from attention_makers import TinyViT
from model_makers import make_module, make_prototypes, make_whitening
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain import LRP, GradCAM, GradientTimesInput, Intrinsic, Target


class Halves(nn.Module):
    """Channel 0 is the red of the left half, channel 1 that of the right half; a shortcut goes around the layer."""

    def __init__(self, shortcut=0.0):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1, bias=False)
        self.layer.weight.data.copy_(torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]).view(2, 3, 1, 1))
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data.copy_(torch.tensor([[3.0, 5.0], [-1.0, 2.0]]))
        self.shortcut = shortcut

    def forward(self, x):
        half = torch.zeros(2, 1, x.shape[3], dtype=x.dtype)
        half[0, :, : x.shape[3] // 2], half[1, :, x.shape[3] // 2 :] = 1.0, 1.0
        features = torch.relu(self.layer(x)) * half
        return self.head(features.sum((2, 3))) + self.shortcut * x.sum((1, 2, 3)).unsqueeze(1)


def images(count=3, size=8, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shortcut", [0.0, 0.7])
@pytest.mark.parametrize("name", ["epsilon", "epsilon_plus"])
def test_a_channel_lights_what_it_saw(shortcut, name):
    """What passes channel 1 is five times the red of the right half; a shortcut around the layer is not in it."""
    net, x = Halves(shortcut).double(), images()
    found = LRP(name)(net, x, Target.cls(0).through(layer="layer", channels=[1]))
    known = 5 * x[:, 0]
    known[..., :4] = 0
    torch.testing.assert_close(found.map, known)
    torch.testing.assert_close(found.extra["passed"], known.sum((1, 2)))
    torch.testing.assert_close(found.extra["conservation"], torch.ones(3, dtype=torch.float64))
    assert str(found.target) == "class 0 through channel 1 of 'layer'"


def test_all_channels_add_up_to_the_whole():
    net, x = Halves().double(), images()
    parts = [LRP("epsilon")(net, x, Target.cls(1).through(layer="layer", channels=[c])).map for c in (0, 1)]
    torch.testing.assert_close(sum(parts), LRP("epsilon")(net, x, 1).map)
    together = LRP("epsilon")(net, x, Target.cls(1).through(layer="layer")).map
    torch.testing.assert_close(together, LRP("epsilon")(net, x, 1).map)


def test_two_layers_against_the_formula():
    """LRP-0 with the sum of the second layer cut to one hidden unit, by hand: R_i = a_i sum_j w_ij R_j / z_j."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)).double()
    x = images(2, 2)
    first, second = net[1].weight, net[3].weight
    for unit in range(5):
        z = x.flatten(1) @ first.t()
        hidden = z.relu()
        relevance = hidden * second[2]
        relevance = relevance * torch.eye(5, dtype=torch.float64)[unit]
        share = torch.where(z != 0, relevance / z, 0.0)
        known = x.flatten(1) * (share @ first)
        found = LRP("epsilon")(net, x, Target.cls(2).through(layer="1", channels=[unit]))
        torch.testing.assert_close(found.map, known.view(2, 3, 2, 2).sum(1))


def test_many_targets_through_a_layer():
    net, x = Halves().double(), images()
    many = LRP("epsilon")(net, x, Target.classes([0, 1]).through(layer="layer", channels=[0]))
    for k in (0, 1):
        one = LRP("epsilon")(net, x, Target.cls(k).through(layer="layer", channels=[0]))
        torch.testing.assert_close(many.map[:, k], one.map)
        torch.testing.assert_close(many.extra["passed"][:, k], one.extra["passed"])


def test_the_features_of_tokens_are_channels():
    net = TinyViT().double().eval()
    layer = next(name for name, part in net.named_modules() if name and isinstance(part, nn.LayerNorm))
    x = torch.rand(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = LRP()(net, x, Target.cls(0).through(layer=layer))
    width = dict(net.named_modules())[layer].normalized_shape[0]
    halves = [
        LRP()(net, x, Target.cls(0).through(layer=layer, channels=list(some)))
        for some in (range(width // 2), range(width // 2, width))
    ]
    torch.testing.assert_close(halves[0].map + halves[1].map, whole.map)


MODULES = {
    "cbm": lambda: make_module(bottleneck="probabilities"),
    "logits": lambda: make_module(bottleneck="logits"),
    "protopnet": make_prototypes,
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_the_parts_of_all_units_add_up_to_the_logit(make):
    module = make().double().eval()
    size = module.spec.image_size
    x = torch.rand(3, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network = module.network
    logits, units = network(x)
    for explainer in (Intrinsic(), GradientTimesInput()):
        parts = [explainer(module, x, Target.cls(1).through(unit)) for unit in range(len(network.unit_names))]
        value = sum(part.value for part in parts)
        torch.testing.assert_close(value, logits[:, 1] - network.bias()[1], msg=explainer.name)
        torch.testing.assert_close(value, network.contributions(units)[..., 1].sum(1))
        whole = explainer(module, x, Target.cls(1))
        torch.testing.assert_close(sum(part.map for part in parts), whole.map, msg=explainer.name)


def test_lrp_through_a_concept_is_the_relevance_of_the_concept():
    """The head passes to a concept its contribution: from there on it is LRP of that number."""
    module = make_module(bottleneck="logits").double().eval()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    network = module.network
    weight = network.linear_weight()
    asked = Target.cls(2).through("wing::red")
    alone = LRP("epsilon")(module, x, Target.unit("wing::red"))
    found = LRP("epsilon")(module, x, asked)
    torch.testing.assert_close(found.map, alone.map * weight[2, network.unit_index("wing::red")])


def test_patterns_and_several_units():
    module = make_module().double().eval()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    group = Intrinsic()(module, x, Target.predicted().through("wing::*"))
    single = [Intrinsic()(module, x, Target.predicted().through(f"wing::{c}")) for c in ("red", "blue", "green")]
    torch.testing.assert_close(group.map, sum(part.map for part in single))
    both = Intrinsic()(module, x, Target.predicted().through(["wing::red", 1]))
    torch.testing.assert_close(both.map, single[0].map + single[1].map)
    centered = Intrinsic()(module, x, Target.cls(0, scalar="centered_logit").through("flies"))
    plain = [Intrinsic()(module, x, Target.cls(c).through("flies")).map for c in range(3)]
    torch.testing.assert_close(centered.map, plain[0] - sum(plain) / 3)


def test_an_explanation_holds_no_network():
    module = make_module()
    found = Intrinsic()(module, torch.rand(1, 3, 16, 16), Target.cls(0).through("flies"))
    assert all(term.model is None for terms in found.target.sums for term in terms)
    assert "through 5" in str(found.target)
    copy.deepcopy(found)


MISTAKES = {
    "neither": (lambda: Target.cls(0).through(), ConfigError, "units, or a layer"),
    "both": (lambda: Target.cls(0).through("a", layer="b"), ConfigError, "units, or a layer"),
    "none": (lambda: Target.cls(0).through([]), ConfigError, "at least one unit"),
    "a unit": (lambda: Target.unit(0).through("a"), ConfigError, "asked for of a class"),
    "another method": (
        lambda: GradCAM()(Halves(), images().float(), Target.cls(0).through(layer="layer", channels=[0])),
        UnsupportedError,
        "channel 0 of 'layer' is a relevance, which lrp alone",
    ),
    "no layer": (
        lambda: LRP()(Halves(), images().float(), Target.cls(0).through(layer="layr")),
        ConfigError,
        "no layer 'layr'",
    ),
    "no channel": (
        lambda: LRP()(Halves(), images().float(), Target.cls(0).through(layer="layer", channels=[2])),
        ConfigError,
        "no channel 2 of 'layer': there are 2",
    ),
    "no unit": (
        lambda: Intrinsic()(make_module(), torch.rand(1, 3, 16, 16), Target.cls(0).through("wing::rad")),
        ConfigError,
        "Did you mean one of: 'wing::red'",
    ),
    "no units": (
        lambda: LRP()(Halves(), images().float(), Target.cls(0).through("wing::red")),
        UnsupportedError,
        "no names for its units",
    ),
    "not additive": (
        lambda: LRP()(make_whitening(), torch.rand(1, 3, 16, 16), Target.cls(0).through(0)),
        UnsupportedError,
        "no sum over its units",
    ),
    "a probability": (
        lambda: GradientTimesInput()(
            make_module(), torch.rand(1, 3, 16, 16), Target.cls(0, scalar="prob").through("flies")
        ),
        UnsupportedError,
        "'prob' does not",
    ),
}


@pytest.mark.parametrize(("ask", "kind", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(ask, kind, message):
    with pytest.raises(kind, match=message) as raised:
        ask()
    assert "\n" not in str(raised.value)


def test_a_difference_keeps_its_channels():
    net, x = Halves().double(), images()
    parts = [Target.cls(k).through(layer="layer", channels=[1]) for k in (0, 1)]
    maps = [LRP("epsilon")(net, x, part).map for part in parts]
    torch.testing.assert_close(LRP("epsilon")(net, x, parts[0] - parts[1]).map, maps[0] - maps[1])
    with pytest.raises(ConfigError, match="other channels cannot be added"):
        parts[0] - Target.cls(1)


@pytest.mark.parametrize("middle", [nn.Identity(), nn.Dropout()], ids=["identity", "dropout"])
def test_what_goes_around_an_identity_is_not_in_the_map(middle):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.middle = nn.Conv2d(3, 2, 1, bias=False), middle
            torch.manual_seed(0)
            self.last = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            h = self.first(x)
            return self.last((self.middle(h) + 2 * h).mean((2, 3)))

    net, x = Around().double().eval(), images()
    through = LRP("epsilon")(net, x, Target.cls(0).through(layer="middle"))
    torch.testing.assert_close(through.map, LRP("epsilon")(net, x, 0).map / 3)


@pytest.mark.parametrize(
    ("channels", "message"), [([], "at least one channel"), ([1.0], "by number"), ("a", "by number")]
)
def test_channels_are_numbers(channels, message):
    with pytest.raises(ConfigError, match=message):
        Target.cls(0).through(layer="layer", channels=channels)


def test_a_pattern_is_not_scaled():
    with pytest.raises(ConfigError, match="pattern cannot be multiplied"):
        -Target.units("wing::*")
