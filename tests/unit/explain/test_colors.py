"""The colors of a linear map, by hand."""

import numpy as np
import torch

from ibd.explain.colors import own_colors


def test_a_pixel_has_the_color_that_is_asked_for_and_the_opacity_of_what_it_adds():
    weights = torch.zeros(6, 1, 4)
    weights[:, 0, 0] = torch.tensor([2.0, 0.0, 0.0, 0.0, 2.0, 2.0])  # red, and no green and blue
    weights[:, 0, 1] = torch.tensor([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])  # a quarter of white
    weights[:, 0, 2] = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0, 0.0])  # no say in red
    heat = torch.tensor([[4.0, 1.0, 2.0, -9.0]])
    picture = own_colors(weights, heat)
    assert picture.shape == (1, 4, 4)
    np.testing.assert_allclose(picture[0, 0], [1, 0, 0, 1], atol=1e-6)
    # of 3 x 3 pixels that are there: means 5 / 2, 7 / 3, -2 and -7 / 2
    np.testing.assert_allclose(picture[0, 1], [0.25, 0.25, 0.25, 14 / 15], atol=1e-6)
    np.testing.assert_allclose(picture[0, 2], [0.5, 0.5, 1, 0], atol=1e-6)  # what speaks against is not drawn
    np.testing.assert_allclose(picture[0, 3], [0.5, 0.5, 0.5, 0], atol=1e-6)


def test_a_few_strong_pixels_do_not_fade_the_rest_and_nothing_is_nothing():
    heat = torch.ones(2, 40, 50)
    heat[0, 0, 0] = 1000.0
    heat[1] = -1.0
    picture = own_colors(torch.ones(2, 6, 40, 50), heat)
    assert float(picture[0, ..., 3].min()) == 1.0
    assert not picture[1, ..., 3].any()
