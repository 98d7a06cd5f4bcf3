"""Activation maximization: planted patterns come back, every part does what it says, nothing else is touched."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.feature_visualization import (
    L2,
    Colors,
    Fourier,
    Objective,
    Pixels,
    maximize_activation,
)
from ibd.explain.targets import Target
from ibd.models.baseline.lightning import Baseline
from tests.model_makers import (
    SMALL,
    SPEC,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_prototypes,
    make_whitening,
)

QUICK = {"size": 16, "steps": 24, "progress": False}
PLAIN = {**QUICK, "transforms": None}


class Planted(nn.Module):
    """One filter as large as the image, then something that is off until it fits; and a head."""

    def __init__(self, size=16):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        smooth = F.interpolate(torch.randn(2, 3, 5, 5, generator=generator), size=(size, size), mode="bilinear")
        self.conv, self.relu = nn.Conv2d(3, 2, size), nn.ReLU()
        self.conv.weight.data, self.conv.bias.data = smooth, torch.tensor([-smooth[0].abs().sum() / 20, 0.0])
        self.head = nn.Linear(2, 4)

    def forward(self, image):
        return self.head(self.relu(self.conv(image - 0.5)).flatten(1))


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


KINDS = [Pixels(Colors.independent()), Fourier(Colors.independent(), spread=0.01), Pixels(), Fourier(spread=0.01)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_a_planted_filter_comes_back(kind):
    """Of blobs of black and white, the best image within [0, 1]; through a ReLU that is off at the start."""
    model = Planted()
    blobs = model.conv.weight[0].detach().mean(0).sign().expand(3, -1, -1)
    model.conv.weight.data[0] = blobs
    model.conv.bias.data[0] = -20.0
    made = maximize_activation(
        model, Objective.channel("relu", 0), parametrization=kind, **{**PLAIN, "steps": 120, "lr": 0.1}
    )
    assert float(made.trace[0]) == 0
    assert float(F.cosine_similarity((made.image[0] - 0.5).flatten(), blobs.flatten(), dim=0)) > 0.9


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: type(kind).__name__)
def test_a_planted_filter_is_the_optimum_with_a_penalty(kind):
    """The maximum of ``w x - weight |x - gray|^2`` is a multiple of w: no other answer is right."""
    model = Planted()
    made = maximize_activation(
        model,
        Objective.direction("conv", torch.tensor([1.0, 0.0])),
        parametrization=kind,
        penalties=[L2(weight=8 * model.conv.weight[0].abs().max().item() * 3 * 16 * 16 / 2)],
        size=16,
        steps=150,
        transforms=None,
    )
    moved = (made.image[0] - 0.5).flatten()
    assert float(F.cosine_similarity(moved, model.conv.weight[0].detach().flatten(), dim=0)) > 0.98


OBJECTIVES = [
    Objective.neuron("3", 2),
    Objective.neuron("3", [0, 5], (1, 2)),
    Objective.channel("3", [4, 1]),
    Objective.channel("7", 3),
    Objective.layer("0"),
    Objective.direction("3", torch.arange(8.0) - 4),
    Objective.direction("3", torch.eye(8)[:2], position=(0, 3), cosine_power=1.0),
    Objective.cls(2),
    Objective.cls([1, 4], "prob"),
    Objective.of(Target.cls(0) - Target.cls(3)),
    2.0 * Objective.channel("3", 1) - Objective.cls(2) + 0.5 * Objective.diversity("3"),
    -Objective.channel("3", 1),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("kind", [pytest.param(Pixels(), marks=pytest.mark.slow), Fourier()], ids=["Pixels", "Fourier"])
def test_every_objective_rises(objective, kind):
    made = maximize_activation(small_net(), objective, batch=2, parametrization=kind, **QUICK)
    assert made.image.shape == (2, 3, 16, 16)
    assert float(made.image.min()) >= 0
    assert float(made.image.max()) <= 1
    assert made.trace.shape == (24, 2)
    assert float(made.value.sum()) > float(made.trace[0].sum())
    assert float(made.trace[-6:].mean()) > float(made.trace[:6].mean())


def test_values_are_what_the_model_says():
    model = small_net()
    objective = 2 * Objective.cls([3, 1], "logit") + Objective.channel("3", 5) - Objective.neuron("0", 1)
    made = maximize_activation(model, objective, batch=2, **QUICK)
    model.eval()
    first = model[0](made.image)
    third = model[3](model[2](model[1](first)))
    logits = model(made.image)
    expected = 2 * logits[[0, 1], [3, 1]] + third[:, 5].mean((1, 2)) - first[:, 1, 3, 3]
    torch.testing.assert_close(made.value, expected.detach())
    assert str(objective) == "2 x class 3, 1 + 3 channel 5 + -1 x 0 channel 1 at middle"
    power = Objective.layer("0").values({"0": first}, None)
    torch.testing.assert_close(power, first.square().mean((1, 2, 3)))


def test_images_do_not_depend_on_each_other():
    """Without movements and with the same start, an image of a batch is the one made alone."""
    model, start = small_net(), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"steps": 10, "transforms": None, "progress": False}
    both = maximize_activation(model, Objective.channel("3", [4, 1]), batch=2, start=start, **options)
    for row, channel in enumerate((4, 1)):
        one = maximize_activation(model, Objective.channel("3", channel), start=start[row], **options)
        torch.testing.assert_close(one.image[0], both.image[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [Pixels(), Fourier(), Fourier(Colors.independent(), 1.5)], ids=str)
@pytest.mark.parametrize("size", [(15, 17), (16, 12)])
def test_it_starts_from_an_image(kind, size):
    image = 0.05 + 0.9 * torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    made = maximize_activation(
        small_net(), Objective.cls(1), start=image, steps=1, lr=1e-6, parametrization=kind, progress=False
    )
    torch.testing.assert_close(made.image[0], image, atol=2e-3, rtol=0)


def test_seeds_and_what_is_left_alone():
    model = small_net().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with torch.inference_mode():
        first = maximize_activation(model, Objective.channel("3", 1), **QUICK)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(maximize_activation(model, Objective.channel("3", 1), **QUICK).image, first.image)
    assert not torch.equal(maximize_activation(model, Objective.channel("3", 1), seed=1, **QUICK).image, first.image)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert first.settings["objective"] == "3 channel 1"


@pytest.mark.slow
def test_diversity_lowers_similarity():
    model = small_net()
    alike = Objective.diversity("3")
    values = []
    for weight in (0.0, 5.0):
        objective = Objective.channel("3", 1) + weight * alike
        made = maximize_activation(model, objective, batch=3, **{**QUICK, "steps": 60})
        values.append(-float(maximize_activation(model, alike, batch=3, start=made.image, steps=1).trace[0].mean()))
    assert values[1] < values[0] - 0.05
    assert abs(values[0]) <= 1


FAMILIES = {
    "baseline": lambda: Baseline(SPEC, SMALL),
    "cbm": make_module,
    "cem": make_embedding,
    "concept_whitening": make_whitening,
    "interpretable_cnn": make_filters,
    "pipnet": make_pipnet,
    "protopnet": make_prototypes,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_units_and_classes_of_our_models(family):
    module = FAMILIES[family]().eval()
    for objective in (Objective.unit([0, 2]), Objective.cls(["bee", "ant"][0])):
        made = maximize_activation(module, objective, batch=2, steps=40, progress=False)
        assert tuple(made.image.shape[2:]) == module.spec.image_size
        assert float(made.value.sum()) > float(made.trace[0].sum())


def test_the_probability_of_a_concept():
    module = make_module()
    scores = torch.tensor([[0.5, -2.0]])
    output = SimpleNamespace(units=SimpleNamespace(scores=scores))
    assert float(Objective.unit(1, "prob").values({}, output)) == pytest.approx(1 / (1 + math.exp(2)))
    assert float(Objective.unit([0], "log_prob").values({}, output)) == pytest.approx(-math.log(1 + math.exp(-0.5)))
    made = maximize_activation(module, Objective.unit("flies", "prob"), steps=20, progress=False)
    assert 1 >= float(made.value) > float(made.trace[0])


def test_a_layer_of_a_plain_resnet():
    torch.manual_seed(0)
    model, passed = resnet18().eval(), []
    model.layer3.register_forward_hook(lambda *_: passed.append(1))
    made = maximize_activation(model, Objective.channel("layer2.1", 5), size=33, steps=8, progress=False)
    assert float(made.value) > float(made.trace[0])
    assert len(passed) == 2  # all passes end at the layer but the first, and the one that tells how it lies


class WrittenOver(nn.Module):
    """Writes over what its first layer puts out, by statements."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, image):
        x = self.first(image)
        x.sub_(0.05)
        F.relu(x, inplace=True)
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize("steps", [1, 18])  # with redirected ReLUs, and without
def test_operations_in_place(steps):
    torch.manual_seed(0)
    model = WrittenOver().eval()
    options = {**QUICK, "transforms": None, "start": torch.rand(3, 16, 16), "steps": steps}
    made = maximize_activation(model, Objective.cls(0), **options)
    torch.testing.assert_close(made.value, model(made.image).log_softmax(1)[:, 0].detach())
    other = maximize_activation(model, Objective.cls(0), **{**options, "start": made.image, "steps": 1})
    torch.testing.assert_close(other.trace[0], made.value, atol=1e-4, rtol=0)
    layer = Objective.channel("first", 1)
    alone, beside = (maximize_activation(model, each, **options) for each in (layer, layer + 0.0 * Objective.cls(0)))
    torch.testing.assert_close(beside.image, alone.image)
    torch.testing.assert_close(beside.value, alone.value)
    torch.testing.assert_close(beside.value, model.first(alone.image)[:, 1].mean((1, 2)).detach())


