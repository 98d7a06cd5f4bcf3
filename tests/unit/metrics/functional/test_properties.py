"""Properties and robustness of maps: closed forms, and what is undefined."""

import math

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional import properties, robustness
from tests.reference import explanations as reference

NAN = torch.nan
ALL = (properties.negative_share, properties.sparseness, properties.complexity)


def maps(seed=0, images=4, size=(5, 6)):
    return torch.randn(images, *size, generator=torch.Generator().manual_seed(seed))


def test_definitions():
    a = maps()
    value = a.double().numpy().reshape(4, -1)
    np.testing.assert_allclose(properties.sparseness(a), [reference.gini(row) for row in value], atol=1e-12)
    share = np.abs(value) / np.abs(value).sum(1, keepdims=True)
    np.testing.assert_allclose(properties.complexity(a), -(share * np.log(share)).sum(1), atol=1e-12)
    np.testing.assert_allclose(properties.negative_share(a), (share * (value < 0)).sum(1), atol=1e-12)
    explained = torch.tensor([1.0, -2, 0, 3])
    expected = abs(value.sum(1) - explained.numpy()) / abs(np.where(explained == 0, np.nan, explained))
    np.testing.assert_allclose(properties.conservation(a, explained), expected, atol=1e-7)


def test_closed_forms():
    flat, one = torch.full((1, 4, 8), -0.1), torch.zeros(1, 4, 8)
    one[0, 2, 3] = 7
    assert properties.complexity(flat).item() == pytest.approx(math.log(32))
    assert properties.complexity(one).item() == 0
    assert properties.sparseness(flat).item() == pytest.approx(0, abs=1e-9)
    assert properties.sparseness(one).item() == pytest.approx(31 / 32)
    assert properties.negative_share(flat).item() == 1
    weight, image = maps(1).double(), maps(2).double()
    value = (weight * image).flatten(1).sum(1)
    assert float(properties.conservation(weight * image, value).max()) < 1e-12  # Quantus says False here
    assert properties.conservation(one, torch.tensor([0.0])).isnan()


def test_undefined_and_untouched():
    a = maps()
    a[0], a[1, 0, 0] = 0, NAN
    before = a.clone()
    for measure in ALL:
        found = measure(a)
        assert found.isnan().tolist() == [True, True, False, False]
        torch.testing.assert_close(measure(a[3:]), found[3:], rtol=0, atol=1e-14)
    properties.conservation(a, torch.ones(4))
    assert torch.equal(a.nan_to_num(9), before.nan_to_num(9))  # Quantus changes the caller's array


def test_robustness_of_a_linear_map():
    """a(x) = 3 x: every change is three times that of the image, and the map three times the image."""
    x = maps(1)
    noise = torch.stack([maps(2), maps(3) / 10, maps(4)], 1)
    distance = noise.flatten(2).norm(dim=2)
    a, changed = 3 * x, 3 * (x.unsqueeze(1) + noise)
    valid = torch.tensor([[True, True, False]]).expand(4, -1).clone()
    valid[1] = False
    size = 1 / x.flatten(1).norm(dim=1)
    for measure in (robustness.local_lipschitz, robustness.continuity):
        assert measure(a, changed, distance).tolist() == pytest.approx(size.tolist(), rel=1e-5)
        assert measure(a, changed, distance, valid).isnan().tolist() == [False, True, False, False]
        assert measure(a, changed, distance * 0).isnan().all()
    relative = 3 * distance / a.flatten(1).norm(dim=1, keepdim=True)
    torch.testing.assert_close(robustness.max_sensitivity(a, changed).float(), relative.amax(1))
    assert robustness.max_sensitivity(a * 0, changed).isnan().all()


def test_of_two_changes_one_is_the_steepest():
    """A map of size 2, moved by 1 and by 3 where the image moves by 1 / 2 and by 3 / 4."""
    a, changed = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, 2)
    a[0, 0, 0] = changed[0, :, 0, 0] = 2
    changed[0, 0, 1, 1], changed[0, 1, 1, 1] = 1, 3
    distance = torch.tensor([[0.5, 0.75]])
    assert robustness.local_lipschitz(a, changed, distance).item() == pytest.approx(2)
    assert robustness.continuity(a, changed, distance).item() == pytest.approx(1.5)
    assert robustness.max_sensitivity(a, changed).item() == pytest.approx(1.5)
    assert robustness.local_lipschitz(0 * a, changed, distance).isnan()
    small = 1e-200 * a.double(), 1e-200 * changed.double()  # squares of these are 0
    assert robustness.continuity(*small, distance).item() == pytest.approx(1.5)


def test_a_sample_does_not_depend_on_the_largest_of_its_batch():
    a, changed = maps(), torch.stack([maps(1), maps(2)], 1)
    alone = robustness.max_sensitivity(a[:1], changed[:1])
    a[3] *= 1e6
    torch.testing.assert_close(robustness.max_sensitivity(a, changed)[:1], alone)


def test_equivariance():
    a = maps(size=(12, 10))
    shifts = [(0, 0), (2, -3), (-4, 1)]
    moved = torch.stack([torch.roll(a, shift, (1, 2)) for shift in shifts], 1)
    assert robustness.translation_equivariance(a, moved, shifts).tolist() == pytest.approx([1.0] * 4)
    wrong = [(0, 0), (2, 3), (4, 1)]
    assert float(robustness.translation_equivariance(a, moved, wrong).max()) < 0.7
    valid = torch.tensor([[True, False, False]]).expand(4, -1)
    assert robustness.translation_equivariance(a, moved, wrong, valid).tolist() == pytest.approx([1.0] * 4)
    assert robustness.translation_equivariance(a * 0, moved, shifts).isnan().all()
    assert robustness.translation_equivariance(a, moved[:, :0], []).isnan().all()
    with pytest.raises(ConfigError, match="leaves nothing of 12 x 10"):
        robustness.translation_equivariance(a, moved, [(0, 0), (0, 10), (0, 0)])
    with pytest.raises(ConfigError, match="2 shifts given for 3"):
        robustness.translation_equivariance(a, moved, shifts[:2])
