"""Fitting the head on cached bottlenecks."""

import math

import pytest
import pytorch_lightning as pl
import torch

from ibd.errors import ConfigError
from ibd.explain.elastic_net import elastic_net_path
from ibd.io import load_model
from ibd.models.cbm.finish import ReadSplit, fit_head, fit_sparse_head
from ibd.types import DataSpec
from tests.model_makers import TensorData, make_module, make_network

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


@pytest.mark.parametrize("regime", ["independent", "sequential", "joint"])
def test_a_sparse_head_takes_the_concepts_that_are_needed(regime):
    """Class c is concept c: of six concepts one a class is enough, and three of them say nothing at all."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (150,), generator=generator)
    concepts = torch.cat([torch.eye(3)[labels], (torch.rand(150, 3, generator=generator) < 0.5).float()], 1)
    read = ReadSplit(6 * (2 * concepts - 1), concepts, labels)
    network = make_network(head="sparse")
    assert network.additive
    assert not network.few.fitted
    figures = fit_sparse_head(network, read, read, regime, share=0.99, effective=1.0)
    assert figures["head/val_accuracy"] == 1
    assert figures["head/effective_concepts"] == 1.0
    assert (network.head.weight != 0).tolist() == (torch.eye(3, 6) > 0).tolist()
    assert network.few.budgets == [5]
    assert network.few.fitted
    assert bool((network.few.weight != 0).sum() <= 15)


def test_a_sparse_head_is_the_point_of_the_path_with_the_least_validation_loss():
    train, val = separable(120, noise=4.0), separable(90, seed=1, noise=4.0)
    network = make_network(head="sparse")
    figures = fit_sparse_head(network, train, val, "sequential", share=0.9, effective=None)
    inputs, judged = train.scores.sigmoid(), val.scores.sigmoid()
    path = elastic_net_path(inputs, train.labels, 3, share=0.9, smallest=1e-5, tolerance=1e-3)
    losses = [float(torch.nn.functional.cross_entropy(point.logits(judged), val.labels)) for point in path]
    assert figures["head/val_loss"] == pytest.approx(min(losses), abs=1e-5)
    best = path[losses.index(min(losses))]
    torch.testing.assert_close(network.head.weight, best.weight.float())
    assert figures["head/effective_concepts"] == best.effective < 6


def test_a_training_ends_with_a_sparse_head_and_a_test_has_its_accuracies(tmp_path):
    module = make_module(head="sparse", regime="sequential")
    data = TensorData()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(enable_progress_bar=False, **quiet)
    (before,) = trainer.test(module, datamodule=data, verbose=False)
    assert math.isnan(before["test/accuracy_nec5"])  # and no number of heads that were never fitted
    figures = module.finish(data)
    assert figures["head/effective_concepts"] <= 6
    (found,) = trainer.test(module, datamodule=data, verbose=False)
    images, labels, _ = data.splits["test"]
    with torch.no_grad():
        network = module.eval().network
        logits = network.few(network.head_input(network.encode(images)))[0]
    assert found["test/accuracy_nec5"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert found["test/anec"] == found["test/accuracy_nec5"]
    module.save(tmp_path / "x.ckpt")
    again = load_model(tmp_path / "x.ckpt")
    torch.testing.assert_close(again.network.few.weight, network.few.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "sparse", "residual": 2}, "model.residual: it does not go with model.head 'sparse'"),
        ({"head": "sparse", "share": 0}, "model.share: 0 given, more than 0"),
        ({"head": "sparse", "share": 1.5}, "model.share: 1.5 given, at most 1"),
        ({"effective_concepts": 3.0}, "model.effective_concepts: 3 given: it is of model.head 'sparse', not 'linear'"),
        ({"head": "sparse", "effective_concepts": 7.0}, "model.effective_concepts: 7 given, there are 6 concepts"),
    ],
)
def test_mistakes_of_a_sparse_head(options, message):
    with pytest.raises(ConfigError, match=message):
        make_module(**options)
