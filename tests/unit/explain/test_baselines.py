"""What takes the place of pixels, by closed forms of linear models; images that are not from 0 to 1."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.baselines import checked_baseline, covered_with
from ibd.explain.cam import ScoreCAM
from ibd.explain.gradients import IntegratedGradients, Saliency
from ibd.explain.perturbation import Occlusion, Rise
from ibd.explain.smoothgrad import SmoothGrad
from tests.explainer_makers import Functional, explainer, images

IMAGES = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COLOR = (0.2, 0.5, 0.9)
PICTURE = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def color(values=COLOR):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1).expand_as(IMAGES)


BASELINES = {
    "a number": (0.3, torch.full_like(IMAGES, 0.3)),
    "a whole number": (1, torch.ones_like(IMAGES)),
    "0": (0.0, torch.zeros_like(IMAGES)),
    "black": ("black", torch.zeros_like(IMAGES)),
    "mean": ("mean", IMAGES.mean((2, 3), keepdim=True).expand_as(IMAGES)),
    "tuple": (COLOR, color()),
    "list": (list(COLOR), color()),
    "numpy": (np.array(COLOR), color()),
    "tensor of channels": (torch.tensor(COLOR, dtype=torch.float64), color()),
    "tensor of a number": (torch.tensor(0.3, dtype=torch.float64), torch.full_like(IMAGES, 0.3)),
    "image": (PICTURE, PICTURE.expand_as(IMAGES)),
}


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(60, 4)).double()


@pytest.mark.parametrize("name", BASELINES)
def test_integrated_gradients_of_a_linear_model_are_its_weights_times_the_way(name):
    given, baseline = BASELINES[name]
    model = linear()
    found = IntegratedGradients(steps=3, baseline=given)(model, IMAGES, 2)
    wanted = (model[1].weight[2].view(3, 4, 5) * (IMAGES - baseline)).sum(1)
    torch.testing.assert_close(found.map, wanted.detach())
    torch.testing.assert_close(found.extra["completeness"], torch.zeros(2).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_occlusion_of_a_linear_model_is_what_its_windows_lose(name):
    """Windows of one pixel: the weight times how far the pixel is from what covers it."""
    given, baseline = BASELINES[name]
    model = linear()
    found = Occlusion(window=1, stride=1, baseline=given)(model, IMAGES, 2)
    wanted = (model[1].weight[2].view(3, 4, 5) * (IMAGES - baseline)).sum(1)
    torch.testing.assert_close(found.map, wanted.detach())


def test_out_of_focus():
    found = IntegratedGradients(steps=3, baseline="blur")(linear(), IMAGES, 2)
    wanted = (linear()[1].weight[2].view(3, 4, 5) * (IMAGES - covered_with(IMAGES, "blur"))).sum(1)
    torch.testing.assert_close(found.map, wanted.detach())


def test_by_a_layer_it_is_what_the_layer_puts_out_for_it():
    model, image = Functional().eval(), images(2)
    found = IntegratedGradients("second", steps=20, baseline=COLOR)(model, image, 1)
    with torch.no_grad():
        start = model(torch.tensor(COLOR).view(1, 3, 1, 1).expand_as(image))[:, 1]
    torch.testing.assert_close(found.units.sum(1), found.value - start, rtol=1e-2, atol=1e-4)


WRONG = {
    "'white' is not one of mean, black, blur, a number, a number for each channel, or an image": "white",
    "bool is not one of mean": True,
    "values that are not finite": float("nan"),
    "values that are not finite.": (0.1, float("inf"), 0.2),
    "NoneType is not one of|None is not one of": None,
    "is not one of mean, black": {"red": 1},
    r"Tensor of shape \(2, 3, 4, 5\) is not one of": IMAGES,
    r"tuple of shape \(0,\) is not one of": (),
    r"\(0.1, 'a'\) is not one of": (0.1, "a"),
    "complex is not one of": 1j,
    r"list of shape \(1, 3\) is not one of": [[0.1, 0.2, 0.3]],
}


@pytest.mark.parametrize("make", [IntegratedGradients, Occlusion, Rise])
@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_baseline_is_refused_at_once(message, make):
    with pytest.raises(ConfigError, match=message.removesuffix(".")) as caught:
        make(baseline=WRONG[message])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda given: IntegratedGradients(baseline=given), lambda given: Occlusion(baseline=given)]
)
def test_of_another_size_than_the_images(make):
    with pytest.raises(
        ConfigError, match=r"baseline: values of shape \(2,\) for images of \(3, 4, 5\): \(3,\) is needed"
    ):
        make((0.1, 0.2))(linear(), IMAGES, 0)
    with pytest.raises(ConfigError, match=r"shape \(3, 5, 4\) for images of \(3, 4, 5\): \(3, 4, 5\) is needed"):
        make(PICTURE.transpose(1, 2))(linear(), IMAGES, 0)


def test_a_baseline_that_was_checked_stays():
    for given in (*(given for given, _ in BASELINES.values()), "blur"):
        once = checked_baseline(given)
        torch.testing.assert_close(covered_with(IMAGES, once), covered_with(IMAGES, given))
        assert type(checked_baseline(once)) is type(once)


# --- images that are not from 0 to 1 ---------------------------------------------------------------------------------

NORMALIZED = (images(2) - 0.5) / 0.25


def surrogate(row, **options):
    return type(explainer(row))(samples=8, grid=2, **options)


TOLD = {
    "occlusion": lambda: Occlusion(9, 7, baseline="black"),
    "occlusion, gray": lambda: Occlusion(9, 7, baseline=0.5),
    "rise": lambda: Rise(masks=4, cells=3, baseline="black"),
    "integrated_gradients": lambda: IntegratedGradients(steps=2),
    "smoothgrad": lambda: SmoothGrad({"name": "integrated_gradients", "steps": 2}, n=2),
    "scorecam": lambda: ScoreCAM(),
    "lime": lambda: surrogate("lime", baseline="black"),
    "kernel_shap": lambda: surrogate("kernel_shap", baseline="black"),
}
UNTOLD = {
    "occlusion": lambda: Occlusion(9, 7),
    "occlusion, blur": lambda: Occlusion(9, 7, baseline="blur"),
    "rise": lambda: Rise(masks=4, cells=3, baseline=(-2.0, -1.8, -1.9)),
    "integrated_gradients": lambda: IntegratedGradients(steps=2, baseline=(-2.0, -1.8, -1.9)),
    "saliency": Saliency,
}


@pytest.mark.parametrize("row", TOLD)
def test_what_black_is_to_normalized_images_is_said_once(row):
    method = TOLD[row]()
    name = {"smoothgrad": "integrated_gradients"}.get(row, method.name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method(Functional(), NORMALIZED, 1)
    (message,) = [str(each.message) for each in caught if "the images range" in str(each.message)]
    assert message.startswith(f"'{name}': the images range from -2 to 2, so ")
    assert "put the normalization into the model" in message
    assert "\n" not in message
    assert row == "smoothgrad" or caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TOLD[row]()(Functional(), images(2), 1)


@pytest.mark.parametrize("row", UNTOLD)
def test_what_means_the_same_on_any_scale_says_nothing(row):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        UNTOLD[row]()(Functional(), NORMALIZED, 1)


class Normalize(nn.Module):
    """As docs/explainers.md has it."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, image):
        return (image - self.mean) / self.std


def test_a_normalization_before_the_model_is_another_scale_of_the_same():
    """Black in [0, 1] is what becomes of 0; given as such to the network alone the map is the same."""
    network, image = Functional().double(), images(2).double()
    wrapped = nn.Sequential(Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]), network).double()
    inside = wrapped[0](image)
    black = wrapped[0](torch.zeros(1, 3, 1, 1, dtype=torch.float64)).flatten()
    for make in (lambda b: Occlusion(9, 7, baseline=b), lambda b: IntegratedGradients(steps=5, baseline=b)):
        torch.testing.assert_close(make("black")(wrapped, image, 1).map, make(black)(network, inside, 1).map)
