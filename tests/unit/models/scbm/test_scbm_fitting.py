"""Losses by hand and by enumeration, and a covariance that is planted and found again."""

import logging
import math

import pytest
import torch
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.models.baseline.lightning import Baseline
from ibd.models.scbm import fitting
from ibd.models.scbm.covariance import Covariance
from ibd.models.scbm.fitting import Read, fit_covariance
from ibd.models.scbm.gaussian import widening
from ibd.models.scbm.lightning import StochasticConceptBottleneck
from ibd.models.scbm.losses import class_likelihood, concept_likelihood, draw, hard_concepts, precision_penalty
from tests.model_makers import SMALL, SPEC, TensorData, make_module


def test_draws_have_the_moments_that_are_said():
    factor = torch.tensor([[[2.0, 0.0], [1.5, 1.0]]])
    scores = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
    logits = draw(scores, factor, 100_000, torch.Generator().manual_seed(0))
    assert logits.shape == (2, 100_000, 2)
    torch.testing.assert_close(logits.mean(1), scores * widening(torch.tensor([4.0, 3.25])), atol=0.04, rtol=0.01)
    covariance = torch.cov(logits[0].T)
    torch.testing.assert_close(covariance, torch.tensor([[4.0, 3.0], [3.0, 3.25]]), rtol=0.03, atol=0.03)


def test_the_likelihood_of_one_draw_is_the_cross_entropy():
    logits, concepts = torch.randn(4, 1, 3), torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, torch.nan]])
    known = ~concepts.isnan()
    entry = F.binary_cross_entropy_with_logits(logits[:, 0], concepts.nan_to_num(), reduction="none")
    expected = entry[known].sum() * 3 / known.sum()
    torch.testing.assert_close(concept_likelihood(logits, concepts), expected)


def test_the_likelihood_of_two_draws_by_hand():
    """Both draws say (1, 1) with 0.9 * 0.9 and 0.1 * 0.1: together 0.41, which no two apart say, 0.5 * 0.5."""
    logit = math.log(9)
    logits = torch.tensor([[[logit, logit], [-logit, -logit]]])
    assert float(concept_likelihood(logits, torch.ones(1, 2))) == pytest.approx(-math.log(0.41))
    assert float(concept_likelihood(logits, torch.tensor([[1.0, torch.nan]]))) == pytest.approx(-2 * math.log(0.5))


def test_the_class_likelihood_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])  # 1/2 and 3/4
    assert float(class_likelihood(logits, torch.tensor([0]))) == pytest.approx(-math.log(0.625))


