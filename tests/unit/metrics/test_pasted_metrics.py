"""The three scores of objects on scenes, on maps whose scores are known by hand."""

import pytest
import torch

from ibd.metrics.functional.pasted import (
    input_dependence_rate,
    input_independence_rate,
    model_contrast,
    object_attribution,
)

SIZE = 10


@pytest.fixture
def mask():
    """A square of 4 x 4 pixels."""
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    mask[:, 2:6, 3:7] = True
    return mask


def test_attribution_by_hand(mask):
    full = mask.float()
    assert object_attribution(full, mask).tolist() == [1.0]
    assert object_attribution(-full, mask).tolist() == [0.0]  # what speaks against does not count
    half = full.clone()
    half[:, 2:4] = 0  # half of the object's rows
    assert object_attribution(7.0 * half, mask).tolist() == [0.5]
    spike = full.clone()
    spike[:, 0, 0] = 1000.0  # a single pixel is cut off at the 99th percentile, between the 99th and 100th value
    assert object_attribution(spike, mask) > 0.09
    assert object_attribution(full * 0, mask).tolist() == [0.0]
    assert object_attribution(full, mask & False).isnan().all()


def test_contrast(mask):
    inside, outside = mask.float(), (~mask).float()
    assert model_contrast(inside, outside, mask).tolist() == [1.0]
    assert model_contrast(outside, inside, mask).tolist() == [-1.0]
    assert model_contrast(inside, inside, mask).tolist() == [0.0]
    both = model_contrast(
        inside.repeat(2, 1, 1), outside.repeat(2, 1, 1), mask.repeat(2, 1, 1), torch.tensor([True, False])
    )
    assert both[0] == 1
    assert both[1].isnan()


def test_dependence_and_independence(mask):
    inside, outside = mask.float(), (~mask).float()
    assert input_dependence_rate(outside, inside, mask).tolist() == [1.0]
    assert input_dependence_rate(inside, outside, mask).tolist() == [0.0]
    assert input_dependence_rate(inside, inside, mask).tolist() == [0.5]
    near, far = outside + 0.95 * inside, outside + 0.85 * inside
    whole = inside + outside
    assert input_independence_rate(whole, near, mask).tolist() == [1.0]
    assert input_independence_rate(whole, far, mask).tolist() == [0.0]
    assert input_independence_rate(outside, outside, mask).tolist() == [1.0]
