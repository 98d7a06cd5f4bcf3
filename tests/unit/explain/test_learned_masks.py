"""Masks that are learned: a patch that alone decides, the stated area, and the smooth largest of kernels by a loop."""

import math

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.learned_masks import ExtremalPerturbation, MeaningfulPerturbation, spread
from ibd.explain.targets import Target

DOWN, ACROSS = slice(8, 16), slice(20, 28)


class Planted(nn.Module):
    """Class 1 is how bright a patch of 8 x 8 pixels is, a twentieth as bright is class 0."""

    def forward(self, image):
        seen = image[:, :, DOWN, ACROSS].mean((1, 2, 3))
        return torch.stack([seen, 20 * seen], 1)


@pytest.fixture
def image():
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.3
    image[:, :, DOWN, ACROSS] += 0.6
    return image


def inside(maps):
    """Return the share of the 64 highest pixels that lie in the patch, the worst of the images."""
    truth = torch.zeros(32, 32)
    truth[DOWN, ACROSS] = 1
    return min(float(truth.flatten()[each.flatten().topk(64).indices].mean()) for each in maps)


def test_the_patch_that_decides_is_what_must_be_covered(image):
    found = MeaningfulPerturbation(baseline="black")(Planted(), image, 1)
    assert inside(found.map) > 0.95
    assert bool((found.extra["score_kept"] < 0.1).all())
    assert float(found.map.mean()) < 0.2  # the patch is a sixteenth of the image
    assert float(found.map.min()) >= 0
    assert found.cost.forwards == 2 * (1 + 1 + 100 + 1)
    assert found.cost.backwards == 2 * 100


@pytest.mark.parametrize("area", [0.0625, 0.25])
def test_the_part_of_a_stated_area_that_keeps_the_score(image, area):
    found = ExtremalPerturbation(area=area, baseline="black")(Planted(), image, 1)
    torch.testing.assert_close(found.extra["area"], torch.full((2,), area), atol=0.3 * area, rtol=0)
    assert float(found.map[:, DOWN, ACROSS].mean()) > 0.8
    assert bool((found.extra["score_kept"] > 0.8).all())


def test_what_speaks_against_a_class_is_found_too(image):
    found = ExtremalPerturbation(area=0.0625, baseline="black")(Planted(), image, -Target.cls(1))
    assert inside(found.map) < 0.1  # all but the patch keeps it low
    assert float(found.map[:, DOWN, ACROSS].mean()) < 0.05


def test_a_mask_hangs_on_nothing_but_its_image_and_target(image):
    explain = MeaningfulPerturbation(steps=30, cells=8, batch_size=3)
    several = explain(Planted(), image, Target.classes([0, 1]))
    torch.testing.assert_close(several.map[1, 1], explain(Planted(), image[1:], 1).map[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(several.map[:, 0], several.map[:, 1], atol=1e-3, rtol=0)  # a scale is no reason


def test_spread_is_the_soft_largest_of_kernels():
    grid = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(1))
    sigma, reach = 1.2, 3

    def kernel(down, across):
        return math.exp(-2 * max(0.0, math.hypot(down, across) / sigma - 0.5) ** 2)

    def soft_largest(values):
        weights = [math.exp(20 * value) for value in values]
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)

    offsets = [(a, b) for a in range(-reach, reach + 1) for b in range(-reach, reach + 1)]
    most = soft_largest([kernel(*offset) for offset in offsets])
    for row in range(5):
        for column in range(5):
            heard = []
            for down, across in offsets:
                inside = 0 <= row + down < 5 and 0 <= column + across < 5
                heard.append(float(grid[0, row + down, column + across]) * kernel(down, across) if inside else 0.0)
            expected = min(1.0, soft_largest(heard) / most)
            assert float(spread(grid, sigma)[0, row, column]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExtremalPerturbation(area=1.5), "area: 1.5 given, a share above 0 and below 1 is needed"),
        (lambda: MeaningfulPerturbation(steps=0), "steps: 0 given, at least 1 is needed"),
        (lambda: MeaningfulPerturbation(area=-1), "area: -1 given, at least 0 is needed"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
