"""What corrected concepts say of others: closed forms by hand, and references in numpy and scipy."""

import math

import numpy as np
import pytest
import torch

from ibd.models.scbm.gaussian import condition, posterior, widening
from ibd.models.scbm.placement import confidence_bound
from tests.reference import gaussian as reference

PAIR = torch.tensor([[[4.0, 3.0], [3.0, 9.0]]], dtype=torch.float64)  # correlation 0.5


def problems(count=12, concepts=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(count, concepts, concepts, generator=generator, dtype=torch.float64)
    covariance = factor @ factor.mT + 0.2 * torch.eye(concepts)
    mean = 2 * torch.randn(count, concepts, generator=generator, dtype=torch.float64)
    truth = (torch.rand(count, concepts, generator=generator) < 0.5).double()
    known = torch.rand(count, concepts, generator=generator) < 0.5
    return mean, covariance, truth, known


def test_two_concepts_by_hand():
    """Mean 1, -1; the first becomes 5: the second moves by 3/4 of the 4, and keeps 9 - 9/4 of its variance."""
    mean, known = torch.tensor([[1.0, -1.0]]), torch.tensor([[True, False]])
    found = condition(mean, PAIR, torch.tensor([[5.0, torch.nan]]), known)
    torch.testing.assert_close(found.mean, torch.tensor([[5.0, 2.0]], dtype=torch.float64))
    torch.testing.assert_close(found.variance, torch.tensor([[0.0, 6.75]], dtype=torch.float64))


def test_conditional_moments_against_numpy():
    mean, covariance, truth, known = problems()
    value = mean + 3 * (2 * truth - 1)
    found = condition(mean, covariance, value, known)
    for row in range(len(mean)):
        expected = reference.condition(*(part[row].numpy() for part in (mean, covariance, value, known)))
        for got, right in zip((found.mean[row], found.variance[row]), expected, strict=True):
            np.testing.assert_allclose(got.numpy(), right, rtol=1e-9, atol=1e-9)


def test_conditional_moments_are_frequencies():
    """Of draws whose first logit is near 3, the others have the mean and the variance that are said."""
    mean, covariance, _, _ = (part[:1] for part in problems())
    generator = torch.Generator().manual_seed(0)
    draws = (
        mean
        + torch.randn(400_000, 5, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance)[0].mT
    )
    near = draws[(draws[:, 0] - 3).abs() < 0.05]
    known = torch.tensor([[True, False, False, False, False]])
    found = condition(mean, covariance, torch.full((1, 5), 3.0), known)
    assert len(near) > 1000
    error = (found.variance[0, 1:] / len(near)).sqrt()
    assert bool(((near.mean(0) - found.mean[0])[1:].abs() < 5 * error + 0.05).all())
    torch.testing.assert_close(near.var(0)[1:], found.variance[0, 1:], rtol=0.15, atol=0.01)


def test_what_is_not_correlated_does_not_move_at_all():
    covariance = torch.diag_embed(torch.tensor([[1.0, 4.0, 9.0]]))
    mean, known = torch.tensor([[0.3, -0.7, 2.0]]), torch.tensor([[True, False, False]])
    truth = torch.ones(1, 3)
    for found in (condition(mean, covariance, 5 * truth, known), posterior(mean, covariance, truth, known)):
        assert torch.equal(found.mean[:, 1:], mean[:, 1:].double())
        assert found.variance[0, 1:].tolist() == [4, 9]


def test_nothing_known_is_nothing_moved():
    mean, covariance, truth, known = problems()
    for found in (condition(mean, covariance, truth, known & False), posterior(mean, covariance, truth, known & False)):
        assert torch.equal(found.mean, mean)
        assert torch.equal(found.variance, covariance.diagonal(dim1=1, dim2=2))


def test_one_corrected_concept_by_hand():
    """The mode solves ``eta = mean + variance (1 - sigmoid(eta))``; the other follows by the regression on it."""
    found = posterior(torch.zeros(1, 2), PAIR, torch.ones(1, 2), torch.tensor([[True, False]]))
    eta = float(found.mean[0, 0])
    assert eta == pytest.approx(4 / (1 + math.exp(eta)), abs=1e-9)
    assert float(found.mean[0, 1]) == pytest.approx(3 / 4 * eta)
    slope = 1 / (1 + math.exp(-eta)) / (1 + math.exp(eta))
    assert float(found.variance[0, 0]) == pytest.approx(1 / (1 / 4 + slope))
    assert float(found.variance[0, 1]) == pytest.approx(9 - 9 * slope / (1 + 4 * slope))


def test_posterior_against_a_general_optimizer():
    mean, covariance, truth, known = problems(6)
    found = posterior(mean, covariance, truth, known)
    for row in range(len(mean)):
        expected = reference.posterior_mode(*(part[row].numpy() for part in (mean, covariance, truth, known)))
        np.testing.assert_allclose(found.mean[row].numpy(), expected, atol=2e-5)


def test_posterior_from_where_the_sigmoid_is_flat():
    """A full Newton step from here goes 80 too far, and the next one back again."""
    found = posterior(torch.tensor([[-20.0]]), torch.tensor([[[100.0]]]), torch.ones(1, 1), torch.ones(1, 1).bool())
    eta = float(found.mean)
    assert eta == pytest.approx(-20 + 100 / (1 + math.exp(eta)), abs=1e-6)


def test_what_was_certain_tells_nothing_new_of_others():
    """The published bound moves others by it all the same."""
    mean, known, truth = torch.tensor([[12.0, 0.0]]), torch.tensor([[True, False]]), torch.ones(1, 2)
    assert abs(float(posterior(mean, PAIR, truth, known).mean[0, 1])) < 1e-4
    bound = confidence_bound(mean, PAIR, truth, known, 0.99)
    assert float(condition(mean, PAIR, bound, known).mean[0, 1]) == pytest.approx(3 / 4 * 2 * 2.5758293, rel=1e-6)


def test_bound_of_one_concept_by_hand():
    """99 % of a Gaussian lie within 2.576 standard deviations, here of 2."""
    mean, truth = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    known = torch.tensor([[True, False], [True, False]])
    found = confidence_bound(mean, PAIR.expand(2, 2, 2), truth, known, 0.99)
    assert found[:, 0].tolist() == pytest.approx([1 + 2 * 2.5758293, 1 - 2 * 2.5758293])


def test_bound_against_the_published_optimization():
    mean, covariance, truth, known = problems(10, 4)
    known = torch.ones_like(known)
    found = confidence_bound(mean, covariance, truth, known, 0.9)
    for row in range(len(mean)):
        m, c, t, x = (part[row].numpy() for part in (mean, covariance, truth, found))
        right, side = reference.confidence_bound(m, c, t, 0.9), 2 * t - 1
        loss = np.logaddexp(0, -side * x).sum()
        assert loss <= np.logaddexp(0, -side * right).sum() * (1 + 1e-5)
        assert (x - m) @ np.linalg.inv(c) @ (x - m) == pytest.approx(7.7794403, rel=1e-6)  # 90 % of chi2 with 4
        assert (side * (x - m)).min() >= 0


def test_bound_holds_where_all_is_known_and_certain():
    mean = 40 * torch.ones(2, 30)
    covariance = (torch.full((30, 30), 0.95) + 0.05 * torch.eye(30)).expand(2, 30, 30)
    truth = torch.stack([torch.ones(30), torch.zeros(30)])
    found = confidence_bound(mean, covariance, truth, torch.ones(2, 30).bool(), 0.99)
    assert bool(found.isfinite().all())
    assert bool((found[0] > 40).all())
    assert bool((found[1] < 40).all())


def test_marginal_logits_are_frequencies():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200_000, generator=generator, dtype=torch.float64)
    for score in (-3.0, -0.5, 0.0, 2.0):
        for variance in (0.25, 4.0, 25.0):
            mean = score * float(widening(torch.tensor(variance)))
            share = float((mean + math.sqrt(variance) * noise).sigmoid().mean())
            assert share == pytest.approx(1 / (1 + math.exp(-score)), abs=0.02)
