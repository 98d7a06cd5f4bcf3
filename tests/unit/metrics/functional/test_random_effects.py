"""Means over trainings and images: against analyses of variance by hand, with NaN, alone and many at once."""

import math

import pytest
import torch

from benchmarks.coverage import SCENARIOS, coverage
from ibd.errors import ConfigError
from ibd.metrics.functional.random_effects import two_level, two_level_interval, two_level_intervals
from ibd.metrics.functional.student import t_quantile

NAN = torch.nan


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantile(df):
    return t_quantile(0.95, torch.tensor([df], dtype=torch.float64)).item()


def test_a_balanced_analysis_of_variance_by_hand():
    scores = torch.tensor([[1.0, 2.0, 6.0], [3.0, 8.0, 10.0]])
    # Means: all 5; trainings 3 and 7; images 2, 5 and 8. Mean squares: trainings 3 (4 + 4) / 1 = 24; images
    # 2 (9 + 0 + 9) / 2 = 18; rest: residuals 1, -1, 0 and their negatives, 4 / 2 = 2.
    # Variance of the mean: (24 + 18 - 2) / 6. Trainings show 24 of the 40, with 1 degree of freedom; images the rest,
    # with 2.
    found = two_level(scores.unsqueeze(0))
    assert found.mean.item() == pytest.approx(5)
    assert found.error.item() == pytest.approx(math.sqrt(40 / 6))
    df = 1 / (24 / 40 / 1 + 16 / 40 / 2)
    assert found.df.item() == pytest.approx(df)
    interval = two_level_interval(scores)
    half = quantile(df) * math.sqrt(40 / 6)
    assert [interval.low, interval.high] == pytest.approx([5 - half, 5 + half])
    assert (interval.n, interval.n_nan) == (6, 0)


def test_trainings_that_differ_less_than_chance_do_not_make_it_surer():
    # Means of trainings are equal: their mean square is 0, below that of the rest, which is 3 (residuals 1, -1, 0, ...
    # and twice that). What is left is the mean square of images, and the rest's share that trainings cannot deny.
    scores = torch.tensor([[1.0, 5.0, 9.0], [3.0, 3.0, 9.0]])
    found = two_level(scores.unsqueeze(0))
    of_images, rest = 2 * (9 + 1 + 16) / 2, (4 * 1) / 2
    assert found.error.item() == pytest.approx(math.sqrt(of_images / 6))
    assert found.df.item() == pytest.approx(1 / (rest / of_images / 1 + (of_images - rest) / of_images / 2))


def test_one_training_is_the_interval_of_the_images_alone():
    scores = values(1, 20)
    error = float(scores.std()) / math.sqrt(20)
    found = two_level_interval(scores)
    half = quantile(19.0) * error
    assert [found.mean, found.low, found.high] == pytest.approx(
        [float(scores.mean()), float(scores.mean()) - half, float(scores.mean()) + half]
    )
    gaps = torch.cat([scores, torch.full((1, 3), NAN)], 1)
    assert [two_level_interval(gaps).low, two_level_interval(gaps).n_nan] == pytest.approx([found.low, 3])
    with_an_empty_one = torch.cat([scores, torch.full((2, 20), NAN)])
    assert two_level_interval(with_an_empty_one).low == pytest.approx(found.low)


def test_one_image_is_the_interval_of_the_trainings_alone():
    scores = values(5, 1)
    half = quantile(4.0) * float(scores.std()) / math.sqrt(5)
    assert two_level_interval(scores).high == pytest.approx(float(scores.mean()) + half)