def test_hard_concepts_are_drawn_by_their_probability_and_have_a_gradient():
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 2.0, -3.0]).expand(50_000, 3).clone().requires_grad_()
    hard = hard_concepts(logits)
    assert set(hard.detach().unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(hard.mean(0), logits[0].sigmoid(), atol=0.01, rtol=0)
    hard.sum().backward()
    assert bool((logits.grad >= 0).all())
    assert float(logits.grad[:, 0].mean()) > 0.1


def test_the_penalty_by_hand():
    """The precision of [[4, 3], [3, 9]] has -3/27 beside the diagonal."""
    factor = torch.linalg.cholesky(torch.tensor([[[4.0, 3.0], [3.0, 9.0]]]))
    assert float(precision_penalty(factor)) == pytest.approx(3 / 27)
    assert float(precision_penalty(torch.eye(3).unsqueeze(0))) == 0


def test_the_precision_of_concepts_that_all_but_agree_is_known():
    """``[[a, s, 0], [a, 0, s]]`` has -a^2 / (s^2 (2 a^2 + s^2)) beside the diagonal; float32 finds it singular."""
    shared, own = 10.0, 2e-3
    factor = torch.tensor([[[shared, own, 0.0], [shared, 0.0, own]]], requires_grad=True)
    penalty = precision_penalty(factor)
    assert penalty.dtype == torch.float32
    assert float(penalty.detach()) == pytest.approx(shared**2 / (own**2 * (2 * shared**2 + own**2)), rel=1e-4)
    penalty.backward()
    assert bool(factor.grad.isfinite().all())


def planted(count=3000, seed=0):
    """Images of which the first two concepts err together, and the third by itself."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.tensor([[[3.0, 0.0, 0.0], [2.7, 1.0, 0.0], [0.0, 0.0, 2.0]]])
    scores = torch.randn(count, 3, generator=generator)
    logits = draw(scores, factor, 1, generator)[:, 0]
    concepts = (torch.rand(count, 3, generator=generator) < logits.sigmoid()).float()
    return Read(scores, concepts, torch.zeros(count, 1, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 1])
def test_a_planted_dependence_is_found(rank):
    torch.manual_seed(0)
    covariance = Covariance(3, rank)
    said = fitting._most_likely(covariance, planted(), precision_weight=0.01, seed=0)
    factor = covariance.factor(covariance.values[None])[0].detach()
    found = factor @ factor.T
    size = found.diagonal().sqrt()
    correlation = found / size / size[:, None]
    assert float(correlation[0, 1]) > 0.75  # 0.94 was planted, and 0.8 is the least of ten such sets
    assert float(correlation[2, :2].abs().max()) < 0.3
    with_it, without = (float(text.split()[0]) for text in said.split("fifth ")[1].split(", "))
    assert with_it > without + 0.05


def test_the_empirical_covariance_is_that_of_the_logits():
    generator = torch.Generator().manual_seed(0)
    factor = torch.tensor([[2.0, 0.0], [-1.0, 1.0]])
    covariance = Covariance(2)
    said = fitting._empirical(covariance, torch.randn(20_000, 2, generator=generator) @ factor.T)
    found = covariance.factor(covariance.values[None])[0].detach()
    torch.testing.assert_close(found @ found.T, factor @ factor.T, rtol=0.05, atol=0.05)
    assert "shrunk by 0.00" in said


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(fitting, "_STEPS", 3)


@pytest.mark.parametrize(
    "options", [{}, {"method": "empirical", "rank": 2}, {"covariance": "amortized", "split": "train"}]
)
def test_a_fitted_bottleneck_predicts_as_before(options, quick, tmp_path):
    plain, data = make_module(), TensorData(sizes=(40, 24, 10))
    images = data.splits["test"][0]
    made = fit_covariance(plain, data, **options)
    assert isinstance(made, StochasticConceptBottleneck)
    torch.testing.assert_close(made.predict(images).logits, plain.predict(images).logits)
    moved = made.predict(images).intervene({"flies": 1}).moved
    assert "method" not in options or float(moved.abs().max()) > 0
    assert ("40 train images" if options.get("split") else "24 val images") in made.fitted_on
    made.save(tmp_path / "made.ckpt")
    again = type(made).load_from_checkpoint(tmp_path / "made.ckpt").eval()
    assert again.fitted_on == made.fitted_on
    assert torch.equal(again.predict(images).intervene({"flies": 1}).moved, moved)


def test_independent_concepts_are_said_to_be(quick, caplog, monkeypatch):
    monkeypatch.setattr(fitting, "_held_out", lambda *_: 1e9)
    with caplog.at_level(logging.WARNING):
        fit_covariance(make_module(), TensorData())
    assert "no more probable: they may be independent" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "vall"}, ConfigError, "unknown split 'vall'. Did you mean 'val'?"),
        ({"method": "empiric"}, ConfigError, "unknown method 'empiric'. Did you mean 'empirical'?"),
        ({"method": "empirical", "covariance": "amortized"}, ConfigError, "method: 'empirical' has one covariance"),
        ({"data": None}, ConfigError, "fit_covariance needs the data beside the model"),
        ({"data": TensorData(sizes=(9, 9, 9))}, DataError, "9 val images are too few for a covariance"),
        ({"data": TensorData(unknown=1.0)}, DataError, "no val image has two known concepts"),
        ({"model": Baseline(SPEC, SMALL)}, UnsupportedError, "a Baseline has no concepts with a covariance"),
        ({"model": StochasticConceptBottleneck(SPEC, SMALL)}, UnsupportedError, "has a covariance already"),
        ({"model": make_module(softmax_groups=["wing"])}, UnsupportedError, "model.softmax_groups: a covariance is"),
    ],
)
def test_what_cannot_be_fitted(options, error, message):
    with pytest.raises(error) as caught:
        fit_covariance(**{"model": make_module(), "data": TensorData(), **options})
    assert message in str(caught.value)


def test_a_fitted_config_is_not_trained():
    module = StochasticConceptBottleneck(SPEC, SMALL, fitted_on="24 val images")
    with pytest.raises(ConfigError, match="this covariance was fitted on a trained bottleneck"):
        module.check_data(TensorData())


def test_samples_are_no_logits():
    with pytest.raises(ConfigError, match=r"'logits' does not go with model\.class_loss 'samples'"):
        StochasticConceptBottleneck(SPEC, SMALL, bottleneck="logits")
    StochasticConceptBottleneck(SPEC, SMALL, bottleneck="logits", class_loss="expected")


@pytest.mark.parametrize("regime", ["joint", "independent"])
@pytest.mark.parametrize("covariance", ["global", "amortized"])
def test_every_parameter_learns_and_evaluation_repeats(regime, covariance):
    torch.manual_seed(0)
    module = StochasticConceptBottleneck(SPEC, SMALL, regime=regime, covariance=covariance, samples=20)
    batch = next(iter(TensorData().loader("train")))
    terms = module.losses(module(batch.image), batch)
    terms["loss"].backward()
    assert all(float(p.grad.abs().max()) > 0 for name, p in module.network.named_parameters() if "low" not in name)
    module.eval()
    with torch.no_grad():
        first, second = (module.losses(module(batch.image), batch)["loss"] for _ in range(2))
    assert torch.equal(first, second)
