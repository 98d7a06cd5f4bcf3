"""Ranks and the one order of a map against definitions; ties by expectation."""

import math

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional.ranks import Order, average_ranks, kendall_tau, spearman, top_k_mask
from tests.reference import explanations as reference

NAN = torch.nan


def tied(*shape, seed=0, levels=4):
    return torch.randint(levels, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_equal_values_share_the_mean_of_their_ranks():
    ranks = average_ranks(torch.tensor([[3.0, 1, 3, 2], [5, 5, 5, 5], [1, NAN, 2, 3]]))
    assert ranks.dtype == torch.float64
    assert ranks[:2].tolist() == [[3.5, 1, 3.5, 2], [2.5] * 4]
    assert ranks[2].isnan().all()


def test_spearman_is_the_correlation_of_average_ranks():
    a, b = tied(6, 30), tied(6, 30, seed=1) + tied(6, 30)
    expected = [np.corrcoef(average_ranks(x), average_ranks(y))[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-12)
    assert spearman(a, -a).tolist() == [-1.0] * 6
    assert spearman(a, a.exp() * 7).tolist() == [1.0] * 6
    assert spearman(torch.zeros(2, 5), tied(2, 5)).isnan().all()


def test_ranks_of_a_large_map_that_is_mostly_zero():
    """torchmetrics sums ranks in int32, and gets this wrong from 300 x 300 pixels on."""
    a = torch.zeros(1, 320 * 320)
    a[0, :50] = torch.arange(50)
    b = a.clone()
    b[0, :50] = a[0, :50].flip(0)
    n, zeros = a.numel(), a.numel() - 49
    x = np.concatenate([[(zeros + 1) / 2], np.arange(zeros + 1, n + 1), np.full(zeros - 1, (zeros + 1) / 2)])
    y = np.concatenate([x[:50][::-1], x[50:]])
    assert spearman(a, b).item() == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_kendall_is_tau_b(levels):
    a, b = tied(5, 9, levels=levels), tied(5, 9, seed=1, levels=levels)
    expected = [reference.kendall_tau(x.tolist(), y.tolist()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(kendall_tau(a, b), expected, atol=1e-12)
    assert kendall_tau(torch.tensor([1.0, NAN]), torch.tensor([1.0, 2])).isnan()
    assert kendall_tau(torch.tensor([1.0, 1]), torch.tensor([1.0, 2])).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_order_sorts(dtype):
    maps = (tied(3, 5, 7, levels=9) - 4).to(dtype)
    maps[0, 0, :2] = torch.tensor([torch.inf, -torch.inf])
    maps[0, 1, :3] = torch.tensor([-0.0, 0.0, -1e-7])
    order = Order.of(maps)
    assert torch.equal(order.values, maps.flatten(1).sort(1, descending=True).values)
    assert torch.equal(order.along(maps), order.values)
    place = order.place()
    assert torch.equal(place.flatten(1).sort(1).values, torch.arange(35).expand(3, -1))
    for k in (0, 4, 35):
        chosen = maps.where(place < k, torch.inf).amin((1, 2)), maps.where(place >= k, -torch.inf).amax((1, 2))
        assert (chosen[0] >= chosen[1]).all()


def test_the_order_is_the_same_for_both_ways_of_sorting_and_any_batch():
    maps = tied(4, 6, 6) - 1
    maps = maps.where((maps != 0) | (tied(4, 6, 6, seed=5) < 2), -0.0)  # which equals 0.0
    assert torch.equal(Order.of(maps).index, Order.of(maps.double()).index)
    for i in range(4):
        assert torch.equal(Order.of(maps[i : i + 1]).index[0], Order.of(maps).index[i])
    assert not torch.equal(Order.of(maps).index, Order.of(maps, seed=1).index)


def test_a_constant_map_is_not_taken_from_the_top():
    rows = Order.of(torch.zeros(1, 32, 32)).place()[0].double().mean(1)
    assert rows.min() > 200
    assert rows.max() < 824  # in reading order they would go from 16 to 1008


def test_top_k_is_an_expectation():
    maps = tied(4, 3, 4)
    for k in (0, 1, 5, 12):
        share = top_k_mask(maps, k)
        assert share.flatten(1).sum(1).tolist() == pytest.approx([k] * 4)
        for values, found in zip(maps.flatten(1).tolist(), share.flatten(1).tolist(), strict=True):
            expected = [reference.expected_hits(values, [i == j for j in range(12)], k) for i in range(12)]
            assert found == pytest.approx(expected)
    assert torch.equal(top_k_mask(maps, torch.tensor([1, 2, 3, 4]))[2], top_k_mask(maps[2:3], 3)[0])
    assert top_k_mask(torch.full((1, 2, 2), NAN), 1).isnan().all()


def test_one_pixel_and_wrong_shapes():
    assert Order.of(torch.ones(1, 1, 1)).place().tolist() == [[[0]]]
    assert math.isnan(spearman(torch.ones(1), torch.ones(1)).item())
    with pytest.raises(ConfigError, match=r"maps of shape \(3, 3\) given"):
        Order.of(torch.ones(3, 3))
    with pytest.raises(ConfigError, match="is needed"):
        Order.of(torch.ones(1, 0, 3))
    with pytest.raises(ConfigError, match="beside"):
        spearman(torch.ones(3), torch.ones(4))