def test_nan_over_several_trainings_by_hand():
    # Four values; each training and each image has its own number of them: n = 4, trainings 2 and 2, images 2, 1, 1.
    scores = torch.tensor([[1.0, 3.0, NAN], [2.0, NAN, 10.0]])
    # Sums of squares about the mean of 4: trainings 2 (2 - 4)^2 + 2 (6 - 4)^2 = 16; images 2 (1.5 - 4)^2 + 1 + 36 =
    # 49.5; all 9 + 1 + 4 + 36 = 50. What is expected of them, with variances t, i and e:
    #   trainings 16   = (4 - 2) t + (2 - 6/4) i + 1 e
    #   images    49.5 = (3 - 2) t + (4 - 6/4) i + 2 e
    #   all       50   = (4 - 2) t + (4 - 6/4) i + 3 e
    t, i, e = torch.linalg.solve(
        torch.tensor([[2, 0.5, 1], [1, 2.5, 2], [2, 2.5, 3]], dtype=torch.float64),
        torch.tensor([16, 49.5, 50], dtype=torch.float64),
    ).tolist()
    assert (t, i, e) == pytest.approx((29 / 6, 64 / 3, -13 / 3))  # a variance below 0 counts as 0
    # A training is half of the mean, images are 1/2, 1/4 and 1/4 of it.
    variance = 29 / 6 * (1 / 4 + 1 / 4) + 64 / 3 * (1 / 4 + 1 / 16 + 1 / 16)
    df = variance / (29 / 6 * 0.5 / (2 - 1) + 64 / 3 * 0.375 / (1 / 0.375 - 1))
    found = two_level(scores.unsqueeze(0))
    assert found.mean.item() == pytest.approx(4)
    assert found.error.item() == pytest.approx(math.sqrt(variance))
    assert found.df.item() == pytest.approx(df)
    assert [each.item() for each in (found.n, found.n_nan, found.trainings, found.images)] == [4, 2, 2, 3]


def test_what_is_missing_at_random_changes_little():
    full = 0.3 * values(5, 1) + 0.5 * values(1, 400, seed=1) + 0.5 * values(5, 400, seed=2)
    gaps = full.where(torch.rand(5, 400, generator=torch.Generator().manual_seed(3)) > 0.1, NAN)
    a, b = (two_level_interval(each) for each in (full, gaps))
    assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.1)
    assert b.mean == pytest.approx(a.mean, abs=0.02)


def test_many_at_once_are_those_one_by_one():
    many = values(6, 3, 30)
    many[1, 0, :7] = NAN
    many[2] = NAN
    many[3, :, 1:] = NAN
    many[4] = 2.5
    many[5, 1:] = NAN
    for found, each in zip(two_level_intervals(many), many, strict=True):
        alone = two_level_interval(each)
        assert (found.n, found.n_nan) == (alone.n, alone.n_nan)
        ends = [[x.mean, x.low, x.high] for x in (found, alone)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-12, nan_ok=True)


def test_values_that_are_all_the_same_are_certain():
    found = two_level(torch.stack([torch.ones(3, 20), torch.zeros(3, 20), torch.full((3, 20), 0.3)]))
    assert [found.intervals()[0].low, found.intervals()[0].high] == [1, 1]
    assert found.p_values()[:2] == [0, 1]
    assert found.p_values()[2] == pytest.approx(0, abs=1e-12)


def test_too_little_to_say_anything():
    nothing, one = two_level_intervals(torch.stack([torch.full((2, 4), NAN), torch.tensor([[3.0, NAN, NAN, NAN]] * 2)]))
    assert math.isnan(nothing.mean)
    assert one.mean == 3
    single = two_level(torch.tensor([[[3.0, NAN], [NAN, NAN]]]))
    assert math.isnan(single.intervals()[0].low)
    assert math.isnan(single.p_values()[0])
    assert two_level_intervals(torch.zeros(0, 2, 3)) == []


def test_p_values_are_those_of_the_interval():
    shifts = torch.linspace(-1, 1, 41, dtype=torch.float64)
    found = two_level(values(1, 4, 25) - shifts[:, None, None])
    for interval, p in zip(found.intervals(), found.p_values(), strict=True):
        assert interval.excludes_zero == (p < 0.05)
    assert {each.excludes_zero for each in found.intervals()} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS[:6], ids=lambda each: each.title)
@pytest.mark.parametrize("trainings", [3, 5, 10])
def test_intervals_hold_the_truth_as_often_as_they_say(scenario, trainings):
    assert coverage(scenario, trainings)[0] >= 0.93


def test_wrong_arguments():
    for call in (lambda: two_level_interval(values(3)), lambda: two_level(values(3, 4))):
        with pytest.raises(ConfigError, match="shape"):
            call()
    with pytest.raises(ConfigError, match=r"level 1\.5"):
        two_level_interval(values(3, 4), level=1.5)
