"""The layer: training, evaluation, running statistics, precision, what it keeps worked out."""

import copy
import logging

import pytest
import torch

from ibd.errors import ConfigError
from ibd.models.concept_whitening import layer as module
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.rotation import cayley_step
from ibd.models.concept_whitening.whitening import Whitening
from tests.reference import whitening as reference
from tests.unit.models.concept_whitening.test_whitening import EXACT, LAYOUTS, features, rotation_of


def make_layer(channels=4, concepts=2, dtype=torch.float64, seen=True, **settings):
    """A layer with a rotation and, if it has `seen` some batches, statistics."""
    layer = ConceptWhiteningLayer(channels, concepts, Whitening(**settings)).to(dtype)
    layer.rotation.copy_(rotation_of(channels))
    if seen:
        with torch.no_grad():
            for seed in range(3):
                layer(features((3, channels, 3, 2), dtype, seed=seed))
    return layer


@pytest.fixture
def derivations(monkeypatch):
    """How often the whitening matrix of the running statistics is worked out."""
    calls, derive = [], module.whitening_root

    def spy(*args):
        calls.append(args)
        return derive(*args)

    monkeypatch.setattr(module, "whitening_root", spy)
    return calls


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", ["eigen", "newton"])
@pytest.mark.parametrize("training", [True, False])
def test_gradcheck(training, method, groups, layout):
    """Also in evaluation, in which the published layer has no gradient at all."""
    layer = make_layer(method=method, groups=groups, **EXACT).train(training)
    x = features(layout=layout, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", ["eigen", "newton"])
def test_evaluation_is_the_loops_with_running_statistics(method, groups, layout):
    layer = make_layer(method=method, groups=groups, momentum=0.3, shrinkage=0.02, eps=1e-3, **EXACT).eval()
    mean, covariances = 0, [0] * groups
    for seed in range(3):  # the first batch replaces what there was
        weight = 0.3 if seed else 1
        found, blocks = reference.statistics(features((3, 4, 3, 2), seed=seed), groups)
        mean = weight * found + (1 - weight) * mean
        covariances = [weight * b + (1 - weight) * c for b, c in zip(blocks, covariances, strict=True)]
    x = features(layout=layout, seed=5).requires_grad_()
    expected = reference.transform(x, *reference.affine(mean, covariances, layer.rotation, 0.02, 1e-3))
    z = layer(x)
    torch.testing.assert_close(z, expected)
    weight = torch.randn(x.shape, dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(each, x, weight)[0] for each in (z, expected)))
    matrix, bias = layer.affine()
    torch.testing.assert_close(reference.transform(x, matrix, bias), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("groups", [1, 2])
def test_training_and_evaluation_agree_on_equal_statistics(dtype, groups):
    layer = make_layer(momentum=1.0, groups=groups, dtype=dtype)
    x = features((4, 4, 5, 5), dtype, seed=9)
    trained = layer.train()(x)
    torch.testing.assert_close(layer.eval()(x), trained)


def test_covariances_are_averaged_and_not_whitening_matrices():
    """Under a drifting scale the mean of whitening matrices does not whiten: outputs have a variance of their own."""
    layer = make_layer(8, seen=False, momentum=0.3, shrinkage=0, eps=0)
    base = features((16, 8, 6, 6), seed=1)
    base = base - base.mean((0, 2, 3), keepdim=True)
    scales = [0.3, 3.0] * 4
    variance, published = 0.0, 0.0
    for step, scale in enumerate(scales):
        layer(scale * base)
        weight = 0.3 if step else 1.0
        variance = weight * scale**2 + (1 - weight) * variance
        published = weight / scale + (1 - weight) * published
    z = layer.eval()(variance**0.5 * base)  # data of the average covariance
    torch.testing.assert_close(reference.covariance_of(z), torch.eye(8, dtype=torch.float64))
    assert published**2 * variance > 3  # the variance it would have had


def test_few_positions_warn_once(caplog):
    layer = make_layer(16, seen=False)
    with caplog.at_level(logging.WARNING):
        layer(features((2, 16, 4, 4)))
        assert not caplog.records
        layer(features((1, 16, 3, 3)))
        layer(features((1, 16, 3, 3)))
        layer.eval()(features((1, 16, 3, 3)))
    (record,) = caplog.records
    assert "9 positions for 16 channels" in record.getMessage()


def test_groups_need_fewer_positions(caplog):
    with caplog.at_level(logging.WARNING):
        make_layer(16, seen=False, groups=4)(features((1, 16, 3, 3)))
    assert not caplog.records


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_autocast_computes_in_float32(training, layout):
    layer = make_layer(8, dtype=torch.float32).train(training)
    x = features((4, 8, 5, 5), torch.bfloat16, layout).requires_grad_()
    weight = torch.randn(x.shape)
    full = x.detach().float().requires_grad_()
    expected = copy.deepcopy(layer)(full)
    (slow,) = torch.autograd.grad(expected, full, weight)
    with torch.autocast("cpu", torch.bfloat16):
        z = layer(x)
        (found,) = torch.autograd.grad(z, x, weight)  # backward under autocast too
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(found, slow.bfloat16(), rtol=1e-2, atol=1e-6)  # one unit of bfloat16


@pytest.mark.parametrize("training", [True, False])
def test_double_features_in_a_float_layer(training):
    layer = make_layer(dtype=torch.float32).train(training)
    z = layer(features(dtype=torch.float64))
    torch.testing.assert_close(z.float(), copy.deepcopy(layer)(features(dtype=torch.float32)), rtol=1e-3, atol=1e-3)


def test_a_matrix_is_worked_out_once(derivations):
    layer = make_layer().eval()
    for _ in range(3):
        layer(features())
    layer.affine()
    assert len(derivations) == 1


@pytest.mark.parametrize("change", ["rotation", "replaced", "statistics", "training", "load", "double"])
def test_a_matrix_is_worked_out_again_after_a_change(change, derivations):
    layer, other = make_layer(dtype=torch.float32).eval(), make_layer(dtype=torch.float32, momentum=0.9)
    before = layer.affine()[0]
    if change == "rotation":
        layer.rotation.copy_(rotation_of(4, seed=7))
    elif change == "replaced":
        layer.rotation = rotation_of(4, torch.float32, seed=7)
    elif change == "statistics":
        layer.running_covariance.mul_(2)
    elif change == "training":
        layer.train()(features(dtype=torch.float32, seed=8))
        layer.eval()
    elif change == "load":
        layer.load_state_dict(other.state_dict())
    else:
        layer.double()
    after = layer.affine()[0]
    assert len(derivations) == 2
    assert after.dtype == layer.rotation.dtype
    fresh = copy.deepcopy(layer)
    fresh._derived = None
    assert torch.equal(after, fresh.affine()[0])
    if change != "double":
        assert not torch.equal(after, before)


def test_a_rotation_replaced_again_and_again_is_never_stale():
    """A new tensor may lie where an old one lay."""
    layer = make_layer(dtype=torch.float32).eval()
    for seed in range(20):
        layer.affine()
        for step in range(3):
            layer.rotation = cayley_step(layer.rotation, torch.randn(2, 4) + seed + step)
        found = layer.affine()[0]
        layer._derived = None
        assert torch.equal(found, layer.affine()[0])


def test_gradients_after_inference_mode():
    layer = make_layer().eval()
    with torch.inference_mode():
        expected = layer(features())
    x = features().requires_grad_()
    z = layer(x)
    torch.testing.assert_close(z, expected)
    z.square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_layer_made_in_inference_mode():
    with torch.inference_mode():
        layer = ConceptWhiteningLayer(4, 2).eval()
        layer(torch.ones(1, 4, 2, 2))
        layer.running_covariance.mul_(4)
        torch.testing.assert_close(layer.affine()[0], torch.eye(4) / 2)
    x = torch.ones(1, 4, 2, 2, requires_grad=True)
    assert torch.autograd.grad(layer(x).sum(), x)[0].ne(0).all()


def test_the_rotation_changed_in_inference_mode_is_seen():
    layer = make_layer().eval()
    layer.affine()
    with torch.inference_mode():
        layer.rotation.copy_(rotation_of(4, seed=7))
        changed = layer(features())
    torch.testing.assert_close(layer(features()), changed)  # outside torch may take another kernel for a product
    kept = layer(features())
    layer._derived = None
    assert torch.equal(layer(features()), kept)


def test_the_state_is_all_there_is():
    layer = make_layer(groups=2)
    layer.pull.normal_()
    fresh = ConceptWhiteningLayer(4, 2, Whitening(groups=2)).double()
    fresh.load_state_dict(layer.state_dict())
    assert set(layer.state_dict()) == {"running_mean", "running_covariance", "batches", "rotation", "pull"}
    assert torch.equal(fresh.eval()(features()), layer.eval()(features()))
    fresh.train()(features()), layer.train()(features())
    for name, each in layer.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], each), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_the_layout_stays(training, layout):
    x = features((2, 4, 5, 3), layout=layout)
    assert make_layer().train(training)(x).is_contiguous(memory_format=layout)


def test_evaluation_has_no_say_in_the_statistics():
    layer = make_layer().eval()
    before = copy.deepcopy(layer.state_dict())
    layer(features(seed=11))
    assert all(torch.equal(before[name], each) for name, each in layer.state_dict().items())


def test_too_many_concepts():
    with pytest.raises(ConfigError, match="4 channels has no axes for 5 concepts"):
        ConceptWhiteningLayer(4, 5)
    ConceptWhiteningLayer(4, 4)


def test_groups_that_do_not_divide():
    with pytest.raises(ConfigError, match=r"model.whitening.groups: 3 do not divide the 4 channels"):
        ConceptWhiteningLayer(4, 1, Whitening(groups=3))
