"""Accuracy and calibration by group, against counts by hand and exact tests of scipy."""

import math

import pytest
import torch
from scipy.stats import hypergeom

from ibd.errors import DataError
from ibd.metrics.functional.by_group import by_group
from ibd.metrics.functional.concepts_by_group import concepts_by_group


def case(counts):
    """Return probabilities, labels and groups of two classes: group -> (right, wrong, stated confidence)."""
    probabilities, labels, groups = [], [], []
    for name, (right, wrong, stated) in counts.items():
        probabilities += [[stated, 1 - stated]] * (right + wrong)
        labels += [0] * right + [1] * wrong
        groups += [name] * (right + wrong)
    return torch.tensor(probabilities), torch.tensor(labels), groups


def test_counts_by_hand():
    probabilities, labels, groups = case({"light": (9, 1, 0.9), "dark": (6, 4, 0.8), None: (2, 0, 0.7)})
    found = by_group(probabilities, labels, groups, "skin")
    assert [(g.name, g.right, g.images) for g in found.groups] == [("dark", 6, 10), ("light", 9, 10)]
    assert (found.unknown, found.worst.name) == (2, "dark")
    assert found.spread == pytest.approx(0.3)
    dark, light = found.groups
    assert (dark.confidence, dark.surplus.mean, dark.ece) == pytest.approx((0.8, 0.2, 0.2))
    assert (light.surplus.mean, light.ece) == pytest.approx((0.0, 0.0), abs=1e-6)
    # The score interval of Wilson, of 6 in 10.
    assert (dark.accuracy.low, dark.accuracy.high) == pytest.approx((0.3127, 0.8318), abs=1e-4)
    assert dark.surplus.low < 0.2 < dark.surplus.high
    assert found.figures()["skin=dark/accuracy"] == pytest.approx(0.6)
    assert "worst: dark, 6 of 10 right, 30.0 points below light" in found.table()
    assert "2 images of no known skin" in found.table()


def test_an_image_without_a_prediction_is_an_error():
    """As in the accuracy of all: a network that abstains is not right because the first of equal classes is true.

    It has not said how sure it is either: the three that are answered are right, at 0.9.
    """
    probabilities, labels, groups = case({"a": (4, 0, 0.9), "b": (4, 0, 0.9)})
    silent = torch.tensor([True, False, False, False] + [False] * 4)
    worst = by_group(probabilities, labels, groups, silent=silent).worst
    assert (worst.name, worst.right) == ("a", 3)
    assert (worst.confidence, worst.surplus.mean, worst.ece) == pytest.approx((0.9, -0.1, 0.1))
    none = by_group(probabilities, labels, groups, silent=torch.tensor([True] * 4 + [False] * 4)).worst
    assert (none.right, none.accuracy.mean) == (0, 0.0)
    assert all(math.isnan(value) for value in (none.confidence, none.surplus.mean, none.ece))


def test_p_values_are_those_of_the_exact_test():
    found = by_group(*case({"a": (40, 20, 0.9), "b": (55, 5, 0.9)}))
    own = hypergeom(120, 95, 60).cdf(40)
    assert found.groups[0].p_below == pytest.approx(2 * own, abs=2e-3)  # Holm's, of two
    assert found.p_value == pytest.approx(2 * own, abs=2e-3)  # of two equal groups, both tails
    assert "beyond chance: a" in found.verdict()


def test_groups_that_do_not_differ():
    same = by_group(*case({"a": (9, 1, 0.9), "b": (18, 2, 0.9)}))
    assert same.p_value > 0.5
    assert "no more than by chance" in same.verdict()
    assert by_group(*case({"a": (3, 0, 0.9), "b": (2, 0, 0.9)})).p_value == 1.0
    with pytest.raises(DataError, match="'group' has 1 groups"):
        by_group(*case({"a": (3, 0, 0.9)}))


def test_concepts_by_group_by_hand():
    """One concept is read rightly of all but of the dark; the other is not known of these."""
    right = torch.tensor([[1.0, 1.0]] * 10 + [[0.0, float("nan")]] * 6 + [[1.0, float("nan")]] * 4).double()
    groups = ["light"] * 10 + ["dark"] * 10
    found = concepts_by_group(right, groups, ["dark", "light"], ["big", "red"], "skin")
    dark, light = found.groups
    assert (dark.concepts[0].mean, light.concepts[0].mean, found.all[0].mean) == (0.4, 1.0, 0.7)
    assert (dark.accuracy.mean, light.accuracy.mean, dark.concepts[1].n, light.concepts[1].n) == (0.4, 1.0, 0, 10)
    # Of 20 images 14 are right: that at most 4 of 10 are among them, by scipy; four tests by Holm.
    assert dark.p_below[0] == pytest.approx(4 * hypergeom.cdf(4, 20, 14, 10))
    assert "big (0.400 of 10; 0.700 of all)" in found.table()
    assert found.verdict().endswith("beyond chance: big in dark")
