"""SelfConsistency of units, and information that leaks."""

import math

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics import mean_off_diagonal
from ibd.metrics.functional import information, self_consistency
from tests.reference import explanations as reference

NAN = torch.nan


def test_locality():
    before = torch.zeros(2, 4)
    changed = torch.zeros(2, 2, 4)
    changed[:, 0, 1], changed[:, 0, 2], changed[0, 1, 3] = 0.6, -0.2, 0.5
    moved = self_consistency.concept_changes(before, changed, [[0, 1], [2, 3]])
    torch.testing.assert_close(moved[0], torch.tensor([[0.6, 0.2], [0, 0.5]]).double(), atol=1e-7, rtol=0)
    matrix = moved.mean(0)
    assert self_consistency.concept_locality(matrix).tolist() == pytest.approx([0.75, 1.0])
    assert self_consistency.concept_locality(torch.ones(3, 4)).tolist() == [0.5] * 3
    assert self_consistency.concept_locality(torch.zeros(2, 2)).isnan().all()
    assert self_consistency.concept_locality(torch.ones(1, 1)).isnan().all()
    with pytest.raises(ConfigError, match="empty"):
        self_consistency.concept_changes(before, changed, [[0], []])
    with pytest.raises(ConfigError, match="beside"):
        self_consistency.concept_changes(before, changed[:, 0], [[0]])


def test_interventions_leakage_and_completeness():
    p, q = torch.tensor([[0.7, 0.3], [0.5, 0.5], [1, NAN]]), torch.tensor([[0.2, 0.8], [0.5, 0.5], [1, 0]])
    assert self_consistency.intervention_consistency(p, q)[:2].tolist() == pytest.approx([0.5, 1.0])
    assert self_consistency.same_prediction(p, q)[:2].tolist() == [0.0, 1.0]
    assert self_consistency.same_prediction(p, q)[2].isnan()
    labels = torch.tensor([0, 0, 1])
    gap = self_consistency.leakage_gap(p.nan_to_num(), q, labels)
    assert gap.tolist() == [1.0, 0.0, 0.0]
    g = torch.Generator().manual_seed(0)
    parts, bias = torch.randn(5, 40, generator=g), torch.randn(5, generator=g)
    value = bias.double() + parts.double().sum(1)
    assert float(self_consistency.unit_completeness(bias, parts, value).max()) < 1e-12
    assert self_consistency.unit_completeness(bias, parts, value + 2).tolist() == pytest.approx([2.0] * 5)


def test_randomization_passes_or_fails():
    g = torch.Generator().manual_seed(0)
    null = torch.randn(200, generator=g) * 0.1
    unlike, alike = torch.randn(50, generator=g) * 0.1, 0.6 + torch.randn(50, generator=g) * 0.1
    alike[0] = NAN
    assert self_consistency.randomization_verdict(unlike, null).passed
    failed = self_consistency.randomization_verdict(alike, null)
    assert not failed.passed
    assert failed.upper > failed.similarity > failed.band == pytest.approx(float(null.double().quantile(0.975)))
    with pytest.raises(ConfigError, match="2 are needed"):
        self_consistency.randomization_verdict(alike, null[:1])


def data(images=240, seed=0):
    """Classes, three concepts that follow from them, of which the third is there only sometimes."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(6, (images,), generator=g)
    concepts = torch.stack([y % 2, y // 3, (torch.rand(images, generator=g) < 0.5).long()], 1).float()
    return y, concepts, g


def test_right_and_hard_concepts_do_not_leak():
    y, concepts, _ = data()
    assert information.concept_task_leakage(concepts, concepts, y).tolist() == pytest.approx([0.0] * 3, abs=1e-12)
    found = information.interconcept_leakage(concepts, concepts)
    assert found.diagonal().isnan().all()
    assert mean_off_diagonal(found).item() == pytest.approx(0, abs=1e-12)


def test_information_beside_the_concept_leaks():
    y, concepts, g = data()
    noisy = concepts + 0.4 * torch.rand(concepts.shape, generator=g)
    leaking = concepts.clone()
    leaking[:, 2] += y / 20  # tells the class beside its concept
    clean, found = (information.concept_task_leakage(s, concepts, y) for s in (noisy, leaking))
    assert float(clean.max()) < 0.03
    assert float(found[:2].max()) < 1e-9
    assert found[2] > 0.5
    pairs = information.interconcept_leakage(leaking, concepts)
    assert torch.equal(pairs.nan_to_num(9), pairs.T.nan_to_num(9))
    assert pairs[2, 0] > 0.2
    assert pairs[0, 1] == 0
    assert torch.equal(information.concept_task_leakage(leaking.exp(), concepts, y), found)  # only the order counts


def test_without_the_correction_it_is_the_formula():
    y, concepts, g = data(60)
    soft = concepts + torch.rand(concepts.shape, generator=g)
    codes = ((soft.argsort(0).argsort(0) + 0.5) / 60 * 8).long()
    hard = concepts.long()
    entropy = reference.mutual_information(y.tolist(), y.tolist())
    found = information.concept_task_leakage(soft, concepts, y, shuffles=0)
    pairs = information.interconcept_leakage(soft, concepts, shuffles=0)
    code, true = ([column.tolist() for column in each.T] for each in (codes, hard))
    told = reference.mutual_information
    for i in range(3):
        gain = told(code[i], y.tolist()) - told(true[i], y.tolist())
        assert found[i].item() == pytest.approx(max(0, gain / entropy), abs=1e-12)
        for j in range(3):
            if i != j:
                sides = [told(c[i], c[j]) / math.sqrt(told(c[i], c[i]) * told(c[j], c[j])) for c in (code, true)]
                assert pairs[i, j].item() == pytest.approx(max(0, sides[0] - sides[1]), abs=1e-12)


def test_leakage_of_what_is_unknown():
    y, concepts, g = data()
    soft = concepts + torch.rand(concepts.shape, generator=g)
    some = concepts.clone()
    some[100:, 1] = NAN
    part = information.concept_task_leakage(soft[:100], concepts[:100], y[:100], shuffles=0)
    whole = information.concept_task_leakage(soft, some, y, shuffles=0)
    np.testing.assert_allclose(whole[1], part[1], atol=1e-12)
    assert information.concept_task_leakage(soft, concepts, torch.zeros(240)).isnan().all()
