"""Measures of maps that anything has made, as torchmetrics and as Quantus call them."""

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics import MapScore, quantus_metric
from ibd.metrics.functional import localization
from ibd.metrics.maps import LOCALIZATION, PROPERTIES

MASK = torch.tensor([[[True, False], [False, False]]]).expand(3, 2, 2)
MAPS = torch.tensor([[[3.0, 1.0], [0.0, -5.0]], [[0.0, 1.0], [0.0, 0.0]], [[-1.0, -1.0], [-1.0, -2.0]]])
"""Three quarters of the positive mass in the mask; none; no positive mass."""


def test_mean_over_images_for_which_it_is_defined():
    metric = MapScore("mass_accuracy")
    assert metric.compute().isnan()
    metric.update(MAPS, MASK)
    assert float(metric.compute()) == pytest.approx((0.75 + 0.0) / 2)


def test_maps_with_channels_are_added_up_and_masks_may_have_one():
    colors = torch.stack([MAPS - 1, torch.ones_like(MAPS), torch.zeros_like(MAPS)], 1)
    metric = MapScore("mass_accuracy")
    metric.update(colors, MASK.unsqueeze(1))
    assert float(metric.compute()) == pytest.approx(0.375)


@pytest.mark.parametrize("measure", [*LOCALIZATION, *PROPERTIES])
def test_batches_and_processes_do_not_matter(measure):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 5, 5, generator=generator)
    masks = torch.rand(6, 5, 5, generator=generator) < 0.3
    whole, parts, other = MapScore(measure), MapScore(measure), MapScore(measure)
    whole.update(maps, masks)
    for one in range(3):
        parts.update(maps[one : one + 1], masks[one : one + 1])
    other.update(maps[3:], masks[3:])
    other.merge_state(parts)
    torch.testing.assert_close(other.compute(), whole.compute())


def test_as_quantus_calls_it():
    metric = quantus_metric("rank_accuracy")
    given = {"model": None, "x_batch": None, "y_batch": None, "device": "cpu", "softmax": True}
    found = metric(a_batch=MAPS[:, None].numpy(), s_batch=MASK[:, None].numpy().astype(float), **given)
    assert found == localization.rank_accuracy(MAPS, MASK).tolist()
    asked = metric(
        model=None,
        x_batch=np.zeros((3, 1, 2, 2)),
        y_batch=np.zeros(3),
        s_batch=MASK.numpy(),
        explain_func=lambda model, inputs, targets, scale: MAPS.numpy() * scale,
        explain_func_kwargs={"scale": 2},
    )
    assert asked == found


def test_mistakes():
    with pytest.raises(ConfigError, match=r"no measure of maps 'pointing'\. Did you mean 'pointing_game'"):
        MapScore("pointing")
    with pytest.raises(ConfigError, match="no measure of maps 'auc'"):
        quantus_metric("auc")
    with pytest.raises(ConfigError, match="roc_auc: masks of where the maps should lie are needed"):
        MapScore("roc_auc").update(MAPS)
    with pytest.raises(ConfigError, match="a_batch"):
        quantus_metric("complexity")()
    MapScore("complexity").update(MAPS)


def test_maps_and_masks_that_are_none():
    broken = MAPS.clone()
    broken[1, 0, 0] = torch.nan
    metric = MapScore("mass_accuracy")
    for maps, masks, message in (
        (broken, MASK, r"mass_accuracy: 1 of 3 maps hold values that are no numbers, map 1"),
        (MAPS / 0, MASK, r"3 of 3 maps hold values"),
        (MAPS[0], MASK[0], r"maps of shape \(2, 2\) given, \(B, H, W\) or"),
        (MAPS.numpy(), MASK, "maps are a ndarray, a tensor"),
        (MAPS, MASK * 0.3, "masks hold more than 0 and 1"),
        (MAPS, MASK.numpy(), "masks are a ndarray, a bool tensor"),
        (MAPS, MASK[:2], r"masks of shape \(2, 2, 2\) given beside maps of \(3, 2, 2\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            metric.update(maps, masks)
    assert metric.compute().isnan()  # nothing was added
    with pytest.raises(ConfigError, match="sparseness: maps of shape"):
        MapScore("sparseness").update(MAPS[0])
    with pytest.raises(ConfigError, match="no numbers"):
        quantus_metric("complexity")(a_batch=broken.numpy())
