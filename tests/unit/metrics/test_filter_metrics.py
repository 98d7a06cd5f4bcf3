"""Metrics of filters, by hand; test_prototype_metrics.py has them against slow loops, in batches and processes."""

import math

import torch

from ibd.metrics import LocationInstability, PartInterpretability


def test_a_filter_that_follows_a_part_is_stable_and_covers_it():
    """By hand: the first filter's peak is 3 pixels right of the part in every image, the second's is anywhere."""
    metric = LocationInstability(2, 1, diagonal=10.0)
    centers = torch.tensor([[[2.0, 2.0]], [[5.0, 4.0]], [[1.0, 6.0]]])
    peaks = torch.stack(
        [centers[:, 0] + torch.tensor([0.0, 3.0]), centers[:, 0] + torch.tensor([[1.0], [2.0], [3.0]])], 1
    )
    metric.update(peaks, centers, torch.ones(3, 2, dtype=torch.bool))
    # distances 0.3 of the diagonal each; and sqrt(2) / 10, 2 sqrt(2) / 10, 3 sqrt(2) / 10
    torch.testing.assert_close(metric.per_prototype(), torch.tensor([0.0, math.sqrt(2) / 10]))
    covers = PartInterpretability(torch.tensor([0.5, 0.5]), 1)
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    masks[:, :, :2, :2] = True
    maps = torch.zeros(2, 2, 4, 4)
    maps[:, 0, 0, 0], maps[0, 1, :2, :2] = 1.0, 1.0  # a quarter of the part; all of it, in one image of two
    covers.update(maps, masks, torch.ones(2, 2, dtype=torch.bool))
    assert covers.per_prototype().tolist() == [1.0, 0.5]
