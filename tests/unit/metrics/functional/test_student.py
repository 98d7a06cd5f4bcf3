"""Student's t, the binomial test, and Holm's correction, against closed forms and tables."""

import math

import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional.multiple import holm
from ibd.metrics.functional.student import at_least, incomplete_beta, t_probability, t_quantile

NAN = float("nan")
T = torch.tensor([0.0, 0.3, -1.0, 2.5, 40.0, 1e6], dtype=torch.float64)


def test_the_incomplete_beta_function_where_it_is_a_polynomial():
    x = torch.tensor([0.0, 0.1, 0.5, 0.95, 1.0], dtype=torch.float64)
    one, two, three = (torch.tensor(float(k)) for k in (1, 2, 3))
    assert incomplete_beta(three, one, x).tolist() == pytest.approx((x**3).tolist())
    assert incomplete_beta(one, three, x).tolist() == pytest.approx((1 - (1 - x) ** 3).tolist())
    assert incomplete_beta(two, two, x).tolist() == pytest.approx((3 * x**2 - 2 * x**3).tolist())


def test_probabilities_of_one_and_two_degrees_of_freedom():
    one = 1 - 2 / math.pi * T.abs().atan()
    two = 1 - T.abs() / (2 + T.square()).sqrt()
    assert t_probability(T[:5], torch.tensor(1.0)).tolist() == pytest.approx(one[:5].tolist())
    assert t_probability(T[:5], torch.tensor(2.0)).tolist() == pytest.approx(two[:5].tolist())
    assert t_probability(T[5], torch.tensor(1.0)).item() == pytest.approx(2 / (math.pi * 1e6))  # no 1 - (1 - p)


def test_what_is_infinite_or_unknown():
    found = t_probability(torch.tensor([math.inf, -math.inf, NAN, 1.0]), torch.tensor([3.0, 3.0, 3.0, NAN]))
    assert found[:2].tolist() == [0, 0]
    assert found[2:].isnan().all()
    assert t_quantile(0.95, torch.tensor([NAN])).isnan().all()


@pytest.mark.slow
def test_quantiles_are_those_of_the_tables():
    df = torch.tensor([1.0, 2, 3, 4, 9, 30, 47, 1e7])
    wanted = [12.7062, 4.30265, 3.18245, 2.77645, 2.26216, 2.04227, 2.01174, 1.95996]
    assert t_quantile(0.95, df).tolist() == pytest.approx(wanted, rel=3e-6)
    assert t_quantile(0.5, torch.tensor([1.0])).item() == pytest.approx(1)
    half = torch.tensor([1.5, 2.7])
    assert t_probability(t_quantile(0.9, half), half).tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(("hits", "trials", "chance"), [(0, 5, 0.5), (3, 8, 1 / 6), (8, 8, 0.2), (30, 200, 0.1)])
def test_the_binomial_test_is_the_sum_over_all_that_is_as_much(hits, trials, chance):
    wanted = sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(hits, trials + 1))
    assert at_least(hits, trials, chance) == pytest.approx(wanted)


def test_holm_by_hand():
    # In order: 0.01 x 4, 0.02 x 3, then 0.022 x 2 = 0.044, but never below the one before; 0.9 x 1.
    assert holm([0.022, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([]) == []


def test_what_could_not_be_compared_counts_for_nothing_and_what_was_looked_at_counts():
    found = holm([0.01, NAN, 0.02])
    assert [found[0], found[2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(found[1])
    assert holm([0.01, 0.02], total=10) == pytest.approx([0.1, 0.18])
    with pytest.raises(ConfigError, match="2 p-values of 1"):
        holm([0.1, 0.2], total=1)
