"""Where a classifier is wrong, against counts by hand and scikit-learn."""

import math

import pytest
import torch

from ibd.errors import ConfigError, DataError
from ibd.metrics.functional.bins import calibration_error, reliability
from ibd.metrics.functional.where_wrong import where_wrong
from ibd.types import Quantity

NAN = math.nan


def by_hand():
    """Return five images of three classes with two concepts; of the third class there is no image."""
    probabilities = torch.tensor(
        [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.05, 0.95, 0.0], [0.6, 0.3, 0.1], [0.99, 0.01, 0.0]]
    )
    labels = torch.tensor([0, 0, 1, 1, 1])
    silent = torch.tensor([False, False, False, False, True])
    concepts = torch.tensor([[0.9, 0.1], [0.8, 0.4], [0.3, 0.2], [0.7, 0.9], [0.6, 0.5]])
    truth = torch.tensor([[1.0, 0.0], [1.0, NAN], [0.0, 0.0], [0.0, NAN], [0.5, 0.0]])
    return where_wrong(probabilities, labels, ["a", "b", "c"], silent, concepts, truth, ["big", "red"])


def test_counts_by_hand():
    found = by_hand()
    assert found.matrix.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert (found.right.tolist(), found.rank.tolist()) == ([True, False, True, False, False], [1, 2, 1, 2, 2])
    assert (found.accuracy.mean, found.balanced_accuracy) == pytest.approx((0.4, (1 / 2 + 1 / 3) / 2))
    a, b, c = found.classes
    assert (a.images, a.right, a.recall.mean, a.taken, a.precision.mean) == (2, 1, 0.5, 2, 0.5)
    assert (b.images, b.right, b.silent, b.taken_for, b.times) == (3, 1, 1, "a", 1)
    assert (c.images, c.taken, c.taken_for, c.times) == (0, 0, "", 0)
    assert math.isnan(c.recall.mean)
    assert math.isnan(c.auroc)
    # Of the 2 x 3 pairs of an image of a and one of b, 3 are in order: 0.9 above 0.05 and 0.6, 0.2 above 0.05.
    assert a.auroc == pytest.approx(3 / 6)
    assert [(pair.truth, pair.predicted, pair.count) for pair in found.confusions()] == [("a", "b", 1), ("b", "a", 1)]
    assert found.confusions()[1].share == pytest.approx(1 / 3)
    assert [one.name for one in found.worst_classes()] == ["b", "a"]
    assert found.worst_images().tolist() == [1, 3, 4]  # the most confident first, the silent one last


