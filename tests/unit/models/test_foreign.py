"""Networks of anybody's: how they are fed, and what they return."""

import pytest
import torch
from torch import nn

import ibd
from ibd.errors import ConfigError
from ibd.explain import LRP, GradientTimesInput
from ibd.explain.targets import Target
from ibd.models.foreign import ForeignModel

WEIGHT = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 3.0], [-2.0, 1.0, 0.0]])
"""Of three classes on the mean color."""


class Means(nn.Module):
    """Logits that are linear in the mean color, wrapped in some way."""

    def __init__(self, weight=WEIGHT, wrap=lambda logits: logits):
        super().__init__()
        self.linear = nn.Linear(3, len(weight), bias=False)
        self.linear.weight.data.copy_(weight)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.linear(x.mean((2, 3))))


def images(count=4, seed=0):
    return torch.rand(count, 3, 5, 6, generator=torch.Generator().manual_seed(seed))


def by_hand(x, weight=WEIGHT):
    return torch.einsum("cd,bd->bc", weight, x.mean((2, 3)))


class Named:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits,
        lambda logits: (logits, "more"),
        lambda logits: [logits],
        lambda logits: {"logits": logits, "loss": None},
        lambda logits: {"out": logits},
        Named,
    ],
    ids=["tensor", "tuple", "list", "logits", "out", "object"],
)
def test_logits_are_found(wrap):
    x = images()
    torch.testing.assert_close(ForeignModel(Means(wrap=wrap), "unit")(x), by_hand(x))


def test_statistics_are_taken_away_first():
    x, mean, std = images(), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 2.0])
    model = ForeignModel(Means(), {"mean": mean.tolist(), "std": std.tolist()})
    torch.testing.assert_close(model(x), by_hand((x - mean.view(3, 1, 1)) / std.view(3, 1, 1)))
    torch.testing.assert_close(ForeignModel(Means(), lambda image: 2 * image - 1)(x), by_hand(2 * x - 1))
    torch.testing.assert_close(ForeignModel(Means(), "half")(x), by_hand(2 * x - 1))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_keeps_its_probability(shape):
    x = images()
    one = WEIGHT[:1]
    model = ForeignModel(Means(one, lambda logits: logits.reshape(shape)), "unit")
    z = by_hand(x, one)[:, 0]
    torch.testing.assert_close(model(x).softmax(1)[:, 1], z.sigmoid())
    torch.testing.assert_close(model(x).argmax(1), (z > 0).long())


def test_probabilities_become_logits():
    x = images()
    model = ForeignModel(Means(wrap=lambda logits: logits.softmax(1)), "unit", output="probabilities")
    torch.testing.assert_close(model(x).softmax(1), by_hand(x).softmax(1))
    one = ForeignModel(Means(WEIGHT[:1], torch.sigmoid), "unit", output="probabilities")
    torch.testing.assert_close(one(x).softmax(1)[:, 1], by_hand(x, WEIGHT[:1])[:, 0].sigmoid())


def test_a_label_of_several_is_a_question_of_its_own():
    x = images()
    model = ForeignModel(Means(), "unit", ["a", "b", "c"], "multilabel", "b")
    torch.testing.assert_close(model(x).softmax(1)[:, 1], by_hand(x)[:, 1].sigmoid())
    by_number = ForeignModel(Means(), "unit", output="multilabel", label=1)
    torch.testing.assert_close(by_number(x), model(x))


def test_an_output_function():
    x = images()
    model = ForeignModel(Means(wrap=lambda logits: {"scores": [logits]}), "unit", output=lambda out: out["scores"][0])
    torch.testing.assert_close(model(x), by_hand(x))


def test_the_classes_of_the_data_are_found_by_name():
    x = images()
    model = ForeignModel(Means(), "unit", ["ant", "bee", "cow"])
    model.for_classes(["cow", "ant"])
    torch.testing.assert_close(model(x), by_hand(x)[:, [2, 0]])
    with pytest.raises(ConfigError, match=r"lack the data's class 'cat'"):
        ForeignModel(Means(), "unit", ["ant", "bee", "cow"]).for_classes(["ant", "cat"])


def test_explainers_see_through_all_that_is_around_it():
    """The map of a linear network is known: weight times pixel over the number of pixels, whatever is around it."""
    x, one = images(), WEIGHT[:1]
    known = torch.einsum("d,bdhw->bhw", one[0], x) / (x.shape[2] * x.shape[3])
    binary = ForeignModel(Means(one, lambda logits: {"logits": logits}), "unit")
    for explainer in (GradientTimesInput(), LRP()):
        asked = explainer(binary, x, Target.cls([1] * len(x), scalar="centered_logit"))
        torch.testing.assert_close(asked.map, known / 2, msg=explainer.name)
    chosen = ForeignModel(Means(), "unit", ["ant", "bee", "cow"])
    chosen.for_classes(["cow", "bee"])
    known = torch.einsum("d,bdhw->bhw", WEIGHT[1], x) / (x.shape[2] * x.shape[3])
    for explainer in (GradientTimesInput(), LRP()):
        torch.testing.assert_close(explainer(chosen, x, Target.cls("bee")).map, known, msg=explainer.name)


