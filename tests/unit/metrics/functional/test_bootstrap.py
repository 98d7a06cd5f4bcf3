"""Intervals: known widths, the same for the same values, NaN counted."""

import dataclasses
import math

import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional.bootstrap import mean_interval, normalized_score

NAN = torch.nan


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_width_is_that_of_the_standard_error():
    v = values(400) + 3
    found = mean_interval(v)
    error = float(v.std(correction=0)) / 20
    assert found.mean == pytest.approx(float(v.mean()))
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.15 * error)


def test_intervals_hold_what_they_say():
    holds = [mean_interval(values(40, seed=i)) for i in range(200)]
    assert 0.88 <= sum(i.low <= 0 <= i.high for i in holds) / 200 <= 0.99


def test_the_same_values_give_the_same_interval():
    v = values(57)
    assert mean_interval(v) == mean_interval(v.clone())
    assert mean_interval(v.float()).n == 57


def test_undefined_values_are_left_out_and_counted():
    v = values(20)
    gaps = torch.cat([v[:7], torch.tensor([NAN, NAN]), v[7:]])
    assert mean_interval(gaps) == dataclasses.replace(mean_interval(v), n_nan=2)
    one = mean_interval(torch.tensor([NAN, 4.0]))
    assert (one.mean, one.n, one.n_nan) == (4.0, 1, 1)
    assert math.isnan(one.low)
    assert math.isnan(mean_interval(torch.tensor([])).mean)


def test_scores_between_a_null_and_the_oracle():
    assert normalized_score(0.75, 0.5, 1.0).item() == 0.5
    assert normalized_score(torch.tensor([0.1, 0.4], dtype=torch.float64), 0.4, 0.0).tolist() == pytest.approx(
        [0.75, 0.0]
    )  # lower is better
    assert normalized_score(0.3, 0.2, 0.2).isnan()


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="dimension"):
        mean_interval(values(3, 2))
