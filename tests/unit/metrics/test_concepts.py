"""Concept metrics against the definition, against torchmetrics, and over processes."""

import math

import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from ibd.metrics.axes import auc_matrix
from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC, auroc_per_concept, decided
from tests.model_makers import random_concepts
from tests.reference import concepts as reference


def case(count=60, unknown=0.3, ties=True, seed=0):
    target = random_concepts(count, seed=seed, unknown=unknown)
    score = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + target.nan_to_num(0.5)
    return (score.round() if ties else score), target


@pytest.mark.parametrize("unknown", [0.0, 0.5])
@pytest.mark.parametrize("ties", [True, False])
def test_auroc_is_the_share_of_pairs_in_order(unknown, ties):
    score, target = case(unknown=unknown, ties=ties)
    expected = [reference.auroc(score[:, k].tolist(), target[:, k].tolist()) for k in range(6)]
    torch.testing.assert_close(auroc_per_concept(score, target), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("ties", [True, False])
def test_auroc_is_that_of_torchmetrics(ties):
    score, target = case(count=300, ties=ties)
    for k, found in enumerate(auroc_per_concept(score, target)):
        known = ~target[:, k].isnan()
        expected = binary_auroc(score[known, k].sigmoid(), target[known, k].long())
        assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_auroc_of_the_extremes():
    target = torch.tensor([[0.0], [0], [1], [1]])
    order = torch.tensor([[1.0], [2], [3], [4]])
    assert auroc_per_concept(order, target).item() == 1
    assert auroc_per_concept(-order, target).item() == 0
    assert auroc_per_concept(0 * order, target).item() == 0.5
    assert auroc_per_concept(torch.tensor([[0.0], [torch.inf], [torch.inf], [torch.inf]]), target).item() == 0.75


def test_the_unknown_move_nobody_not_even_beside_infinities():
    score = torch.tensor([[0.0], [torch.inf], [torch.inf], [5.0], [7.0]])
    target = torch.tensor([[0.0], [1], [0], [torch.nan], [torch.nan]])
    assert auroc_per_concept(score, target).item() == 0.75


def test_a_concept_without_a_curve_is_nan_and_left_out_of_the_mean():
    score, target = case(unknown=0.0)
    target[:, 0], target[:, 1], target[:, 2] = 1.0, 0.0, torch.nan
    found = auroc_per_concept(score, target)
    assert found.isnan().tolist() == [True, True, True, False, False, False]
    metric = ConceptAUROC()
    metric.update(score, target)
    assert metric.compute().item() == pytest.approx(found[3:].mean().item())
    metric.reset()
    metric.update(score[:, :3], target[:, :3])
    assert math.isnan(metric.compute())


def test_accuracy_counts_what_is_known():
    metric = ConceptAccuracy()
    assert math.isnan(metric.compute())
    nan = torch.nan
    metric.update(torch.tensor([[0.9, 0.2], [0.4, 0.5]]), torch.tensor([[1.0, 1], [nan, 0]]))
    assert metric.compute().item() == pytest.approx(2 / 3)
    metric.update(torch.tensor([[0.9, 0.2]]), torch.tensor([[nan, nan]]))
    assert metric.compute().item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", [ConceptAUROC, ConceptAccuracy])
def test_two_processes_are_one(kind):
    score, target = case(count=50)
    score = score.sigmoid()
    one, first, second = kind(), kind(), kind()
    one.update(score, target)
    for part in (slice(0, 7), slice(7, 20)):
        first.update(score[part], target[part])
    second.update(score[20:], target[20:])
    first.merge_state(second)
    assert first.compute() == one.compute()


def test_scores_in_half_precision_are_taken():
    score, target = case(ties=False)
    metric = ConceptAUROC()
    metric.update(score.bfloat16(), target)
    assert metric.compute().item() == pytest.approx(auroc_per_concept(score, target).nanmean().item(), abs=0.02)
    assert metric.compute().dtype == torch.float32


def test_an_undecided_soft_annotation_counts_for_nothing():
    """Of 0.5 nobody can say whether it was predicted rightly; 0.25 is a no, 0.75 a yes."""
    target = torch.tensor([[0.5, 0.25], [1.0, 0.75], [0.0, 0.5]])
    probability = torch.tensor([[0.9, 0.6], [0.8, 0.7], [0.1, 0.1]])
    assert auroc_per_concept(probability, target).tolist() == [1, 1]
    torch.testing.assert_close(auc_matrix(probability, target).diagonal(), torch.ones(2, dtype=torch.float64))
    metric = ConceptAccuracy()
    metric.update(probability, target)
    assert metric.compute().item() == 0.75  # of four decided pairs one is wrong: 0.6 for 0.25
    assert decided(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, torch.nan])).tolist() == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]