def test_the_network_itself_is_not_touched():
    net = Means().train()
    ForeignModel(net, "imagenet")(images())
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


MISTAKES = {
    "no network": (lambda: ForeignModel(len, "unit"), "a torch.nn.Module is needed, not a builtin_function"),
    "preprocess": (lambda: ForeignModel(Means(), "imagnet"), "Did you mean 'imagenet'"),
    "half of the statistics": (lambda: ForeignModel(Means(), {"mean": (0, 0, 0)}), "mean and std are needed, not mean"),
    "two channels": (lambda: ForeignModel(Means(), {"mean": (0, 0), "std": (1, 1)}), "three numbers are needed"),
    "std": (lambda: ForeignModel(Means(), {"mean": (0, 0, 0), "std": (1, 0, 1)}), "numbers above 0"),
    "output": (lambda: ForeignModel(Means(), "unit", output="binery"), "Did you mean 'binary'"),
    "label": (lambda: ForeignModel(Means(), "unit", label=1), "go together"),
    "label name": (lambda: ForeignModel(Means(), "unit", ["a"], "multilabel", "b"), "'b' is not among its class_names"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


CHECKED = {
    "classes": (ForeignModel(Means(), "unit"), ("a", "b"), "tells 3 classes apart, the data has 2"),
    "probabilities": (ForeignModel(Means(wrap=lambda z: z.softmax(1)), "unit"), "abc", "output='probabilities'"),
    "one probability": (ForeignModel(Means(WEIGHT[:1], torch.sigmoid), "unit"), "ab", "output='probabilities'"),
    "maps": (ForeignModel(Means(wrap=lambda z: z.reshape(-1, 3, 1)), "unit"), "abc", "of shape"),
    "text": (ForeignModel(Means(wrap=str), "unit"), "abc", "returns a str"),
    "raises": (ForeignModel(nn.Conv2d(1, 2, 3), "unit"), "ab", "cannot take images"),
    "not finite": (ForeignModel(Means(wrap=torch.log), "unit"), "abc", "not finite"),
}


@pytest.mark.parametrize(("model", "classes", "message"), CHECKED.values(), ids=CHECKED)
def test_outputs_are_looked_at_before_anything_runs(model, classes, message):
    with pytest.raises(ConfigError, match=message):
        model.check(images(8), list(classes))


def test_it_is_public():
    assert ibd.ForeignModel is ForeignModel


def test_one_image_is_one_row():
    model = ForeignModel(Means(wrap=torch.squeeze), "unit")
    with pytest.raises(ConfigError, match="does it squeeze its output"):
        model.check(images(4), list("abc"))
    with pytest.raises(ConfigError, match="3 rows for 1 image"):
        model(images(1))


@pytest.mark.parametrize(
    ("names", "message"),
    [(list("abcde"), "5 given, Means tells 3 classes apart"), (["a", "b", "a"], "have twice the data's class 'a'")],
)
def test_names_are_counted(names, message):
    def ask():
        model = ForeignModel(Means(), "unit", names)
        model.for_classes(["a", "b"])
        model.check(images(4), ["a", "b"])

    with pytest.raises(ConfigError, match=message):
        ask()


def test_a_label_may_be_the_first_class_of_the_data():
    x = images()
    model = ForeignModel(Means(), "unit", ["a", "b", "c"], "multilabel", "b")
    model.for_classes(["b", "normal"])
    torch.testing.assert_close(model(x).softmax(1)[:, 0], by_hand(x)[:, 1].sigmoid())
    other = ForeignModel(Means(), "unit", ["a", "b", "c"], "multilabel", "b")
    other.for_classes(["healthy", "b"])
    torch.testing.assert_close(other(x).softmax(1)[:, 1], by_hand(x)[:, 1].sigmoid())
    with pytest.raises(ConfigError, match="which of the data's classes x, y is 'b'"):
        ForeignModel(Means(), "unit", ["a", "b", "c"], "multilabel", "b").for_classes(["x", "y"])


def test_images_are_not_written_over():
    x = images()
    before = x.clone()
    ForeignModel(Means(), lambda image: image.sub_(0.4))(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_certain_probabilities_stay_finite(dtype):
    model = ForeignModel(nn.Identity(), "unit", output="probabilities")
    assert bool(model.adapted(torch.tensor([0.0, 1.0, 0.5], dtype=dtype)).isfinite().all())
    assert bool(model.adapted(torch.tensor([[0.0, 1.0]], dtype=dtype)).isfinite().all())
