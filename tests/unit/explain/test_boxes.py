"""Boxes: one peak and not another, whatever the scale; what a map without a peak gives; the published one."""

import numpy as np
import pytest
import torch

from ibd.backbones.receptive_field import ReceptiveField
from ibd.explain.boxes import (
    as_box,
    connected,
    percentile_box,
    percentile_boxes,
    placed,
    relative_box,
    relative_boxes,
)
from ibd.explain.render import upsample
from ibd.metrics.parts import energy_inside, peak_positions, upsampling

SIZE = (64, 64)


def peaks(*cells, height=1.0, shape=(8, 8)):
    heat = torch.zeros(shape)
    for i, cell in enumerate(cells):
        heat[cell] = height - 0.1 * i
    return heat


def contains(box, point):
    top, left, bottom, right = box
    return top <= point[0] < bottom and left <= point[1] < right


def test_the_relative_box_has_one_of_two_peaks_and_the_published_one_both():
    """The known error: a percentile has no locality."""
    heat = peaks((1, 1), (6, 6))
    centers = (12, 12), (52, 52)
    box, published = relative_box(heat, SIZE), percentile_box(heat, SIZE)
    assert [contains(box, center) for center in centers] == [True, False]
    assert [contains(published, center) for center in centers] == [True, True]
    assert (box[2] - box[0]) * (box[3] - box[1]) < 16 * 16
    assert (published[2] - published[0]) * (published[3] - published[1]) > 32 * 32


def test_a_single_cell():
    """At half its height a bilinear peak is as wide as a cell."""
    assert relative_box(peaks((2, 5)), SIZE) == (16, 40, 24, 48)
    assert relative_box(peaks((2, 5)), SIZE, share=0.9) == (19, 43, 21, 45)
    assert relative_box(peaks((0, 0)), SIZE) == (0, 0, 8, 8)
    assert relative_box(peaks((7, 7)), SIZE) == (56, 56, 64, 64)


@pytest.mark.parametrize(("scale", "shift"), [(1e-4, 0), (1e4, 0), (1, -50), (3, 7)])
def test_scale_and_sign_change_nothing(scale, shift):
    heat = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))
    assert relative_box(heat * scale + shift, SIZE) == relative_box(heat, SIZE)


@pytest.mark.parametrize("box", [relative_box, percentile_box])
@pytest.mark.parametrize("value", [0.0, -3.0, float("nan"), float("inf")])
def test_a_map_without_a_peak_has_the_whole_image(box, value):
    assert box(torch.full((4, 6), value), (32, 48)) == (0, 0, 32, 48)
    assert box(torch.ones(4, 6).index_fill(0, torch.tensor([1]), float("nan")), (32, 48)) == (0, 0, 32, 48)


def test_a_share_of_0_is_the_whole_image_and_of_1_the_peak():
    heat = torch.rand(8, 8, generator=torch.Generator().manual_seed(2))
    assert relative_box(heat, SIZE, 0.0) == (0, 0, 64, 64)
    heat[4, 3] = 2
    top, left, bottom, right = relative_box(heat, SIZE, 1.0)
    assert (bottom - top) * (right - left) == 1
    assert contains((32, 24, 40, 32), (top, left))


def test_of_equal_peaks_the_first_is_taken():
    heat = torch.zeros(8, 8)
    heat[1, 6] = heat[5, 2] = 1
    assert contains(relative_box(heat, SIZE), (12, 52))


def test_the_box_is_around_the_place_that_is_given():
    heat = peaks((1, 1), (6, 6))  # the second one is lower
    maps, centers = heat.expand(3, 8, 8), torch.tensor([[12.0, 12.0], [52.0, 52.0], [30.0, 4.0]])
    first, second, other = relative_boxes(maps, SIZE, around=centers).tolist()
    assert tuple(first) == relative_box(heat, SIZE)
    assert contains(second, (52, 52))
    assert not contains(second, (12, 12))
    assert other == [0, 0, 64, 64]  # where there is nothing at all, the threshold is nothing


def test_the_batch_is_each_alone_at_any_size():
    maps = torch.rand(40, 7, 5, generator=torch.Generator().manual_seed(3))
    maps[3] = 0.5
    size = (224, 200)  # so large that the maps are worked on in parts
    assert relative_boxes(maps, size).tolist() == [list(relative_box(heat, size)) for heat in maps]
    assert percentile_boxes(maps, size).tolist() == [list(percentile_box(heat, size)) for heat in maps]
    assert relative_boxes(maps[:0], size).shape == (0, 4)


def test_the_published_box_is_numpys():
    heat = torch.rand(7, 7, generator=torch.Generator().manual_seed(4))
    large = torch.nn.functional.interpolate(heat[None, None], SIZE, mode="bicubic")[0, 0].numpy()
    rows, columns = np.nonzero(large >= np.percentile(large, 95))
    assert percentile_box(heat, SIZE) == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


def flood(mask, seed):
    """Return the region of a pixel, the slow way."""
    found, waiting = np.zeros_like(mask), [divmod(seed, mask.shape[1])]
    while waiting:
        y, x = waiting.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not found[y, x]:
            found[y, x] = True
            waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return found


def test_connected_is_a_flood_fill():
    generator = torch.Generator().manual_seed(5)
    masks = torch.rand(60, 13, 9, generator=generator) < 0.62
    seeds = torch.randint(13 * 9, (60,), generator=generator)
    found = connected(masks, seeds)
    for mask, seed, region in zip(masks, seeds.tolist(), found, strict=True):
        assert (region.numpy() == flood(mask.numpy(), seed)).all()


def test_connected_follows_a_spiral():
    spiral = torch.zeros(9, 9, dtype=torch.bool)
    spiral[0], spiral[:, 8], spiral[8], spiral[2:, 0], spiral[2, :7], spiral[2:7, 6], spiral[6, 2:7] = (True,) * 7
    assert torch.equal(connected(spiral[None], torch.tensor([0]))[0], spiral)


FIELD = ReceptiveField((15, 15), (8, 8), (0.5, 0.5), (8, 8), (64, 64), whole_image=False)  # of strided convolutions


def test_a_cell_is_drawn_where_its_receptive_field_is_centered():
    """Spread out evenly, the map of a network of strided convolutions lies half a cell too far down and right."""
    maps = peaks((2, 5))[None]
    for field, center in ((None, (20, 44)), (FIELD, (16.5, 40.5))):
        top, left, bottom, right = as_box(relative_boxes(maps, SIZE, field=field)[0])
        assert ((top + bottom) / 2, (left + right) / 2) == pytest.approx(center, abs=0.51)
        found = peak_positions(maps[None], SIZE, field)[0, 0] + 0.5
        assert found.tolist() == pytest.approx(center, abs=0.51)
    even = ReceptiveField((8, 8), (8, 8), (4.0, 4.0), (8, 8), (64, 64), whole_image=False)
    heat = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(placed(heat, SIZE, even), placed(heat, SIZE))
    torch.testing.assert_close(placed(heat, SIZE), upsample(heat[None], SIZE)[0])
    for one, other in zip(upsampling((8, 8), SIZE, "bicubic", even), upsampling((8, 8), SIZE, "bicubic"), strict=True):
        torch.testing.assert_close(one, other)


def test_energy_lies_where_the_cell_looks():
    masks = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    masks[0, 0, 9:24, 33:48] = True  # what cell (2, 5) sees
    maps = peaks((2, 5))[None, None]
    assert float(energy_inside(maps, masks, FIELD)) > float(energy_inside(maps, masks)) + 0.1
    assert float(energy_inside(maps, masks, FIELD)) > 0.98