@pytest.mark.parametrize(
    ("objective", "options", "error", "message"),
    [
        (Objective.channel("33", 0), {}, ConfigError, "no layer '33' in Sequential. "),
        (Objective.channel("3", 8), {}, ConfigError, "no channel 8 in '3': there are 8, counted from 0"),
        (Objective.channel("3", [1, 2]), {"batch": 3}, ConfigError, "2 channels for 3 images"),
        (Objective.neuron("3", 1, (9, 0)), {}, ConfigError, "no position 9, 0 in '3' of 4 x 4"),
        (
            Objective.direction("3", torch.ones(3)),
            {},
            ConfigError,
            "a vector of 3 for 8 channels",
        ),
        (Objective.unit(0), {}, UnsupportedError, "this model has no units"),
        (Objective.cls("cat"), {}, UnsupportedError, "has no names"),
        (Objective.cls(0), {"steps": 0}, ConfigError, "steps: 0 given"),
        (Objective.cls(0), {"size": 0}, ConfigError, "size: 0 given"),
        (Objective.cls(0), {"start": "zeros"}, ConfigError, "start: 'zeros' is neither noise nor images"),
        (Objective.cls(0), {"start": torch.ones(3, 16, 16) * 2}, DataError, "not within 0 and 1"),
        (Objective.cls(0), {"start": torch.ones(3, 9, 9)}, ConfigError, "but size 16 is asked for"),
        (Objective.of(Target.of(lambda out: out[:, 0].detach())), {}, UnsupportedError, "does not depend on the image"),
    ],
)
def test_mistakes(objective, options, error, message):
    model = small_net()
    with pytest.raises(error, match=message):
        maximize_activation(model, objective, **{**QUICK, **options})
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_several_scores_are_no_objective():
    with pytest.raises(ConfigError, match="scalar 'log_odds' of a unit is not one of score, prob, log_prob"):
        Objective.unit(0, "log_odds")
    with pytest.raises(ConfigError, match="a target of one score is needed"):
        Objective.of(Target.classes([0, 1]))


def test_as_many_images_as_the_objective_lists():
    """Without batch=: one for each class, unit or channel that is listed; else as many as there are to start from."""
    options = {"steps": 1, "size": 16, "progress": False}
    listed = [
        Objective.cls([0, 1, 2, 3, 4]),
        Objective.channel("3", range(5)),
        0.5 * Objective.neuron("0", [0, 1, 2, 3, 1]) - Objective.cls(2),
        Objective.of(Target.cls([4, 3, 2, 1, 0])),
    ]
    for objective in listed:
        assert len(maximize_activation(small_net(), objective, **options).image) == 5
    assert len(maximize_activation(small_net(), Objective.cls(1), **options).image) == 1
    start = torch.rand(3, 3, 16, 16)
    assert len(maximize_activation(small_net(), Objective.cls(1), start=start, steps=1, progress=False).image) == 3
    with pytest.raises(ConfigError, match="5 class numbers for 2 images"):
        maximize_activation(small_net(), listed[0], batch=2, **options)
