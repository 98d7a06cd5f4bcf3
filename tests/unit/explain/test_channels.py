"""Images of one channel, of five, and models in half precision: visualizations and figures."""

import numpy as np
import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError
from ibd.explain.explanation_figures import explanations_figure
from ibd.explain.feature_visualization import (
    Colors,
    Decoder,
    Fourier,
    Objective,
    Pixels,
    maximize_activation,
    visualization_sheet,
)
from ibd.explain.gradients import Saliency
from ibd.explain.pixels import pixels_of
from ibd.explain.render import grid_figure
from tests.explainer_makers import Functional


class Wide(Functional):
    """Takes images of any number of channels."""

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 5, 3, stride=2, padding=1)


class Mean(nn.Module):
    """One logit for each channel: its mean. What maximizes it is white there."""

    def __init__(self, channels):
        super().__init__()
        self.pick = nn.Conv2d(channels, channels, 1, bias=False)
        self.pick.weight.data = torch.eye(channels).view(channels, channels, 1, 1)

    def forward(self, image):
        return self.pick(image).mean((2, 3))


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("parametrization", [None, "pixels"])
def test_the_channel_that_is_asked_for_becomes_white(channels, parametrization):
    kind = Pixels(Colors.independent(channels)) if parametrization else None
    made = maximize_activation(
        Mean(channels),
        Objective.cls(channels - 1, "logit"),
        16,
        steps=100,
        lr=0.2,
        parametrization=kind,
        transforms=None,
    ).image
    assert made.shape == (1, channels, 16, 16)
    assert float(made[:, -1].mean()) > 0.8
    assert channels == 1 or abs(float(made[:, :-1].mean()) - 0.5) < 0.1  # the others are left alone


def test_how_many_channels_there_are():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 2))
    make = {"size": 6, "steps": 2, "transforms": None}
    assert maximize_activation(flat, Objective.cls(0), channels=4, **make).image.shape == (1, 4, 6, 6)
    start = torch.rand(4, 6, 6)
    assert maximize_activation(flat, Objective.cls(0), start=start, steps=2).image.shape == (1, 4, 6, 6)
    with pytest.raises(DataError, match="start: the images have 4 channels, but channels=3 is asked for"):
        maximize_activation(flat, Objective.cls(0), start=start, channels=3)
    with pytest.raises(
        ConfigError, match=r"colors: these have 3 channels, but the images 5: .*Colors.independent\(5\)"
    ):
        maximize_activation(Wide(5), Objective.cls(0), 16, steps=2, parametrization=Fourier())


@pytest.mark.parametrize("channels", [1, 5])
def test_colors_of_images(channels):
    given = torch.rand(6, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    colors = Colors.of(given)
    logits = torch.randn(2, channels, 4, 4)
    torch.testing.assert_close(colors.mix(colors.unmix(logits)), logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", [Objective.cls(1, "logit"), Objective.channel("pick", 1)])
def test_models_in_half_precision(dtype, objective):
    """Green is asked for: the image is green."""
    model = Mean(3).to(dtype)
    kind = Fourier(Colors.independent())
    made = maximize_activation(model, objective, 16, steps=100, lr=0.2, parametrization=kind, transforms=None)
    assert made.image.dtype == torch.float32
    assert float(made.image[:, 1].mean()) > 0.8
    assert abs(float(made.image[:, ::2].mean()) - 0.5) < 0.1
    decoder = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 3, 16), nn.Sigmoid())
    made = maximize_activation(model, objective, 16, steps=2, parametrization=Decoder(decoder.to(dtype), 4))
    assert made.image.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("channels", [1, 5])
def test_a_sheet_of_classes(channels):
    given = torch.rand(6, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    assert visualization_sheet(Wide(channels), given, classes=[0, 2], steps=2).axes


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_a_picture_of_other_channels_is_their_mean_in_gray(channels):
    image = torch.rand(channels, 4, 6, generator=torch.Generator().manual_seed(0))
    shown = pixels_of(image)
    assert shown.shape == (4, 6, 3)
    np.testing.assert_allclose(shown, np.repeat(image.mean(0).numpy()[..., None], 3, 2), rtol=1e-6)
    model, batch = Wide(channels), torch.rand(2, channels, 16, 18)
    figure = explanations_figure(batch, [Saliency()(model, batch, 0)], ["a", "b"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), pixels_of(batch[0]))
    figure = grid_figure([image, torch.rand(4, 6, 3)])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), shown)


def test_colors_stay_and_what_is_cut_off_is_said():
    image = torch.rand(3, 4, 3)
    np.testing.assert_array_equal(pixels_of(image), image.permute(1, 2, 0).numpy())
    with pytest.warns(UserWarning, match="pictures are drawn of images from 0 to 1, and values outside are clipped"):
        assert pixels_of(4 * image - 2).max() <= 1
