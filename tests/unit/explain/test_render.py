"""Colors mean what the caption says; grids are labeled, whole, and saved."""

import numpy as np
import pytest
import torch
from matplotlib import image as files
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ibd.errors import ConfigError
from ibd.explain.render import BLUE, RED, color_map, grid_figure, normalization_note, overlay, strongest

MAPS = torch.tensor([[[0.0, 1.0], [-2.0, 0.5]], [[0.0, 4.0], [8.0, -4.0]]])


def test_a_diverging_map_is_white_at_zero_red_above_blue_below():
    found = color_map(MAPS)
    assert found.shape == (2, 2, 2, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 0], [1, 1, 1])
    np.testing.assert_allclose(found[0, 1, 0], BLUE, atol=1e-6)
    np.testing.assert_allclose(found[1, 1, 0], RED, atol=1e-6)
    np.testing.assert_allclose(found[0, 0, 1], (1 + RED) / 2, atol=1e-6)
    np.testing.assert_allclose(color_map(-MAPS)[1, 1, 0], BLUE, atol=1e-6)
    np.testing.assert_allclose(color_map(MAPS * 7), found, atol=1e-6)


def test_normalizations():
    assert strongest(MAPS).flatten().tolist() == [2, 8]
    assert strongest(MAPS, "shared").flatten().tolist() == [8, 8]
    many = torch.arange(1000.0).view(1, 20, 50)
    assert strongest(many, "percentile").item() == 989
    assert strongest(many * (many > 995), "percentile").item() == 999  # 99 % of it is 0: its largest
    np.testing.assert_allclose(color_map(MAPS, normalization="shared")[0, 1, 0], 0.75 + 0.25 * BLUE, atol=1e-6)
    assert (color_map(many, normalization="percentile")[0, -1, -10:] == RED).all()
    assert (color_map(torch.zeros(2, 3)) == 1).all()
    with pytest.raises(ConfigError, match="normalization: 'mean'"):
        color_map(MAPS, normalization="mean")
    with pytest.raises(ConfigError, match="scale: 'rainbow'"):
        color_map(MAPS, "rainbow")


def test_a_sequential_map_grows_lighter_and_shows_nothing_below_zero():
    light = color_map(torch.linspace(0, 1, 9).view(1, 9), "sequential")[0].mean(1)
    assert (np.diff(light) > 0).all()
    np.testing.assert_allclose(color_map(MAPS, "sequential")[0, 1, 0], color_map(MAPS, "sequential")[0, 0, 0])


def test_overlay_is_painted_with_the_same_strength():
    heat, image = torch.tensor([[4.0, 0.0], [-2.0, 1.0]]), torch.full((3, 2, 2), 0.5)
    np.testing.assert_allclose(overlay(image, heat), overlay(image, heat, scale=4.0), atol=1e-6)


def test_a_grid_is_labeled_says_its_normalization_and_is_saved(tmp_path):
    pictures = [torch.rand(3, 8, 8), MAPS[0], np.random.default_rng(0).random((8, 8, 3)), MAPS[1], torch.rand(3, 9, 5)]
    titles = ["a bird", "what it\nrests on", "c", "d", "e"]
    path = tmp_path / "grid.png"
    figure = grid_figure(pictures, titles, columns=3, caption="five things", normalization="shared", path=path)
    assert [axis.get_title() for axis in figure.axes] == [*titles, ""]
    caption = figure.get_supxlabel().replace("\n", " ")
    assert caption.startswith("five things")
    assert normalization_note("diverging", "shared") in " ".join(caption.split())
    np.testing.assert_allclose(figure.axes[1].images[0].get_array()[1, 0], 0.75 + 0.25 * BLUE, atol=1e-6)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), pictures[0].permute(1, 2, 0))
    assert files.imread(path).shape[2] == 4
    FigureCanvasAgg(figure).draw()
    for text in (*(axis.title for axis in figure.axes), figure._supxlabel):
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y0 >= -1
        assert box.y1 <= figure.bbox.height + 1


def test_a_grid_of_pictures_alone_says_nothing_of_maps():
    figure = grid_figure([torch.rand(3, 4, 4)] * 9)
    assert figure.get_supxlabel() == ""
    assert len(figure.axes) == 16
    for given in ([], [torch.rand(3, 4, 4)]):
        with pytest.raises(ConfigError, match="one for each is needed"):
            grid_figure(given, ["a", "b"])


@pytest.mark.parametrize("caption", ["", "a line below"])
def test_titles_of_two_lines_are_not_cut_at_the_top(tmp_path, caption):
    figure = grid_figure([torch.ones(3, 8, 8)] * 6, ["a hill:\na barn"] * 6, caption=caption)
    figure.savefig(tmp_path / "grid.png", dpi=120)
    assert (files.imread(tmp_path / "grid.png")[:3, :, :3] > 0.9).all()
