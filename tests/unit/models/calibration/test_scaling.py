"""Scales and offsets: planted ones come back, and what has no finite answer gets one."""

import math

import pytest
import torch
from torch.nn import functional as F

from ibd.errors import DataError
from ibd.models.calibration.scaling import Scaling, fit_classes, fit_concepts


def drawn(count, classes, spread=2.0, seed=0):
    """Return (N, C) float64 scores and labels that are drawn by their softmax."""
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return scores, torch.multinomial(scores.softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.5])
def test_a_known_temperature_comes_back(temperature):
    scores, labels = drawn(20_000, 5)
    found = fit_classes(scores * temperature, labels, "temperature")
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    torch.testing.assert_close(found(scores * temperature), scores, rtol=0.03, atol=0)
    assert found.offset == ()
    assert found.images == 20_000


def test_planted_scales_and_offsets_of_classes_come_back():
    scores, labels = drawn(40_000, 4)
    scale, offset = torch.tensor([0.5, 1.0, 2.0, 4.0]).double(), torch.tensor([1.0, -1.0, 0.5, -0.5]).double()
    found = fit_classes((scores - offset) / scale, labels, "vector")
    torch.testing.assert_close(torch.tensor(found.scale).double(), scale, rtol=0.06, atol=0)
    torch.testing.assert_close(torch.tensor(found.offset).double(), offset, rtol=0, atol=0.06)


def test_planted_scales_and_offsets_of_concepts_come_back_where_some_are_unknown():
    generator = torch.Generator().manual_seed(0)
    odds = 2 * torch.randn(30_000, 3, generator=generator, dtype=torch.float64)
    truth = (torch.rand(odds.shape, generator=generator) < odds.sigmoid()).double()
    truth[torch.rand(odds.shape, generator=generator) < 0.3] = torch.nan
    scale, offset = torch.tensor([0.4, 1.0, 2.5]).double(), torch.tensor([-1.0, 0.0, 2.0]).double()
    found = fit_concepts((odds - offset) / scale, truth, "vector")
    torch.testing.assert_close(torch.tensor(found.scale).double(), scale, rtol=0.06, atol=0)
    torch.testing.assert_close(torch.tensor(found.offset).double(), offset, rtol=0, atol=0.06)
    assert fit_concepts(odds * 2.0, truth, "temperature").temperature == pytest.approx(2.0, rel=0.04)


def test_the_temperature_is_that_of_a_scan():
    """The minimum of the stated objective, by trying all scales."""
    scores, labels = drawn(60, 3, seed=4)
    scales = torch.linspace(0.05, 4, 8000, dtype=torch.float64)
    values = torch.stack([F.cross_entropy(s * scores, labels, reduction="sum") + s - 1 - s.log() for s in scales])
    best = float(scales[values.argmin()])
    assert fit_classes(scores, labels, "temperature").scale[0] == pytest.approx(best, abs=1e-3)


def test_soft_truth_counts_as_a_share():
    odds, truth = torch.zeros(4000, 1).double(), torch.full((4000, 1), 0.8)
    found = fit_concepts(odds, truth, "vector")
    assert torch.sigmoid(torch.tensor(found.offset[0])) == pytest.approx(0.8, abs=1e-3)


def test_a_perfect_classifier_gets_a_finite_temperature_and_about_the_rule_of_succession():
    labels = torch.arange(200) % 4
    found = fit_classes(F.one_hot(labels, 4).double(), labels, "temperature")
    wrong = 1 - found(F.one_hot(labels, 4).double()).softmax(1).amax(1)[0]
    assert 1e-3 < wrong < 2e-2  # of 200 images all right, about one in 200 may be wrong
    far = fit_classes(100 * F.one_hot(labels, 4).double(), labels, "temperature")
    assert far.scale[0] == pytest.approx(1.0, abs=1e-6)  # certain already: nothing speaks for another scale


def test_a_constant_classifier_learns_the_prior_by_vector_and_nothing_by_temperature():
    labels = torch.tensor([0] * 70 + [1] * 30).repeat(50)
    scores = torch.tensor([[1.0, 1.0]]).double().expand(len(labels), 2)
    assert fit_classes(scores, labels, "temperature").scale[0] == pytest.approx(1.0, abs=1e-6)
    shares = fit_classes(scores, labels, "vector")(scores)[0].softmax(0)
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.3]).double(), rtol=0, atol=1e-3)


def test_what_says_nothing_leaves_a_concept_as_it_is_and_a_constant_one_stays_finite():
    odds = torch.tensor([[0.5, 1.0], [-0.5, 2.0], [1.5, 0.5]]).double().repeat(20, 1)
    truth = torch.stack([torch.full((60,), torch.nan), torch.zeros(60)], 1)
    found = fit_concepts(odds, truth, "vector")
    assert found.scale[0] == pytest.approx(1.0, abs=1e-6)
    assert found.offset[0] == pytest.approx(0.0, abs=1e-6)
    assert all(map(math.isfinite, (*found.scale, *found.offset)))
    assert found.scale[1] > 0
    assert float(found(odds)[:, 1].sigmoid().max()) < 0.2


def test_none_changes_nothing():
    scores, labels = drawn(10, 3)
    assert torch.equal(fit_classes(scores, labels, "none")(scores), scores)
    assert Scaling().temperature == 1


def test_scores_that_are_no_numbers():
    scores, labels = drawn(10, 3)
    scores[3, 1] = torch.nan
    with pytest.raises(DataError, match="no finite number"):
        fit_classes(scores, labels, "temperature")
