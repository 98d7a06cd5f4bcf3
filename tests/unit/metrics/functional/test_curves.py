"""Faithfulness from tables: a linear model, of which every figure is known."""

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional import curves
from ibd.metrics.functional.ranks import Order
from ibd.metrics.functional.subsets import membership, removal_auc, removal_curve, shapley

PIXELS = 12


def linear():
    """Weights, images, and attributions w * x of f(x) = 2 + w x."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(PIXELS, generator=g, dtype=torch.float64)
    image = torch.rand(4, PIXELS, generator=g, dtype=torch.float64)
    return weight, image, weight * image


def table(weight, image, maps, insert=False, reverse=False):
    place = Order.of(-maps.view(-1, 3, 4) if reverse else maps.view(-1, 3, 4)).place().flatten(1)
    steps = [image * ((place < k) if insert else (place >= k)) for k in range(PIXELS + 1)]
    return 2 + torch.stack([step @ weight for step in steps], 1)


def test_a_linear_model_is_known_exactly():
    weight, image, maps = linear()
    fractions = torch.linspace(0, 1, PIXELS + 1, dtype=torch.float64)
    high = maps.sort(1, descending=True).values
    removed = torch.cat([high.new_zeros(4, 1), high.cumsum(1)], 1)  # what is gone after k steps
    total = 2 + maps.sum(1)
    # Trapezoid: the part with rank k counts in full for k steps and half for one.
    areas = total - (high * (PIXELS - torch.arange(PIXELS) - 0.5)).sum(1) / PIXELS
    found = curves.deletion_auc(table(weight, image, maps), fractions)
    torch.testing.assert_close(found, areas, rtol=0, atol=1e-12)
    put = curves.insertion_auc(table(weight, image, maps, insert=True), fractions)
    torch.testing.assert_close(put + found, 4 + maps.sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(curves.selectivity(table(weight, image, maps), fractions), found)
    morf = table(weight, image, maps)
    lerf = table(weight, image, maps, reverse=True)
    torch.testing.assert_close(curves.aopc(morf), removed.sum(1) / (PIXELS + 1), rtol=0, atol=1e-12)
    # Whatever goes first in one order goes last in the other.
    expected = removed.sum(1) / (PIXELS + 1) - (maps.sum(1) * (PIXELS + 1) - removed.sum(1)) / (PIXELS + 1)
    torch.testing.assert_close(curves.abpc(morf, lerf), expected, rtol=0, atol=1e-12)
    assert (curves.abpc(morf, lerf) > 0).all()


def test_parts_of_a_linear_model():
    weight, image, maps = linear()
    weight, image, maps = weight[:5], image[:, :5], maps[:, :5]
    values = 2 + image.mul(weight) @ membership(5).double().T
    torch.testing.assert_close(shapley(values), maps, rtol=0, atol=1e-12)
    high = maps.sort(1, descending=True).values
    expected = 2 + maps.sum(1) - (high * (5 - torch.arange(5) - 0.5)).sum(1) / 5
    torch.testing.assert_close(removal_auc(removal_curve(maps, values)), expected, rtol=0, atol=1e-12)


def test_a_constant_added_to_the_value_moves_areas_and_not_falls():
    weight, image, maps = linear()
    morf, lerf = table(weight, image, maps), table(weight, image, maps, reverse=True)
    for measure in (curves.aopc, lambda t: curves.abpc(t, lerf + (t - morf))):
        torch.testing.assert_close(measure(morf + 7), measure(morf))
    x = torch.linspace(0, 1, PIXELS + 1, dtype=torch.float64)
    torch.testing.assert_close(curves.deletion_auc(morf + 7, x), curves.deletion_auc(morf, x) + 7)


def test_the_area_is_that_of_trapezoids_over_any_fractions():
    g = torch.Generator().manual_seed(1)
    values, x = torch.rand(3, 6, generator=g), [0.01, 0.1, 0.3, 0.35, 0.8, 0.99]
    expected = np.trapezoid(values.double().numpy(), x) / 0.98 if hasattr(np, "trapezoid") else None
    found = curves.road(values, x)
    if expected is not None:
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert curves.road(torch.ones(2, 6), x).tolist() == pytest.approx([1, 1])
    torch.testing.assert_close(curves.road(values, x, 1 - values), 0.5 - found)
    torch.testing.assert_close(curves.ablation_gain(values, 1 - values, x), 1 - 2 * found)


def test_undefined_and_wrong_tables():
    values = torch.tensor([[1.0, torch.nan, 0], [1, 0.5, 0]])
    assert curves.deletion_auc(values, [0, 0.5, 1]).isnan().tolist() == [True, False]
    assert curves.aopc(values)[1].item() == 0.5
    for fractions, message in (([0, 0.5], "both ends"), ([0, 1], "beside a table"), ([0, 0.7, 0.6, 1], "beside"),
                               ([0.0, 0.0, 1.0], "must increase")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            curves.deletion_auc(values, fractions)
    with pytest.raises(ConfigError, match="both ends"):
        curves.insertion_auc(values, [])
    with pytest.raises(ConfigError, match="beside"):
        curves.abpc(values, values[:, 1:])
