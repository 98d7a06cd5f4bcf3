"""Where a model of ours is wrong: numbers in their unit, units without a name, calibration, networks that abstain."""

import math

import pytest
import torch

from ibd.models.calibration.calibration import Calibration
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.calibration.scaling import Scaling
from ibd.models.trained import TrainedModel
from ibd.models.where_wrong import where_model_wrong
from ibd.types import DataSpec, Quantity, groups_of
from tests.model_makers import make_network, make_pipnet

NAMES = ("wing::red", "size", "flies")
MIXED = DataSpec(
    ("a", "b", "c"), NAMES, groups_of(NAMES), image_size=(16, 16), quantities={"size": Quantity("mm", 20.0, 4.0)}
)


def read(scores, concepts, labels=(0, 1), logits=((3.0, 0.0, 0.0), (0.0, 0.0, 3.0))):
    return ReadOutputs(*(torch.as_tensor(each) for each in (scores, concepts, labels, logits)))


def test_truth_values_and_numbers():
    """A score of 0.5 of a number is half a deviation of 4 mm above its mean of 20 mm."""
    model = TrainedModel(MIXED, make_network(MIXED))
    found = where_model_wrong(
        model, read([[2.0, 0.5, -1.0], [0.0, -1.0, 40.0]], [[1.0, 26.0, 0.0], [1.0, math.nan, 1.0]])
    )
    (size,) = found.quantities
    assert (size.name, size.known, size.error.mean, size.bias.mean) == ("size", 1, 4.0, -4.0)
    assert [one.name for one in found.concepts] == ["wing::red", "flies"]
    assert found.concept_names == NAMES
    assert found.concept_errors[0, 1] == 1.0
    assert found.concept_values[0, 0] == pytest.approx(1 / (1 + math.exp(-2)))
    assert found.concept_right[1].tolist()[0] == 0.0  # a probability of 0.5 says no
    assert found.right.tolist() == [True, False]
    assert found.confidence[0] == pytest.approx(math.exp(3) / (math.exp(3) + 2))


def test_units_without_a_name_are_no_concepts():
    network = make_network(MIXED, residual=2)
    found = where_model_wrong(TrainedModel(MIXED, network), read(torch.zeros(2, 5), torch.ones(2, 3)))
    assert found.concept_names == NAMES
    assert found.concept_errors.shape == (2, 3)


def test_calibrated_probabilities():
    """Logits are halved, and log-odds of concepts doubled; what is decided by stays."""
    model = TrainedModel(MIXED, make_network(MIXED))
    scales = Scaling("temperature", (0.5,)), Scaling("temperature", (2.0,))
    model.calibration = Calibration("val", False, 0, *scales)
    found = where_model_wrong(model, read([[2.0, 0.5, -1.0], [0.0, -1.0, 40.0]], torch.ones(2, 3)))
    assert found.concept_values[0, 0] == pytest.approx(1 / (1 + math.exp(-4)))
    assert found.confidence[0] == pytest.approx(math.exp(1.5) / (math.exp(1.5) + 2))


def test_an_image_without_a_prediction():
    network = make_pipnet().network
    classes = len(network.class_names)
    logits = torch.zeros(2, classes)
    logits[0, 1] = 2.0
    outputs = read(torch.zeros(2, len(network.unit_names)), torch.empty(2, 0), [1, 0], logits)
    found = where_model_wrong(TrainedModel(DataSpec(tuple(network.class_names)), network), outputs)
    assert (found.right.tolist(), found.silent.tolist()) == ([True, False], [False, True])
    assert (int(found.matrix.sum()), found.classes[0].silent, found.concepts) == (1, 1, ())
    assert found.class_reliability.count == 1
