"""Sets of classes: quantiles and scores counted by hand, coverage over many draws."""

import math

import pytest
import torch

from ibd.errors import DataError
from ibd.models.calibration.conformal import SetRule, choose_sets, class_scores, quantile

ONE = torch.tensor([[0.5, 0.3, 0.2]]).double()


@pytest.mark.parametrize(
    ("count", "coverage", "expected"),
    [
        (9, 0.9, 9),
        (10, 0.9, 10),
        (19, 0.9, 18),
        (20, 0.9, 19),
        (99, 0.55, 55),
        (4, 0.5, 3),
        (3, 0.5, 2),
        (8, 0.9, None),
    ],
)
def test_quantiles_counted_by_hand(count, coverage, expected):
    """Of the scores 1 to n the ceil((n + 1) coverage)-th; 100 x 0.55 is above 55 in binary, and must not count so."""
    scores = torch.arange(count, 0, -1).double()
    assert quantile(scores, coverage) == (math.inf if expected is None else expected)


@pytest.mark.parametrize(
    ("score", "draws", "expected"),
    [
        ("lac", None, [0.5, 0.7, 0.8]),
        ("aps", None, [0.5, 0.8, 1.0]),
        ("aps", 0.5, [0.25, 0.65, 0.9]),
        ("raps", None, [0.5, 0.8, 1.05]),
        ("raps", 0.0, [0.0, 0.5, 0.85]),
    ],
)
def test_scores_by_hand(score, draws, expected):
    """Whatever the order of the classes is."""
    given = None if draws is None else torch.tensor([draws]).double()
    torch.testing.assert_close(class_scores(ONE, score, given), torch.tensor([expected]).double())
    turned = class_scores(ONE[:, [2, 0, 1]], score, given)
    torch.testing.assert_close(turned, torch.tensor([expected]).double()[:, [2, 0, 1]])


def test_sets_by_hand():
    for threshold, expected in ((0.4, [True, False, False]), (0.7, [True, True, False]), (0.8, [True, True, True])):
        assert SetRule("lac", 0.9, (threshold,), 9).sets(ONE).tolist() == [expected]  # never without the most probable
    assert SetRule("lac", 0.9, (0.4, 0.75, 0.75), 27).sets(ONE).tolist() == [[True, True, False]]
    randomized = SetRule("aps", 0.9, (0.2,), 9, randomized=True)
    assert randomized.sets(ONE, torch.tensor([0.5]).double()).tolist() == [[False, False, False]]
    assert randomized.sets(ONE, torch.tensor([0.3]).double()).tolist() == [[True, False, False]]


def test_a_threshold_is_the_quantile_of_the_true_classes():
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]).double()
    labels = torch.tensor([0, 1, 1, 0])
    assert choose_sets(probabilities, labels, 0.5).thresholds == pytest.approx([0.6])  # of 0.1, 0.3, 0.6, 0.8 the third
    found = choose_sets(probabilities, labels, 0.5, per_class=True)
    assert found.thresholds == pytest.approx([0.8, 0.6])
    assert found.per_class
    assert found.images == 4


def images(count, generator):
    """Return probabilities of six classes that are wrong in places, and labels drawn by others."""
    scores = 1.5 * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    truth = scores + torch.tensor([0.0, 1.0, 0, 0, -1, 0]) + 0.5 * torch.randn(scores.shape, generator=generator)
    return (1.7 * scores).softmax(1), torch.multinomial(truth.softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("score", "randomized"), [("lac", False), ("aps", False), ("aps", True), ("raps", False)])
def test_coverage_is_at_least_what_is_stated(score, randomized, per_class):
    """Over draws of both the images that choose and the new ones: within the error of so many draws."""
    generator = torch.Generator().manual_seed(1)
    hits, total = torch.zeros(6), torch.zeros(6)
    for _ in range(150):
        probabilities, labels = images(160, generator)
        draws = torch.rand(160, generator=generator, dtype=torch.float64)
        rule = choose_sets(probabilities, labels, 0.8, score, randomized, per_class, draws)
        new, truth = images(100, generator)
        inside = rule.sets(new, torch.rand(100, generator=generator, dtype=torch.float64))
        hit = inside.gather(1, truth.unsqueeze(1)).squeeze(1)
        hits += torch.bincount(truth[hit], minlength=6)
        total += torch.bincount(truth, minlength=6)
    # One choice by 160 images, or by 15 of a rare class, varies as a beta distribution; 150 of them average.
    error = 3 * math.sqrt(0.16 * (1 / 15_000 + 1 / (150 * 160)))
    assert float(hits.sum() / total.sum()) >= 0.8 - error
    if randomized and not per_class:
        assert float(hits.sum() / total.sum()) <= 0.8 + 1 / 161 + error
    if per_class:
        assert bool((hits / total >= 0.8 - 3 * (0.16 / total + 0.16 / (150 * 12)).sqrt()).all())
    elif score == "lac":
        assert float((hits / total).min()) < 0.75  # which the coverage of all together does not tell


@pytest.mark.parametrize(
    ("per_class", "message"),
    [
        (False, r"^coverage: 0\.9 given, for which at least 9 images must choose the threshold, and there are 8: less"),
        (True, r"at least 9 images of each class must choose the threshold, and there are 2 of 'bee': less coverage"),
    ],
)
def test_too_few_images_are_a_line(per_class, message):
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    with pytest.raises(DataError, match=message):
        choose_sets(torch.full((8, 2), 0.5).double(), labels, 0.9, per_class=per_class, names=("ant", "bee"))
    assert len(choose_sets(torch.full((8, 2), 0.5).double(), labels, 0.88).thresholds) == 1
