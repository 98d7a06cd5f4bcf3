"""Turning axes: steps along Cayley curves, and the best rotation outright."""

import itertools

import pytest
import torch

from ibd.models.concept_whitening import rotation as op
from ibd.models.concept_whitening.rotation import cayley_step, procrustes
from tests.reference import whitening as reference
from tests.unit.models.concept_whitening.test_whitening import rotation_of

SHAPES = [(12, 4), (6, 6), (9, 1), (2, 2), (40, 7)]


def gradient_of(count, size, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, size, generator=generator, dtype=torch.float64)


def error(rotation):
    rotation = rotation.double()
    return float((rotation @ rotation.mT - torch.eye(len(rotation))).abs().max())


def value(rotation, gradient):
    return float((rotation[: len(gradient)] * gradient).sum())


@pytest.fixture
def found_steps(monkeypatch):
    """What the line searches return."""
    steps, search = [], op._search

    def spy(*args):
        tau, inverse = search(*args)
        steps.append(tau / args[2])
        return tau, inverse

    monkeypatch.setattr(op, "_search", spy)
    return steps


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize(("size", "count"), SHAPES)
def test_a_step_is_on_the_curve_and_fulfils_the_wolfe_conditions(size, count, scale, found_steps):
    rotation, gradient = rotation_of(size), gradient_of(count, size, scale=scale)
    found = cayley_step(rotation, gradient, steps=1)
    (t,) = found_steps
    torch.testing.assert_close(found, reference.cayley(rotation, gradient, t), rtol=1e-10, atol=1e-10)
    start = reference.cayley_slope(rotation, gradient, 0.0) if scale == 1 else None
    full = torch.zeros_like(rotation)
    full[:count] = gradient
    slope = -0.5 * float((full @ rotation.mT - rotation @ full.mT).square().sum())
    if start is not None:
        assert start == pytest.approx(slope, rel=1e-5)
        assert reference.cayley_slope(rotation, gradient, t) >= 0.9 * slope
    assert value(found, gradient) <= value(rotation, gradient) + 1e-4 * t * slope
    assert error(found) < 1e-12


def test_steps_follow_each_other():
    rotation, gradient = rotation_of(10), gradient_of(3, 10)
    twice = cayley_step(cayley_step(rotation, gradient, steps=1), gradient, steps=1)
    torch.testing.assert_close(cayley_step(rotation, gradient), twice)


def test_arguments_stay_as_they_are():
    rotation, gradient = rotation_of(10), gradient_of(3, 10)
    before = rotation.clone(), gradient.clone()
    cayley_step(rotation, gradient)
    procrustes(rotation, gradient)
    assert torch.equal(rotation, before[0])
    assert torch.equal(gradient, before[1])


@pytest.mark.parametrize(("size", "count"), SHAPES)
def test_steps_go_down_to_the_optimum(size, count):
    rotation, gradient = rotation_of(size), gradient_of(count, size)
    best = -float(torch.linalg.svdvals(gradient).sum())
    values = [value(rotation, gradient)]
    for _ in range(300):
        rotation = cayley_step(rotation, gradient)
        values.append(value(rotation, gradient))
    assert error(rotation) < 1e-11
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(values))
    if count < size:  # of a square matrix the determinant stays, which the optimum may not have
        assert values[-1] == pytest.approx(best, rel=1e-3)


def long_run(size, count, updates):
    generator = torch.Generator().manual_seed(0)
    rotation = rotation_of(size, torch.float32)
    for _ in range(updates):
        rotation = cayley_step(rotation, torch.randn(count, size, generator=generator))
    assert rotation.dtype == torch.float32
    return error(rotation)


@pytest.mark.slow
def test_the_rotation_stays_orthogonal():
    """The published update, in float32, is off by 1e-4 after 300 updates, and by more with each."""
    assert long_run(32, 4, 5000) <= 1e-5


@pytest.mark.slow
def test_a_large_rotation_stays_orthogonal():
    assert long_run(256, 7, 5000) <= 1e-5


def test_a_concept_without_a_gradient_does_not_pull():
    rotation, gradient = torch.eye(6, dtype=torch.float64), gradient_of(3, 6)
    gradient[1] = 0
    gradient[:, [1, 4]] = 0  # and nobody pulls towards its axis, or axis 4
    found = cayley_step(rotation, gradient)
    torch.testing.assert_close(found[[1, 4]], rotation[[1, 4]])
    assert value(found, gradient) < value(rotation, gradient)
    assert error(found) < 1e-12


def test_nothing_to_do_changes_nothing():
    rotation = rotation_of(6, torch.float32)
    assert torch.equal(cayley_step(rotation, torch.zeros(2, 6)), rotation)
    torch.testing.assert_close(cayley_step(rotation, -3 * rotation[:2]), rotation)  # where it should be already
    torch.testing.assert_close(procrustes(rotation, torch.zeros(2, 6)), rotation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types(dtype):
    rotation, gradient = rotation_of(6, dtype), gradient_of(2, 6).to(dtype)
    assert cayley_step(rotation, gradient).dtype == procrustes(rotation, gradient).dtype == dtype


@pytest.mark.parametrize(("size", "count"), SHAPES)
def test_procrustes_is_the_optimum(size, count):
    rotation, gradient = rotation_of(size), gradient_of(count, size)
    found = procrustes(rotation, gradient)
    assert error(found) < 1e-12
    assert value(found, gradient) == pytest.approx(-float(torch.linalg.svdvals(gradient).sum()))
    for seed in range(200):
        other = rotation_of(size, seed=seed)
        assert value(other, gradient) >= value(found, gradient)
    assert value(cayley_step(rotation, gradient, 20), gradient) >= value(found, gradient) - 1e-9


def test_procrustes_turns_no_more_than_it_must():
    """What is orthogonal to the old and the new axes stays; the rest turns as little as any completion."""
    rotation = rotation_of(10)
    gradient = gradient_of(2, 4) @ rotation[:4]  # within the span of the first four axes
    found = procrustes(rotation, gradient)
    torch.testing.assert_close(found[4:], rotation[4:])
    others = torch.linalg.qr(found[:2].mT, mode="complete")[0][:, 2:]  # where the other axes may lie
    nearest = float(torch.linalg.svdvals(rotation[2:] @ others).sum())  # to where they were, by Schoenemann
    assert float((found[2:] * rotation[2:]).sum()) == pytest.approx(nearest)


def test_procrustes_keeps_an_axis_without_a_gradient():
    rotation = rotation_of(8)
    gradient = gradient_of(3, 8)
    gradient[1] = 0
    gradient = gradient - gradient @ rotation[1:2].mT @ rotation[1:2]  # nobody wants its place
    found = procrustes(rotation, gradient)
    torch.testing.assert_close(found[1], rotation[1])
    others = gradient[[0, 2]]
    assert value(found, gradient) == pytest.approx(-float(torch.linalg.svdvals(others).sum()))