def test_concepts_by_hand():
    big, red = by_hand().concepts
    assert (big.yes, big.no, big.unknown) == (2, 2, 1)  # a half is neither
    assert (big.accuracy.mean, big.sensitivity.mean, big.specificity.mean, big.constant) == (0.75, 1.0, 0.5, 0.5)
    assert (big.auroc, big.average_precision) == (1.0, 1.0)
    assert (red.yes, red.no, red.unknown) == (0, 3, 2)
    assert math.isnan(red.auroc)
    assert math.isnan(red.average_precision)
    assert math.isnan(red.sensitivity.mean)
    found = by_hand()
    assert found.concept_errors[3, 0] == pytest.approx(0.7)
    assert found.concept_errors.isnan().tolist() == [
        [False] * 2,
        [False, True],
        [False] * 2,
        [False, True],
        [True, False],
    ]
    assert torch.equal(found.concept_right[:4, 0], torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.equal(found.concept_right.isnan(), found.concept_errors.isnan())
    assert (found.worst_concepts_of(0, 5), found.worst_concepts_of(4, 5)) == ([0, 1], [1])
    assert [one.name for one in found.worst_concepts()] == ["big"]


def test_bins_by_hand():
    """Two of the three in the last bin have come, to which a probability of 1 belongs, and the one of 0.5."""
    found = reliability(torch.tensor([1.0, 1.0, 0.95, 0.5]), torch.tensor([True, True, False, True]), bins=10)
    last, middle = found.bins[9], found.bins[5]
    assert (last.count, last.stated, last.share.mean) == pytest.approx((3, 2.95 / 3, 2 / 3))
    assert (middle.count, middle.stated, middle.share.mean, middle.low, middle.high) == (1, 0.5, 1.0, 0.5, 0.6)
    assert found.error == pytest.approx((0.95 + 0.5) / 4)
    assert found.bins[0].count == 0
    assert math.isnan(found.bins[0].stated)
    assert math.isnan(calibration_error(torch.empty(0), torch.empty(0, dtype=torch.bool)))


def test_a_number_is_off_by_its_deviation():
    quantity = Quantity("mm", 10.0, 2.0)
    said, truth = torch.tensor([[10.0], [13.0], [7.0]]), torch.tensor([[11.0], [10.0], [NAN]])
    found = where_wrong(torch.eye(3), torch.arange(3), ["a", "b", "c"], None, said, truth, ["length"], {0: quantity})
    (length,) = found.quantities
    assert (length.unit, length.known, length.unknown, length.error.mean, length.bias.mean) == ("mm", 2, 1, 2.0, 1.0)
    assert length.r2 == pytest.approx(1 - (1 + 9) / 0.5)
    assert found.concept_errors[:2, 0].tolist() == [0.5, 1.5]
    assert (found.concepts, found.concept_reliability) == ((), None)


def test_figures_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (300,), generator=generator)
    logits = torch.randn(300, 4, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, 4)
    truth = torch.randint(2, (300, 3), generator=generator).float()
    concepts = (torch.rand(300, 3, generator=generator) + 0.5 * truth).div(1.5).mul(20).round().div(20)  # with ties
    names = ["a", "b", "c", "d"]
    found = where_wrong(logits.double().softmax(1), labels, names, None, concepts, truth, ["x", "y", "z"])
    assert found.matrix.tolist() == metrics.confusion_matrix(labels, found.predicted).tolist()
    precision, recall, _, support = metrics.precision_recall_fscore_support(labels, found.predicted)
    for at, one in enumerate(found.classes):
        area = metrics.roc_auc_score(labels == at, logits.double().softmax(1)[:, at])
        given = (one.precision.mean, one.recall.mean, one.images, one.auroc)
        assert given == pytest.approx((precision[at], recall[at], support[at], area))
    for at, one in enumerate(found.concepts):
        assert one.auroc == pytest.approx(metrics.roc_auc_score(truth[:, at], concepts[:, at]))
        mean_precision = metrics.average_precision_score(truth[:, at], concepts[:, at])
        assert one.average_precision == pytest.approx(mean_precision, abs=1e-6)
        assert one.accuracy.mean == pytest.approx(metrics.accuracy_score(truth[:, at], concepts[:, at] > 0.5))
    assert found.auroc == pytest.approx(metrics.roc_auc_score(labels, logits.double().softmax(1), multi_class="ovr"))


def test_the_error_is_that_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    generator = torch.Generator().manual_seed(1)
    stated, true = torch.rand(500, generator=generator), torch.rand(500, generator=generator) > 0.4
    wanted = float(functional.binary_calibration_error(stated, true.long(), n_bins=15))
    assert calibration_error(stated, true) == pytest.approx(wanted, abs=1e-6)


def test_one_class_alone():
    found = where_wrong(torch.tensor([[0.6, 0.4], [0.3, 0.7]]), torch.tensor([0, 0]), ["a", "b"])
    assert (found.accuracy.mean, found.balanced_accuracy, found.confusions()[0].predicted) == (0.5, 0.5, "b")
    assert math.isnan(found.auroc)
    assert found.worst_concepts() == []


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        (torch.eye(3), torch.arange(3), ConfigError, "of shape"),
        (torch.empty(0, 2), torch.empty(0, dtype=torch.long), DataError, "no images"),
        (torch.tensor([[NAN, NAN], [0.5, 0.5]]), torch.tensor([0, 1]), DataError, r"NaN\) for 1 of 2 images"),
    ],
)
def test_what_cannot_be_scored(probabilities, labels, error, message):
    with pytest.raises(error, match=message):
        where_wrong(probabilities, labels, ["a", "b"])
