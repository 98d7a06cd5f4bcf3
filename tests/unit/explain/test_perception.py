"""What a person sees: gratings whose frequency and contrast are known."""

import itertools
import math

import pytest
import torch

from ibd.errors import ConfigError
from ibd.explain.perception import PEAK, contrast_sensitivity, frequency_bands, sight_of
from ibd.explain.render import overlay

SIZE = 64


def grating(periods, contrast, left=True):
    """Return a gray image with a grating of the luminance's contrast, upright waves, in its left half or everywhere."""
    x = torch.arange(SIZE, dtype=torch.float64) / SIZE
    wave = torch.sin(2 * math.pi * periods * x)
    if left:
        wave = wave * (x < 0.5)
    luminance = 0.2 * (1 + contrast * wave)
    gray = 1.055 * luminance.pow(1 / 2.4) - 0.055  # a screen's code for it
    return gray.float().expand(3, SIZE, SIZE).contiguous()


def test_sensitivity_is_that_of_mannos_and_sakrison():
    f = torch.tensor([8.0, 0.5, 30.0])
    assert float(contrast_sensitivity(f)[0]) == pytest.approx(PEAK, rel=0.01)
    wanted = PEAK / 0.98 * 2.6 * (0.0192 + 0.114 * 30) * math.exp(-((0.114 * 30) ** 1.1))
    assert float(contrast_sensitivity(f)[2]) == pytest.approx(wanted)
    assert contrast_sensitivity(f).argmax() == 0


def test_bands_add_up_and_hold_their_own_frequency():
    image = torch.rand(2, 40, 56, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coarse, bands = frequency_bands(image)
    assert torch.allclose(coarse + torch.stack(bands).sum(0), image)
    # 8 periods in 64 pixels: exp(-2 (pi f s)^2) is left by a Gaussian of the deviation s.
    left = [1.0, *(math.exp(-2 * (math.pi * s / 8) ** 2) for s in (1, 2, 4))]
    found = [float(band[:, :, 24:40].abs().max()) for band in frequency_bands(grating(8, 0.01, left=False).double())[1]]
    wave = float(grating(8, 0.01, left=False).double()[0].sub(grating(8, 0.0).double()[0]).abs().max())
    assert found[:3] == pytest.approx([wave * (a - b) for a, b in itertools.pairwise(left)], rel=0.03)


@pytest.mark.parametrize(("contrast", "seen"), [(0.0, False), (0.002, False), (0.05, True), (0.5, True)])
def test_a_grating_is_seen_above_the_threshold(contrast, seen):
    """16 periods in 4 degrees are 4 a degree: the threshold is 1 over about 170."""
    found = sight_of(grating(16, contrast), degrees=4.0)
    assert bool(found.places[:, 8:24].all()) is seen
    assert not found.places[:, 44:].any()  # where nothing is, nothing is seen
    if not seen:
        assert float(found.image.std()) < 2e-4
        assert not found.places.any()


def test_far_away_fine_waves_vanish_and_coarse_ones_stay():
    image = grating(16, 0.1)
    assert sight_of(image, 4.0).places.any()
    assert not sight_of(image, 0.2).places.any()  # 80 periods a degree: nobody sees that
    assert sight_of(grating(4, 0.3), 0.4).places.any()


def test_what_is_not_seen_is_not_painted():
    image = grating(16, 0.5)
    heat = torch.ones(SIZE, SIZE)
    kept, removed = sight_of(image, 4.0).seen(heat)
    assert 0.2 < removed < 0.5  # of the right half, less what the soft edge of the bands reaches
    assert (kept[:, 44:] == 0).all()
    painted, plain = overlay(image, heat, degrees=4.0), overlay(image, heat * 0)
    assert (painted[:, 44:] == plain[:, 44:]).all()
    assert abs(painted[:, 8:24] - plain[:, 8:24]).max() > 0.3
    assert sight_of(image, 4.0).seen(heat * 0)[1] == 0
    with pytest.raises(ConfigError, match="degrees: 0 given"):
        sight_of(image, 0)
