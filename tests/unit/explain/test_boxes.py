"""Boxes: one peak and not another, whatever the scale; what a map without a peak gives; the published one."""

import numpy as np
import pytest
import torch

from ibd.explain.boxes import aligned, connected, percentile_box, percentile_boxes, relative_box, relative_boxes
from ibd.metrics.parts import peak_positions

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
    centres = (12, 12), (52, 52)
    box, published = relative_box(heat, SIZE), percentile_box(heat, SIZE)
    assert [contains(box, centre) for centre in centres] == [True, False]
    assert [contains(published, centre) for centre in centres] == [True, True]
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
    maps, centres = heat.expand(3, 8, 8), torch.tensor([[12.0, 12.0], [52.0, 52.0], [30.0, 4.0]])
    first, second, other = relative_boxes(maps, SIZE, around=centres).tolist()
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


@pytest.mark.parametrize("extent", [1, 2, 3, 4])
def test_a_map_over_larger_patches_is_not_stretched(extent):
    cells, size = 8, 128
    for row in range(1, cells - extent):
        maps = peaks((row, 2), shape=(cells - extent + 1,) * 2)[None, None]
        whole = aligned(maps, extent)
        assert whole.shape == (1, 1, cells, cells)
        middle = (row + extent / 2) * size / cells  # of the patch
        assert float(peak_positions(whole, (size, size))[0, 0, 0]) == pytest.approx(middle - 0.5, abs=0.51)
        top, _, bottom, _ = relative_box(whole[0, 0], (size, size))
        assert (top + bottom) / 2 == pytest.approx(middle, abs=0.51)
