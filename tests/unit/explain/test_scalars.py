"""Numbers of a class other than its logit, and models of one logit, by closed forms and a second way to write them."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.gradients import GradientTimesInput
from ibd.explain.lrp import LRP
from ibd.explain.perturbation import Occlusion
from ibd.explain.targets import Target
from tests.explainer_makers import APART, EXPLAINERS, ROWS, Functional, explainer, images

Z = torch.tensor([[2.0], [-0.5], [0.0]])
"""Of three images."""
LOGITS = torch.tensor([[1.0, 2.0, -1.0], [0.5, -3.0, 4.0]])
SCALARS = ("prob", "log_prob", "log_odds", "logit", "centered_logit")


class Binary(Functional):
    """One logit."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(classes=1)


class Written(nn.Module):
    """The same as two logits, z and 0: ``softmax(z, 0) = sigmoid(z)``."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        z = self.network(image)
        return torch.cat([z, torch.zeros_like(z)], 1)


def test_scalars_of_one_logit():
    p = Z[:, 0].sigmoid()
    wanted = {"prob": p, "log_prob": p.log(), "log_odds": Z[:, 0], "logit": Z[:, 0], "centered_logit": Z[:, 0]}
    against = {"prob": 1 - p, "log_prob": (1 - p).log(), "log_odds": -Z[:, 0], "logit": -Z[:, 0]}
    for scalar, value in wanted.items():
        torch.testing.assert_close(Target.cls(0, scalar).scores(Z)[:, 0], value)
    for scalar, value in against.items():
        torch.testing.assert_close(Target.absent(scalar).scores(Z)[:, 0], value)
    torch.testing.assert_close(Target.absent().scores(Z), (-Target.cls(0)).scores(Z))


def test_far_from_0_nothing_overflows():
    far = torch.tensor([[200.0], [-200.0]])
    torch.testing.assert_close(Target.cls(0, "log_prob").scores(far), torch.tensor([[0.0], [-200.0]]))
    torch.testing.assert_close(Target.absent("log_prob").scores(far), torch.tensor([[-200.0], [0.0]]))


def test_the_class_is_predicted_above_0_and_its_absence_elsewhere():
    asked = Target.predicted("prob")
    torch.testing.assert_close(asked.scores(Z)[:, 0], torch.tensor([2.0, 0.5, 0.0]).sigmoid())
    pinned = asked.pin(Z)  # and stays so for other images
    torch.testing.assert_close(pinned.scores(-Z)[:, 0], torch.tensor([-2.0, -0.5, 0.0]).sigmoid())
    twice = pinned.repeat(2).select(slice(2, 4))
    torch.testing.assert_close(twice.scores(Z[[0, 0]])[:, 0], torch.tensor([-2.0, -2.0]).sigmoid())


@pytest.mark.parametrize("row", [row for row in EXPLAINERS if row not in ("intrinsic", *APART) and "lrp" not in row])
@pytest.mark.parametrize("scalar", ["prob", "log_odds"])
def test_every_explainer_answers_as_for_two_logits(row, scalar):
    network, image = Binary().double(), images(2).double()
    one = explainer(row)(network, image, Target.cls(0, scalar))
    two = explainer(row)(Written(network), image, Target.cls(0, scalar))
    torch.testing.assert_close(one.value, two.value)
    torch.testing.assert_close(one.map, two.map, rtol=1e-5, atol=1e-9)
    assert bool(one.map.any())


def test_what_speaks_against_is_the_negative():
    network, image = Binary(), images()
    for asked in (Target.absent(), -Target.cls(0)):
        found = GradientTimesInput()(network, image, asked)
        torch.testing.assert_close(found.map, -GradientTimesInput()(network, image, 0).map)
    with torch.no_grad():
        sign = network(image)[:, 0].sign()
    predicted = Occlusion(window=9, stride=7)(network, image)
    torch.testing.assert_close(predicted.map, sign[:, None, None] * Occlusion(9, 7)(network, image, 0).map)
    torch.testing.assert_close(LRP()(network, image).value, sign * LRP()(network, image, 0).value)


def test_names_of_one_logit():
    network = Binary()
    network.class_names = ["sick"]
    assert Target.cls("sick").resolve(network) == Target.cls(0)
    network.class_names = ["healthy", "sick"]
    for name, sign in (("sick", 1), ("healthy", -1)):
        torch.testing.assert_close(Target.cls(name).resolve(network).scores(Z), sign * Z)
    both = Target.classes(["healthy", "sick"]).resolve(network)
    torch.testing.assert_close(both.scores(Z), torch.cat([-Z, Z], 1))


def test_mistakes_of_one_logit():
    with pytest.raises(ConfigError, match=r"no class 1: the model has one logit, .* Target.absent\(\) asks what"):
        Target.cls(1).scores(Z)
    with pytest.raises(ConfigError, match="no class 2: there are 1"):
        Target.cls(2).scores(Z)
    with pytest.raises(ConfigError, match=r"Target\.absent needs a model of one logit, but this one has 3"):
        Target.absent().scores(LOGITS)


def test_centered_on_the_classes():
    centered = LOGITS - LOGITS.mean(1, keepdim=True)
    torch.testing.assert_close(Target.cls(1, "centered_logit").scores(LOGITS), centered[:, 1:2])
    torch.testing.assert_close(Target.cls([2, 0], "centered_logit").scores(LOGITS)[:, 0], centered[[0, 1], [2, 0]])
    torch.testing.assert_close(Target.predicted("centered_logit").scores(LOGITS)[:, 0], centered.amax(1))
    several = Target.classes([2, 0], "centered_logit")
    assert several._together(LOGITS) is not None
    torch.testing.assert_close(several.scores(LOGITS), centered[:, [2, 0]])
    torch.testing.assert_close(several.scores(LOGITS + 7), several.scores(LOGITS))  # which no decision depends on


@pytest.mark.parametrize("row", [row for row in ROWS if row.values[0] != "intrinsic"])
def test_every_explainer_takes_it(row):
    """As the same network with a head from which the mean of its rows is taken."""
    torch.manual_seed(0)
    network, image = Functional().double(), images(2).double()
    written = Functional().double()
    written.load_state_dict(network.state_dict())
    with torch.no_grad():
        written.head.weight -= network.head.weight.mean(0)
        written.head.bias -= network.head.bias.mean(0)
    found = explainer(row)(network, image, Target.cls(1, "centered_logit"))
    wanted = explainer(row)(written, image, 1)
    torch.testing.assert_close(found.value, wanted.value)
    if "lrp" not in row and row != "eigencam":
        torch.testing.assert_close(found.map, wanted.map, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1"])
def test_relevance_adds_up_to_it(composite):
    network, image = Functional().double(), images(2).double()
    for target in (Target.cls(1, "centered_logit"), Target.classes([0, 3], "centered_logit")):
        found = LRP(composite)(network, image, target)
        total = found.map.flatten(-2).sum(-1) + found.extra["bias"]
        torch.testing.assert_close(total, found.value, rtol=1e-9, atol=1e-12)
    whole = LRP("epsilon")(network, image, Target.cls(1, "centered_logit"))
    parts = LRP("epsilon")(network, image, Target.classes(range(4))).map  # of a rule that is linear in the score
    torch.testing.assert_close(whole.map, parts[:, 1] - parts.mean(1))
