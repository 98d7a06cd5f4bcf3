"""Agreement of metrics image by image, by hand and against scipy."""

import pytest
import torch
from scipy.stats import kendalltau

from ibd.metrics.functional.coherency import above_reference, first_of_all, image_coherency

NAN = float("nan")


def test_rankings_by_hand():
    one = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [NAN, 2.0, 3.0]])
    other = torch.tensor([[10.0, 20.0, 30.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    found = image_coherency(one, other)
    assert found[:3].tolist() == pytest.approx([1.0, -1.0, 1 / 3])
    assert found[3].isnan()
    assert image_coherency(one[:, :2], other[:, :2]).isnan().all()  # two methods are no ranking


def test_as_scipy_with_ties_and_a_method_that_one_metric_does_not_know():
    g = torch.Generator().manual_seed(0)
    one, other = torch.randint(5, (6, 7), generator=g).float(), torch.randn(6, 7, generator=g)
    other[:, 2] = NAN
    keep = [0, 1, 3, 4, 5, 6]
    wanted = [kendalltau(a, b).statistic for a, b in zip(one[:, keep], other[:, keep], strict=True)]
    assert image_coherency(one, other).tolist() == pytest.approx(wanted)


def test_noise_last_and_truth_first():
    scores = torch.tensor([[0.5, 0.2, NAN], [0.1, 0.2, 0.3], [NAN, NAN, NAN]])
    found = above_reference(scores, torch.tensor([0.2, 0.4, 0.0]))
    assert found[:2].tolist() == [0.75, 0.0]
    assert found[2].isnan()
    first = first_of_all(torch.tensor([0.5, 0.25, 1.0]), scores)
    assert first[:2].tolist() == [1.0, 0.0]
    assert first[2].isnan()
