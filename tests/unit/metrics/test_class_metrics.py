"""Measures of predicted classes."""

import pytest
import torch

from ibd.metrics.classes import BalancedAccuracy


def test_the_mean_is_over_the_classes_that_are_there():
    """Two of class 0, one of them right, and one right of class 1; nothing is of class 2, which is predicted once."""
    metric = BalancedAccuracy(4)
    metric.update(torch.tensor([0, 2]), torch.tensor([0, 0]))
    metric.update(torch.tensor([[0.1, 0.9, 0.0, 0.0]]), torch.tensor([1]))  # logits are as good as classes
    assert float(metric.compute()) == pytest.approx((1 / 2 + 1) / 2)


def test_without_images_there_is_no_accuracy():
    metric = BalancedAccuracy(3)
    metric.update(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert bool(metric.compute().isnan())
