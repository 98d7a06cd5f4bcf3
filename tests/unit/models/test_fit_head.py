"""Fitting the head on cached bottlenecks."""

import pytest
import torch

from ibd.models.cbm.finish import ReadSplit, fit_head
from ibd.types import DataSpec
from tests.model_makers import make_network

SETTINGS = {"epochs": 60, "lr": 0.05, "weight_decay": 5e-5}


def separable(count, seed=0, noise=0.3):
    """Three classes, each with two of six concepts; the first concept group tells them apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    concepts = torch.cat([torch.eye(3), torch.eye(3).roll(1, 0)], 1)[labels]
    scores = 3 * (2 * concepts - 1) + noise * torch.randn(count, 6, generator=generator)
    return ReadSplit(scores, concepts, labels)


@pytest.mark.parametrize("regime", ["independent", "sequential"])
@pytest.mark.parametrize("options", [{}, {"bottleneck": "hard"}, {"head": "mlp", "hidden_units": 8}])
def test_solves_what_is_separable(regime, options):
    network = make_network(**options)
    figures = fit_head(network, separable(120), separable(60, seed=1), regime, **SETTINGS)
    assert figures["head/val_accuracy"] == 1
    assert figures["head/val_loss"] < 0.05


def test_reaches_the_optimum_of_a_convex_problem():
    """Against Newton's method in float64 on the same objective."""
    train = separable(200, noise=6.0)  # the classes overlap, so that the optimum is finite
    network = make_network()
    decay = 5e-5
    fit_head(network, train, train, "sequential", epochs=300, lr=0.05, weight_decay=decay, batch_size=200)
    inputs = train.scores.double().sigmoid()
    weights = torch.zeros(3, 7, dtype=torch.float64)

    def objective(w):
        logits = inputs @ w[:, :6].T + w[:, 6]
        return torch.nn.functional.cross_entropy(logits, train.labels) + decay / 2 * (w**2).sum()

    for _ in range(20):
        gradient = torch.autograd.functional.jacobian(objective, weights).flatten()
        hessian = torch.autograd.functional.hessian(objective, weights).reshape(21, 21)
        weights = weights - torch.linalg.solve(hessian, gradient).reshape(3, 7)
    found = torch.cat([network.head.weight, network.head.bias[:, None]], 1).detach().double()
    assert 0 <= objective(found) - objective(weights) < 1e-4


def test_depends_on_its_arguments_alone():
    heads = []
    for seed in (1, 2):
        network = make_network()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        fit_head(network, separable(50), separable(50, seed=1), "sequential", **{**SETTINGS, "epochs": 3})
        assert torch.equal(torch.get_rng_state(), state)
        heads.append(network.head.weight.detach().clone())
    assert torch.equal(*heads)
    fit_head(network, separable(50), separable(50, seed=1), "sequential", **{**SETTINGS, "epochs": 3}, seed=1)
    assert not torch.equal(network.head.weight, heads[0])


def test_keeps_the_epoch_with_the_best_validation_loss():
    """The validation labels are wrong: the longer it learns, the worse."""
    train = separable(100)
    wrong = train._replace(labels=(train.labels + 1) % 3)
    losses = [
        fit_head(make_network(), train, wrong, "sequential", epochs=epochs, lr=0.05, weight_decay=0.0)["head/val_loss"]
        for epochs in (1, 40)
    ]
    assert losses[1] < losses[0] + 0.3  # the last epoch's would be several times that
    network = make_network()
    figures = fit_head(network, train, wrong, "sequential", **SETTINGS)
    loss = torch.nn.functional.cross_entropy(network.classify(train.scores.sigmoid()), wrong.labels)
    assert figures["head/val_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_independent_reads_the_truth_and_fills_in_what_is_unknown():
    """The predictions say nothing, so only the truth can teach; where it is unknown nothing can."""
    train = separable(150)
    blind = train._replace(scores=torch.zeros_like(train.scores))
    chance = {}
    for name, concepts in {"known": train.concepts, "unknown": torch.full_like(train.concepts, torch.nan)}.items():
        network = make_network()
        fit_head(network, blind._replace(concepts=concepts), train, "independent", **SETTINGS)
        logits = network.classify(train.concepts)
        chance[name] = float((logits.argmax(1) == train.labels).float().mean())
    assert chance["known"] == 1
    assert chance["unknown"] < 0.9


def test_works_where_gradients_are_off():
    spec = DataSpec(("a", "b", "c"), tuple("uvwxyz"))
    with torch.no_grad():
        figures = fit_head(make_network(spec), separable(60), separable(60, seed=1), "sequential", **SETTINGS)
    assert figures["head/val_accuracy"] == 1
