"""The solver of the last layer against proximal gradient descent in float64."""

import numpy as np
import pytest
import torch

from ibd.models.protopnet.last_layer import fit_last_layer
from tests.reference import prototypes as reference

CLASSES, EACH = 4, 3
COUNT = CLASSES * EACH
OWN = torch.arange(CLASSES).unsqueeze(1) == torch.arange(COUNT) // EACH
INITIAL = torch.where(OWN, 1.0, -0.5)


def objective(scores, labels, weight, start, own, l1, ridge):
    arrays = (each.detach().double().numpy() for each in (scores, weight, start))
    x, w, w0 = arrays
    return reference.objective(x, labels.numpy(), w, w0, own.numpy(), l1, ridge)


def similarities(kind, count=80, seed=0, dtype=torch.float32):
    """Similarities of images to prototypes: those of the own class are larger, but not always."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    own = OWN[labels].double()
    noise = torch.rand(count, COUNT, generator=generator, dtype=torch.float64)
    scores = {
        "log": 1 + 2 * own + 5 * noise,
        "cosine": 0.3 * own + 0.7 * noise,
        "linear": -3 + own - 2 * noise,
        "of both signs": own + 2 * noise - 1.5,
    }[kind]
    return scores.to(dtype), labels


@pytest.mark.parametrize(
    ("kind", "l1", "ridge"),
    [
        ("cosine", 1e-4, 1e-3),
        ("cosine", 1e-2, 1e-3),
        ("linear", 1e-3, 1e-2),
        ("log", 0.0, 1e-2),
        ("of both signs", 1e-2, 1e-3),
    ],
)
def test_reaches_the_optimum(kind, l1, ridge):
    scores, labels = similarities(kind)
    kept = torch.ones(COUNT, dtype=torch.bool)
    weight, report = fit_last_layer(scores, labels, INITIAL, OWN, kept, l1, ridge)
    expected, best = reference.last_layer(scores, labels, INITIAL, OWN, kept, l1, ridge)
    reached = objective(scores, labels, weight, INITIAL, OWN, l1, ridge)
    assert -1e-6 <= reached - best <= 1e-4
    assert report.objective == pytest.approx(reached, rel=1e-5)
    assert report.converged
    assert report.sparsity == pytest.approx(float((weight[~OWN] == 0).float().mean()))
    assert np.linalg.norm(weight.numpy() - expected) <= (2 * 1e-4 / ridge) ** 0.5  # which follows


def test_zeros_are_exact_and_only_where_sparsity_is_asked_for():
    scores, labels = similarities("cosine")
    kept = torch.ones(COUNT, dtype=torch.bool)
    dense, _ = fit_last_layer(scores, labels, INITIAL, OWN, kept, 0.0, 1e-3)
    sparse, report = fit_last_layer(scores, labels, INITIAL, OWN, kept, 0.05, 1e-3)
    assert (dense != 0).all()
    assert report.sparsity > 0.5
    expected, _ = reference.last_layer(scores, labels, INITIAL, OWN, kept, 0.05, 1e-3)
    assert ((sparse == 0).numpy() == (expected == 0)).mean() > 0.95
    assert (sparse[OWN] != 0).all()


def test_connections_of_the_own_class_are_not_shrunk():
    """With a weight on the absolute values that nothing survives, they are what they would be alone."""
    scores, labels = similarities("cosine")
    kept = torch.ones(COUNT, dtype=torch.bool)
    weight, report = fit_last_layer(scores.double(), labels, INITIAL.double(), OWN, kept, 10.0, 1e-2, tolerance=1e-9)
    assert report.sparsity == 1
    free = weight.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(scores.double() @ free.t(), labels)
    loss = loss + 1e-2 / 2 * (free - INITIAL).square().sum()
    (slope,) = torch.autograd.grad(loss, free)
    assert float(slope[OWN].abs().max()) < 1e-4


def test_pruned_prototypes_get_nothing():
    scores, labels = similarities("cosine")
    kept = torch.ones(COUNT, dtype=torch.bool)
    kept[[1, 7]] = False
    weight, _ = fit_last_layer(scores, labels, INITIAL, OWN, kept)
    assert not weight[:, ~kept].any()
    smaller, _ = fit_last_layer(scores[:, kept], labels, INITIAL[:, kept], OWN[:, kept], kept[kept])
    torch.testing.assert_close(weight[:, kept], smaller, atol=1e-2, rtol=0)


def test_deterministic():
    scores, labels = similarities("cosine")
    kept = torch.ones(COUNT, dtype=torch.bool)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(fit_last_layer(scores, labels, INITIAL, OWN, kept)[0])
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*results)


def test_the_tolerance_stops_it():
    scores, labels = similarities("cosine")
    kept = torch.ones(COUNT, dtype=torch.bool)
    reports = [fit_last_layer(scores, labels, INITIAL, OWN, kept, tolerance=t)[1] for t in (1e-2, 1e-4, 1e-5)]
    assert reports[0].steps < reports[1].steps < reports[2].steps
    assert all(report.converged for report in reports)
    assert reports[0].objective >= reports[1].objective >= reports[2].objective - 1e-7
    cut = fit_last_layer(scores, labels, INITIAL, OWN, kept, max_steps=3)[1]
    assert (cut.steps, cut.converged) == (3, False)


def test_many_prototypes_with_large_similarities():
    """Where one step is tiny, a small step is no sign that the optimum is near."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(120) % 10
    own = torch.arange(10).unsqueeze(1) == torch.arange(400) // 40
    scores = 2 + 0.7 * own[labels].float() + 3 * torch.rand(120, 400, generator=generator)
    initial, kept = torch.where(own, 1.0, -0.5), torch.ones(400, dtype=torch.bool)
    weight, report = fit_last_layer(scores, labels, initial, own, kept)
    longer, _ = fit_last_layer(scores.double(), labels, initial.double(), own, kept, tolerance=1e-7)
    reached, best = (objective(scores, labels, w, initial, own, 1e-4, 1e-3) for w in (weight, longer))
    assert report.converged
    assert -1e-6 <= reached - best <= 1e-4


def test_similarities_that_say_nothing():
    kept = torch.ones(COUNT, dtype=torch.bool)
    weight, report = fit_last_layer(torch.zeros(9, COUNT), torch.arange(9) % CLASSES, INITIAL, OWN, kept, 0.0)
    torch.testing.assert_close(weight, INITIAL)
    assert report.converged
