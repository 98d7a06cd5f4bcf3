"""Mean, standard deviation and interval over trainings, by hand and against the rest of the house."""

import math

import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional.random_effects import two_level_interval
from ibd.metrics.functional.trainings import over_trainings


def test_three_trainings_by_hand():
    """0.8, 0.9, 1.0: sd 0.1; t of 2 degrees of freedom at 97.5 % is 4.302653."""
    found = over_trainings([0.8, 0.9, 1.0])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (found.mean, found.sd, found.n) == (pytest.approx(0.9), pytest.approx(0.1), 3)
    assert (found.low, found.high) == (pytest.approx(0.9 - half, abs=1e-6), pytest.approx(0.9 + half, abs=1e-6))
    corrected = over_trainings([0.8, 0.9, 1.0], overlap=0.5)
    assert corrected.high == pytest.approx(0.9 + 4.302653 * 0.1 * math.sqrt(1 / 3 + 0.5), abs=1e-6)
    assert over_trainings([0.8, math.nan, 0.9, 1.0]) == found


def test_the_same_as_the_report_says():
    values = [0.91, 0.87, 0.93, 0.9, 0.78]
    found, house = over_trainings(values, 0.9), two_level_interval(torch.tensor(values).unsqueeze(1), 0.9)
    assert (found.low, found.high) == (pytest.approx(house.low, abs=1e-7), pytest.approx(house.high, abs=1e-7))


def test_too_few():
    one = over_trainings([0.5, math.nan])
    assert (one.mean, one.n) == (0.5, 1)
    assert all(math.isnan(value) for value in (one.sd, one.low, one.high))
    assert math.isnan(over_trainings([]).mean)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        over_trainings([0.5, 0.6], 1.0)
    with pytest.raises(ConfigError, match="overlap"):
        over_trainings([0.5, 0.6], overlap=-1)
