"""The map that whitens and rotates, forward and backward, against loops in float64."""

import pytest
import torch

from ibd.errors import ConfigError
from ibd.models.concept_whitening.inverse_root import choose, inverse_root, inverse_root_gradient
from ibd.models.concept_whitening.whitening import Whitening, shrink, whiten_rotate
from tests.reference import whitening as reference

LAYOUTS = [torch.contiguous_format, torch.channels_last]
EXACT = {"iterations": 30}


def rotation_of(size, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0].to(dtype)


def features(shape=(3, 4, 3, 2), dtype=torch.float64, layout=torch.contiguous_format, seed=0):
    """Correlated channels of very different scale, with a mean."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(shape[1], shape[1], generator=generator, dtype=torch.float64)
    x = torch.einsum("cd,bdhw->bchw", mix, torch.randn(shape, generator=generator, dtype=torch.float64)) + 2
    return x.to(dtype).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", ["eigen", "newton"])
def test_forward_and_backward_are_those_of_the_loops(method, groups, layout):
    x = features(layout=layout).requires_grad_()
    rotation, settings = rotation_of(4), Whitening(method, shrinkage=0.05, eps=1e-3, groups=groups, **EXACT)
    z, mean, covariance = whiten_rotate(x, rotation, settings)
    expected = reference.whiten(x, rotation, 0.05, 1e-3, groups)
    torch.testing.assert_close(z, expected, rtol=1e-9, atol=1e-9)
    for one, other in zip((mean, *covariance), (lambda m, c: (m, *c))(*reference.statistics(x, groups)), strict=True):
        torch.testing.assert_close(one, other.detach())
        assert not one.requires_grad
    weight = torch.randn(x.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad(z, x, weight)
    (slow,) = torch.autograd.grad(expected, x, weight)
    torch.testing.assert_close(found, slow, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("method", "groups"),
    [("eigen", 1), ("eigen", 2), pytest.param("newton", 1, marks=pytest.mark.slow), ("newton", 2)],
)
def test_gradcheck(method, groups, layout):
    x = features(layout=layout).requires_grad_()
    settings = Whitening(method, groups=groups, **EXACT)
    rotation = rotation_of(4)
    assert torch.autograd.gradcheck(lambda each: whiten_rotate(each, rotation, settings)[0], (x,))


@pytest.mark.parametrize("method", ["eigen", "newton"])
def test_without_centering_it_is_that_of_the_features_and_their_negatives(method):
    """Which have a mean of 0, and as covariance the second moment."""
    x = features().requires_grad_()
    rotation = rotation_of(4)
    z, mean, square = whiten_rotate(x, rotation, Whitening(method, center=False, **EXACT))
    both = torch.cat([x, -x])
    expected, _, covariance = whiten_rotate(both, rotation, Whitening(method, center=True, **EXACT))
    torch.testing.assert_close(z, expected[: len(x)], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(square, covariance)
    assert not mean.any()
    weight = torch.randn(x.shape, dtype=torch.float64)
    mine = torch.autograd.grad(z, x, weight)
    theirs = torch.autograd.grad(expected, x, torch.cat([weight, -weight]) / 2)
    torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)


def test_equal_eigenvalues_have_a_gradient():
    """The textbook backward of an eigendecomposition divides by their difference."""
    matrix = torch.eye(3, dtype=torch.float64).unsqueeze(0) * 2
    outer = torch.randn(1, 3, 3, dtype=torch.float64)
    found = inverse_root_gradient(outer, inverse_root(matrix, "eigen", 1), 1)
    torch.testing.assert_close(found, -(outer + outer.mT) / 4 / 2**1.5)


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 1, 2, 3), (1, 2, 1, 1), (5, 3, 1, 4)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_shapes(shape, layout):
    x = features(shape, layout=layout).requires_grad_()
    rotation = rotation_of(shape[1])
    z, _, _ = whiten_rotate(x, rotation, Whitening(shrinkage=0.1, eps=0.1))
    expected = reference.whiten(x, rotation, 0.1, 0.1)
    torch.testing.assert_close(z, expected)
    weight = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(each, x, weight)[0] for each in (z, expected)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_stays_and_the_input_too(layout):
    x = features((2, 4, 5, 3), torch.float32, layout).requires_grad_()
    before = x.detach().clone()
    z, _, _ = whiten_rotate(x, rotation_of(4, torch.float32), Whitening())
    (gradient,) = torch.autograd.grad(z, x, torch.ones_like(z).contiguous(memory_format=layout))
    assert z.is_contiguous(memory_format=layout)
    assert gradient.is_contiguous(memory_format=layout)
    assert torch.equal(x.detach(), before)


def test_a_gradient_in_another_layout():
    x = features(layout=torch.channels_last).requires_grad_()
    z, _, _ = whiten_rotate(x, rotation_of(4), Whitening())
    weight = torch.randn(x.shape, dtype=torch.float64)
    given = (weight, weight.contiguous(memory_format=torch.channels_last), weight.mT.contiguous().mT)
    results = [torch.autograd.grad(z, x, each, retain_graph=True)[0] for each in given]
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])
    (of_one,) = torch.autograd.grad(z[:, 0].sum(), x)  # expanded, with strides of zero
    assert of_one.isfinite().all()


@pytest.mark.parametrize("method", ["eigen", "newton"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_output_is_white(method, groups):
    x = features((8, 8, 10, 10), torch.float32)
    settings = Whitening(method, shrinkage=0, eps=1e-6, groups=groups)
    z, _, _ = whiten_rotate(x, torch.eye(8), settings)
    covariance = reference.covariance_of(z)
    size = 8 // groups
    for k in range(groups):
        block = covariance[k * size : (k + 1) * size, k * size : (k + 1) * size]
        assert float((block - torch.eye(size)).abs().max()) < 1e-3
    assert float(z.mean((0, 2, 3)).abs().max()) < 1e-4


def ill_conditioned(size=64, condition=1e5):
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)).item(), size, dtype=torch.float64)
    basis = rotation_of(size)
    matrix = (basis * values) @ basis.mT
    return ((matrix + matrix.mT) / 2).float()


def whiteness(root, matrix):
    """The largest deviation from the identity of the covariance after whitening, worked out in float64."""
    root, matrix = root.double(), matrix.double()
    return float((root @ matrix @ root.mT - torch.eye(len(matrix))).abs().max())


def test_both_methods_whiten_where_the_published_iteration_blows_up():
    """Its rounding errors grow with the condition of the covariance: float32, condition 1e5, as in real layers."""
    matrix = ill_conditioned()
    eigen, newton = (inverse_root(matrix[None], method, 20).inverse[0] for method in ("eigen", "newton"))
    assert whiteness(eigen, matrix) < 5e-3
    assert whiteness(newton, matrix) < 5e-3
    assert float((eigen - newton).norm() / eigen.norm()) < 5e-3
    same = inverse_root(matrix[None], "newton", 12).inverse[0]
    exact, published = (reference.uncoupled_newton(each, 12) for each in (matrix.double(), matrix))
    assert whiteness(same, matrix) < whiteness(exact, matrix) < 1  # half way: the formula is right
    assert not whiteness(published, matrix) < 1e6  # but in float32 its rounding errors have taken over


def test_ill_conditioned_gradients_agree():
    matrix = ill_conditioned(condition=1e4)
    outer = torch.randn(64, 64)
    exact = inverse_root_gradient(outer[None].double(), inverse_root(matrix[None].double(), "eigen", 1), 1)[0]
    for method, limit in (("eigen", 2e-2), ("newton", 5e-2)):
        found = inverse_root_gradient(outer[None], inverse_root(matrix[None], method, 20), 20)[0]
        assert float((found - exact).norm() / exact.norm()) < limit


@pytest.mark.parametrize("method", ["eigen", "newton"])
def test_features_without_variance_stay_finite(method):
    x = torch.ones(2, 4, 3, 3, requires_grad=True)
    z, _, _ = whiten_rotate(x, torch.eye(4), Whitening(method))
    (gradient,) = torch.autograd.grad(z.square().sum() + z.sum(), x)
    assert z.abs().max() < 1e-3
    assert gradient.isfinite().all()


@pytest.mark.parametrize("method", ["eigen", "newton"])
def test_fewer_positions_than_channels_are_not_blown_up(method):
    x = torch.randn(2, 64, 3, 3, requires_grad=True)
    z, _, _ = whiten_rotate(x, torch.eye(64), Whitening(method, shrinkage=0.01))
    (gradient,) = torch.autograd.grad(z.square().mean(), x)
    assert z.abs().max() < 10
    assert gradient.isfinite().all()


def test_shrinkage_is_the_formula():
    covariance = torch.randn(2, 3, 3, dtype=torch.float64)
    found = shrink(covariance, Whitening(shrinkage=0.2, eps=0.1))
    for one, other in zip(found, covariance, strict=True):
        torch.testing.assert_close(one, reference.shrunk(other, 0.2, 0.1))


def test_the_method_depends_on_the_device():
    assert choose("auto", torch.device("cpu")) == "eigen"
    assert choose("auto", torch.device("cuda")) == "newton"
    assert choose("newton", torch.device("cpu")) == "newton"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("iterations", 0, "model.whitening.iterations: 0 given, at least 1 is needed"),
        ("eps", -1e-5, "model.whitening.eps"),
        ("eps", float("nan"), "model.whitening.eps"),
        ("groups", 0, "model.whitening.groups: 0 given, at least 1"),
        ("shrinkage", -0.1, "model.whitening.shrinkage: -0.1 given, a share from 0 to 1"),
        ("shrinkage", 1.5, "model.whitening.shrinkage: 1.5 given, a share from 0 to 1"),
        ("momentum", 0.0, "model.whitening.momentum: 0.0 given, more than 0"),
        ("momentum", 1.5, "model.whitening.momentum"),
    ],
)
def test_bad_settings(setting, value, message):
    with pytest.raises(ConfigError, match=message):
        Whitening(**{setting: value})
