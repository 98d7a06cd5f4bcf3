"""Activations of axes and the gradient that turns axes, against loops."""

import pytest
import torch

from ibd.models.concept_whitening.activation import activation_weights, alignment_gradient, axis_activation
from ibd.models.concept_whitening.rotation import cayley_step
from tests.reference import whitening as reference
from tests.unit.models.concept_whitening.test_whitening import rotation_of

MODES = ["mean", "max", "positive_mean", "pool_max"]
SIZES = [(6, 6), (3, 3), (7, 7), (8, 5), (2, 2), (1, 1), (2, 7)]


def maps_of(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_activations_are_those_of_the_loops(mode, size):
    maps = maps_of((3, 4, *size))
    maps[1, 2] = -maps[1, 2].abs()  # nowhere positive
    found = axis_activation(maps, mode)
    for image in range(3):
        for axis in range(4):
            expected = reference.activation_of(maps[image, axis], mode)
            assert float(found[image, axis]) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_weights_are_finite_differences(mode, size):
    maps, step = maps_of((2, 3, *size)), 1e-6
    weights = activation_weights(maps, mode)
    assert weights.shape == maps.shape
    assert not weights.requires_grad
    for image in range(2):
        for axis in range(3):
            for y in range(size[0]):
                for x in range(size[1]):
                    ahead, behind = maps[image, axis].clone(), maps[image, axis].clone()
                    ahead[y, x] += step
                    behind[y, x] -= step
                    change = reference.activation_of(ahead, mode) - reference.activation_of(behind, mode)
                    assert float(weights[image, axis, y, x]) == pytest.approx(float(change) / (2 * step), abs=1e-6)


def aligned(mode, size=(7, 8)):
    """Our gradient, the true and the published one, in the coordinates of the whitened space."""
    white, rotation = maps_of((6, 5, *size)), rotation_of(5)
    concepts = (maps_of((6, 3), 1) > 0).double()
    maps = torch.einsum("kd,bdhw->bkhw", rotation, white)
    ours = alignment_gradient(maps, concepts, mode) @ rotation
    slow = (reference.true_gradient, reference.published_gradient)
    return (ours, *(each(white, rotation, concepts.bool(), mode) for each in slow))


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("size", [(7, 8), (3, 3), (2, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_the_alignment_gradient_is_the_gradient_by_the_rows_of_the_rotation(mode, size):
    ours, true, _ = aligned(mode, size)
    torch.testing.assert_close(ours, true)


@pytest.mark.parametrize("mode", MODES)
def test_the_true_gradient_is_a_finite_difference(mode):
    """So that the replica stands on more than autograd."""
    white, rotation, step = maps_of((6, 5, 4, 4)), rotation_of(5), 1e-6
    concepts = maps_of((6, 3), 1) > 0
    true = reference.true_gradient(white, rotation, concepts, mode)
    for j, c in ((0, 0), (1, 4), (2, 2)):
        ahead, behind = rotation[:3].clone(), rotation[:3].clone()
        ahead[j, c] += step
        behind[j, c] -= step
        values = [reference.mean_activation(white, rows, concepts, mode) for rows in (ahead, behind)]
        assert float(true[j, c]) == pytest.approx(float(values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_published_gradient_is_another_one(mode):
    """It takes component c from where axis c responds, not where the concept's axis j does."""
    ours, true, published = aligned(mode)
    assert cosine(ours, true) == pytest.approx(1)
    if mode == "mean":
        assert cosine(published, true) == pytest.approx(1)  # no places are chosen here
    else:
        assert cosine(published, true) < 0.8


def test_unknown_and_absent_concepts_pull_nothing():
    maps = maps_of((3, 4, 3, 3))
    concepts = torch.tensor([[1.0, float("nan")], [0.0, float("nan")], [1.0, 0.0]], dtype=torch.float64)
    found = alignment_gradient(maps, concepts, "mean")
    torch.testing.assert_close(found[0], maps[[0, 2]].mean((2, 3)).sum(0))
    assert not found[1].any()


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_is_computed_in_float32_under_autocast(mode):
    maps, concepts = maps_of((4, 16, 7, 7)).float(), torch.ones(4, 3)
    plain = alignment_gradient(maps, concepts, mode)
    with torch.autocast("cpu", torch.bfloat16):
        found = alignment_gradient(maps, concepts, mode)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_needs_no_graph(mode):
    maps, concepts = maps_of((4, 5, 4, 4)), torch.ones(4, 3)
    plain = alignment_gradient(maps, concepts, mode)
    with torch.inference_mode():  # in which torch may take another kernel for a product
        torch.testing.assert_close(alignment_gradient(maps * 1, concepts, mode), plain)


def planted(images, generator, patch=3, strength=2.5):
    """White noise with, in the images of concept j, a small patch that is shifted along direction j."""
    channels, concepts, size = 64, 5, 8
    directions = rotation_of(channels, torch.float32, seed=3)[:concepts]
    labels = torch.arange(images) % concepts
    x = torch.randn(images, channels, size, size, generator=generator)
    corners = torch.randint(size - patch + 1, (images, 2), generator=generator)
    for image, (label, (top, left)) in enumerate(zip(labels.tolist(), corners.tolist(), strict=True)):
        shift = strength * directions[label].view(-1, 1, 1)
        x[image, :, top : top + patch, left : left + patch] += shift
    return x, torch.nn.functional.one_hot(labels, concepts).float(), directions


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[pytest.mark.slow] if m != "pool_max" else []) for m in MODES])
def test_axes_find_planted_directions(mode):
    generator = torch.Generator().manual_seed(0)
    rotation, pull = torch.eye(64), torch.zeros(5, 64)
    for _ in range(60):
        x, concepts, directions = planted(160, generator)
        maps = torch.einsum("kd,bdhw->bkhw", rotation, x)
        found = alignment_gradient(maps, concepts, mode) @ rotation / concepts.sum(0).unsqueeze(1)
        pull = 0.9 * pull - 0.1 * found
        rotation = cayley_step(rotation, pull)
    cosines = (rotation[:5] * directions).sum(1)
    assert float(cosines.mean()) >= 0.97, cosines
