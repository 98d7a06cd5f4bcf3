"""Targets: what is asked about."""

import pytest
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.gradients import Saliency
from ibd.explain.targets import Target, logits_of
from ibd.types import Output, Units
from tests.explainer_makers import make

LOGITS = torch.tensor([[1.0, 2.0, -1.0], [0.5, -3.0, 4.0]])
OUTPUT = Output(LOGITS, Units(torch.arange(8.0).view(2, 4), torch.zeros(2, 4, 1, 1)))


def test_scalars_of_a_class():
    p = LOGITS.softmax(1)[:, 1:2]
    close = torch.testing.assert_close
    close(Target.cls(1).scores(LOGITS), LOGITS[:, 1:2])
    close(Target.cls(1, "prob").scores(LOGITS), p)
    close(Target.cls(1, "log_prob").scores(LOGITS), p.log())
    close(Target.cls(1, "log_odds").scores(LOGITS), (p / (1 - p)).log())
    close(Target.predicted().scores(LOGITS), LOGITS.amax(1, keepdim=True))
    close(Target.cls([2, 0]).scores(LOGITS), torch.tensor([[-1.0], [0.5]]))
    close(Target.cls(torch.tensor([2, 0])).scores(LOGITS), torch.tensor([[-1.0], [0.5]]))


def test_they_add_up():
    both = 2 * Target.cls(0) - Target.unit(3) * 0.5 + (-Target.predicted())
    expected = 2 * LOGITS[:, 0] - 0.5 * OUTPUT.units.scores[:, 3] - LOGITS.amax(1)
    torch.testing.assert_close(both.scores(OUTPUT)[:, 0], expected)
    torch.testing.assert_close((3 * Target.classes([0, 2])).scores(LOGITS), 3 * LOGITS[:, [0, 2]])
    with pytest.raises(ConfigError, match="several"):
        Target.cls(0) + Target.classes([1, 2])


@pytest.mark.parametrize("target", [Target.classes([2, 0]), Target.units([3, 0, 1]), -2 * Target.classes([1, 1])])
def test_several_by_one_look_up_are_those_one_by_one(target):
    assert target._together(OUTPUT) is not None
    each = [Target((terms,)).scores(OUTPUT) for terms in target.sums]
    torch.testing.assert_close(target.scores(OUTPUT), torch.cat(each, 1))


def test_several_of_mixed_kinds():
    mixed = Target((*Target.cls(1).sums, *Target.unit(2).sums, *Target.cls([0, 2]).sums), many=True)
    assert mixed._together(OUTPUT) is None
    expected = torch.stack([LOGITS[:, 1], OUTPUT.units.scores[:, 2], LOGITS[[0, 1], [0, 2]]], 1)
    torch.testing.assert_close(mixed.scores(OUTPUT), expected)


def test_pinned_repeated_selected():
    pinned = (Target.predicted() - Target.cls(0)).pin(LOGITS)
    other = LOGITS.flip(1)
    torch.testing.assert_close(pinned.scores(other)[:, 0], other[[0, 1], [1, 2]] - other[:, 0])
    twice = pinned.repeat(2).scores(other.repeat_interleave(2, 0))
    torch.testing.assert_close(twice, pinned.scores(other).repeat_interleave(2, 0))
    torch.testing.assert_close(pinned.select(slice(1, 2)).scores(other[1:]), pinned.scores(other)[1:])


def test_names():
    model = make("cbm")
    assert Target.unit("wing::blue").resolve(model) == Target.unit(1)
    assert Target.cls("bee").resolve(model) == Target.cls(1)
    assert Target.units("wing::*").resolve(model) == Target.units([0, 1, 2])
    with pytest.raises(ConfigError, match=r"unknown unit 'wing::blu'.*wing::blue"):
        Target.unit("wing::blu").resolve(model)
    with pytest.raises(ConfigError, match="no unit's name fits"):
        Target.units("beak::*").resolve(model)
    with pytest.raises(UnsupportedError, match="has no names"):
        Target.cls("bee").resolve(torch.nn.Identity())


class Named(torch.nn.Module):
    def __init__(self, names, **inner):
        super().__init__()
        for key, value in inner.items():
            setattr(self, key, value)
        if names is not None:
            self.class_names = names

    def forward(self, image):
        return image.flatten(1)


BIRDS = ["ant", "bee", "cat"]
PLACES = {
    "the model": lambda: Named(BIRDS),
    "the model around a network": lambda: Named(BIRDS, network=Named(None)),
    ".network": lambda: Named(None, network=Named(BIRDS)),
    "DataParallel": lambda: torch.nn.DataParallel(Named(BIRDS)),
    "DataParallel of .network": lambda: torch.nn.DataParallel(Named(None, network=Named(BIRDS))),
    "a tuple": lambda: Named(tuple(BIRDS)),
    "name -> number": lambda: Named({"cat": 2, "ant": 0, "bee": 1}),
    "number -> name": lambda: Named({2: "cat", 0: "ant", 1: "bee"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_names_wherever_a_model_keeps_them(place):
    model = PLACES[place]()
    for index, name in enumerate(BIRDS):
        assert Target.cls(name).resolve(model) == Target.cls(index)
    with pytest.raises(ConfigError, match=r"unknown class 'bea'.*bee"):
        Target.cls("bea").resolve(model)
    image = torch.rand(2, 3, 1, 1)
    torch.testing.assert_close(Saliency()(model, image, "cat").value, image[:, 2, 0, 0])


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (Target.cls(3), ConfigError, "no class 3: there are 3"),
        (Target.cls(-1), ConfigError, "no class -1"),
        (Target.classes([0, 5]), ConfigError, "no class 5"),
        (Target.units([0, 1]), UnsupportedError, "no units"),
        (Target.cls([0]), ConfigError, "1 class numbers for 2 images"),
        (Target.cls("bee"), ConfigError, "is a name"),
    ],
)
def test_mistakes(target, error, message):
    with pytest.raises(error, match=message):
        target.scores(LOGITS)


def test_logits_in_what_a_model_returns():
    for output in (LOGITS, OUTPUT, (LOGITS, 1), [LOGITS], {"logits": LOGITS}, {"out": LOGITS}, {"a": LOGITS}):
        assert torch.equal(logits_of(output), LOGITS)
    for output in ({}, (), "text", LOGITS[0], None):
        with pytest.raises(UnsupportedError, match="logits"):
            logits_of(output)
