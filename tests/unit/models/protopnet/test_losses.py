"""Cluster, separation and orthogonality terms against loops in float64."""

import pytest
import torch

from ibd.models.protopnet.losses import class_distances, cluster_loss, orthogonality_loss, separation_loss
from ibd.types import Batch
from tests.reference import prototypes as reference
from tests.unit.models.protopnet.makers import make_module

CLASSES = torch.arange(12) // 3  # 4 classes x 3 prototypes
LABELS = torch.tensor([0, 3, 1, 1, 2])
DISTANCES = {
    "small": lambda shape, g: torch.rand(shape, generator=g),
    "far beyond any bound": lambda shape, g: 1e4 + 1e3 * torch.rand(shape, generator=g),
    "negative": lambda shape, g: -5 - torch.rand(shape, generator=g),
    "of both signs": lambda shape, g: torch.randn(shape, generator=g),
}
MASKS = {"all": [], "some pruned": [0, 4, 5, 9], "a class pruned": [3, 4, 5, 8], "two classes": [0, 1, 2, 3, 4, 5]}


def cases(which, pruned, dtype=torch.float64):
    distance = DISTANCES[which]((5, 12), torch.Generator().manual_seed(0)).to(dtype)
    active = torch.ones(12, dtype=torch.bool)
    active[MASKS[pruned]] = False
    return distance, active


@pytest.mark.parametrize("which", DISTANCES)
@pytest.mark.parametrize("pruned", MASKS)
def test_the_formulas(which, pruned):
    """Error 7: a masked minimum that needs a bound on the distance; error 6 of others: a mask that multiplies by 0."""
    distance, active = cases(which, pruned)
    by_class = class_distances(distance, active.view(4, 3))
    args = distance.tolist(), LABELS, CLASSES, active
    assert float(cluster_loss(by_class, LABELS)) == pytest.approx(reference.cluster(*args))
    assert float(separation_loss(by_class, LABELS)) == pytest.approx(reference.separation(*args))


@pytest.mark.parametrize("which", DISTANCES)
def test_error_7_gradients_reach_the_nearest_at_any_distance(which):
    distance, active = cases(which, "some pruned")
    distance.requires_grad_()
    by_class = class_distances(distance, active.view(4, 3))
    (cluster_loss(by_class, LABELS) - separation_loss(by_class, LABELS)).backward()
    for row, gradient, label in zip(distance.detach(), distance.grad, LABELS, strict=True):
        expected = torch.zeros(12, dtype=torch.float64)
        own = (label == CLASSES) & active
        expected[row.masked_fill(~own, torch.inf).argmin()] += 1 / 5
        expected[row.masked_fill(~((label != CLASSES) & active), torch.inf).argmin()] -= 1 / 5
        torch.testing.assert_close(gradient, expected)


def test_nothing_is_left_of_a_class_or_of_all():
    """No infinite loss, and no gradient that is not a number."""
    for keep in ([], [0, 1, 2]):
        distance = torch.rand(5, 12, requires_grad=True)
        active = torch.zeros(12, dtype=torch.bool)
        active[keep] = True
        by_class = class_distances(distance, active.view(4, 3))
        loss = cluster_loss(by_class, LABELS) - separation_loss(by_class, LABELS)
        loss.backward()
        assert loss.isfinite()
        assert distance.grad.isfinite().all()
    one_class = class_distances(torch.rand(2, 3), torch.ones(1, 3, dtype=torch.bool))
    assert separation_loss(one_class, torch.zeros(2, dtype=torch.int64)) == 0  # there is no other class


@pytest.mark.parametrize("pruned", MASKS)
def test_orthogonality(pruned):
    prototypes = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
    _, active = cases("small", pruned)
    found = orthogonality_loss(prototypes, active.view(4, 3))
    assert float(found) == pytest.approx(reference.orthogonality(prototypes, CLASSES, active), rel=1e-5)


def test_error_6_orthogonality_is_within_a_class():
    """A class whose prototypes are orthogonal costs nothing, though other classes have the same ones."""
    everyone_the_same = torch.eye(3).repeat(4, 1)
    active = torch.ones(4, 3, dtype=torch.bool)
    assert float(orthogonality_loss(everyone_the_same, active)) == pytest.approx(0, abs=1e-6)
    alike_within = torch.eye(4).repeat_interleave(3, 0)
    assert float(orthogonality_loss(alike_within, active)) == pytest.approx(6)  # 3 x 3 ones less the identity


def test_the_sum_that_is_minimized():
    module = make_module(cluster=0.7, separation=0.2, orthogonality=0.3).train()
    images, labels = torch.rand(4, 3, 32, 24), torch.tensor([0, 1, 2, 1])
    output = module(images)
    terms = module.losses(output, Batch(images, labels, torch.zeros(4, 0), torch.arange(4)))
    classes, active = module.network.classes, module.network.mask
    args = output.units.state[0].detach(), labels, classes, active
    expected = (
        torch.nn.functional.cross_entropy(output.logits, labels).item()
        + 0.7 * reference.cluster(*args)
        - 0.2 * reference.separation(*args)
        + 0.3 * reference.orthogonality(module.network.prototypes.detach(), classes, active)
    )
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert set(terms) == {"loss", "class_loss", "cluster", "separation", "orthogonality"}


def test_terms_of_weight_zero():
    module = make_module(orthogonality=0)
    images = torch.rand(2, 3, 32, 24)
    terms = module.losses(module(images), Batch(images, torch.tensor([0, 1]), torch.zeros(2, 0), torch.arange(2)))
    assert "orthogonality" not in terms
