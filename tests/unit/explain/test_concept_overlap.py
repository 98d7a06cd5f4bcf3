"""What concepts share with labels and masks, on cases made by hand."""

import numpy as np
import pytest
import torch

from ibd.explain.discovery.overlap import MaskOverlap, auroc


def test_auroc_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    scores, truth = generator.random((60, 3)).round(1), generator.integers(0, 2, (60, 2)).astype(float)
    truth[:5, 1] = np.nan
    found = auroc(torch.from_numpy(scores), torch.from_numpy(truth))
    for row in range(3):
        assert float(found[row, 0]) == pytest.approx(metrics.roc_auc_score(truth[:, 0], scores[:, row]))
        assert float(found[row, 1]) == pytest.approx(metrics.roc_auc_score(truth[5:, 1], scores[5:, row]))


def test_auroc_of_a_constant_label_is_unknown():
    assert bool(auroc(torch.rand(4, 2), torch.ones(4, 1)).isnan().all())


def test_iou_is_that_of_the_threshold_of_the_other_half():
    """A concept that is 1 on the part, 0.5 on as much beside it in the second half, and 0 elsewhere."""
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, :4, :4] = 1
    maps = masks.clone()
    maps[1, :, 4:, 4:] = 0.5
    counts = MaskOverlap(maps.permute(0, 2, 3, 1).flatten(0, 2), 1)
    counts.update(maps[:1], masks[:1], 0)
    counts.update(maps[1:], masks[1:], 1)
    first, second = counts.iou()
    assert float(first) == 1.0
    assert float(second) in (1.0, 0.5)  # both thresholds are perfect in the first half
    assert counts.everywhere().tolist() == [0.25]


def test_iou_by_hand():
    """Three of four cells above 0, two of them in the part, which has one more."""
    maps = torch.tensor([[[[0.9, 0.9], [0.9, 0.0]]]]).repeat(2, 1, 1, 1)
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 1.0]]]]).repeat(2, 1, 1, 1)
    counts = MaskOverlap(maps.flatten()[:, None], 1)
    for half in (0, 1):
        counts.update(maps[half : half + 1], masks[half : half + 1], half)
    first, second = counts.iou()
    assert float(first) == float(second) == pytest.approx(2 / 4)
    assert counts.everywhere().tolist() == [3 / 4]  # which a level of 0 would have, too, whatever the concept is


def test_concept_that_is_the_same_everywhere_has_no_iou():
    counts = MaskOverlap(torch.ones(50, 1), 1)
    for half in (0, 1):
        counts.update(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), half)
    assert bool(counts.iou()[1].isnan().all())


def test_part_that_is_nowhere_has_no_iou():
    counts = MaskOverlap(torch.rand(50, 2), 1)
    for half in (0, 1):
        counts.update(torch.rand(1, 2, 4, 4), torch.zeros(1, 1, 4, 4), half)
    assert bool(counts.iou()[1].isnan().all())
