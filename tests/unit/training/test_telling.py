"""What a training says of itself: what is cut, what to doubt, which figures come first."""

import math

import pytest
import torch

from ibd.errors import ConfigError
from ibd.training.display import accuracy_reach, doubts, headline
from ibd.training.lengths import check_length
from tests.model_makers import TensorData, make_module, make_pipnet, make_prototypes


@pytest.mark.parametrize(
    ("epochs", "left"),
    [
        (1, ["1 of model.pretrain.epochs=2", "5 of model.train.epochs=5"]),
        (3, ["4 of model.train.epochs=5"]),
        (6, ["1 of model.train.epochs=5"]),
        (7, []),
    ],
)
def test_what_is_left_out_of_the_phases(epochs, left):
    made = make_pipnet(pretrain={"epochs": 2}, train={"epochs": 5, "classifier_only": 2})
    assert made.left_out(epochs) == left
    assert make_module().left_out(epochs) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_epochs": 5, "max_epochs": 3}, r"trainer\.min_epochs: 5 given, at most 3, trainer\.max_epochs, is"),
        ({"min_epochs": 8}, r"trainer\.min_epochs: 8 given, at most 7"),
        ({"min_steps": 9, "max_steps": 3}, r"trainer\.min_steps: 9 given, at most 3"),
        ({"max_epochs": 8}, r"trainer\.max_epochs: 8 given, but the phases of the model have 7 epochs"),
        ({"max_epochs": -1}, r"trainer\.max_epochs: -1 given"),
    ],
)
def test_impossible_lengths(options, message):
    made = make_pipnet(pretrain={"epochs": 2}, train={"epochs": 5, "classifier_only": 2})
    with pytest.raises(ConfigError, match=message):
        check_length(made, options)


def test_lengths_that_are_possible():
    check_length(make_module(), {"min_epochs": 3, "max_epochs": -1, "min_steps": 2, "max_steps": -1})
    check_length(make_module(), {"min_epochs": 3, "max_epochs": 3})
    check_length(make_pipnet(), {"max_epochs": 1})


def test_phases_without_epochs():
    none = {"epochs": 0}
    with pytest.raises(ConfigError, match=r"^model\.pretrain\.epochs and model\.train\.epochs: 0 given, so noth"):
        check_length(make_pipnet(pretrain=none, train={**none, "classifier_only": 0}), {})
    with pytest.raises(ConfigError, match=r"^model\.warm\.epochs and model\.joint\.epochs: 0 given"):
        check_length(make_prototypes(warm=none, joint=none), {"max_epochs": 3})


def test_how_sure_an_accuracy_is():
    """By Wilson's formula at one half: z / (2 sqrt(n + z^2)), z = 1.96."""
    assert accuracy_reach(40) == pytest.approx(1.96 / (2 * (40 + 1.96**2) ** 0.5), abs=1e-4)  # 0.148
    assert accuracy_reach(92) > 0.1 > accuracy_reach(94)
    assert accuracy_reach(0) == 0.5


def test_few_validation_images_and_classes_without_one_are_doubted():
    few, many = TensorData(sizes=(6, 12, 6)), TensorData(sizes=(6, 96, 6))
    many.splits["val"][1][:3] = torch.arange(3)
    assert doubts(many) == []
    few.splits["val"][1][:] = 1
    size, unseen = doubts(few)
    assert size.startswith("only 12 validation images: an accuracy of them has an interval of +-25 points, so")
    assert unseen.startswith("no validation image is of class 'ant', 'cow': ")


def test_three_figures_come_first():
    figures = {"val/accuracy": 0.9, "val/loss": 0.3, "val/balanced_accuracy": 0.8, "val/sparsity": 0.5, "val/x": 1.0}
    assert list(headline(figures, "val/accuracy")) == ["val/accuracy", "val/loss", "val/balanced_accuracy"]
    assert list(headline(figures, "val/x")) == ["val/x", "val/accuracy", "val/loss"]
    assert "val/projected" not in headline({**figures, "val/projected": math.nan}, "val/projected")
    assert list(headline({**figures, "head/val_accuracy": 0.95}, "val/x"))[1] == "head/val_accuracy"
    assert headline({}, "val/accuracy") == {}
