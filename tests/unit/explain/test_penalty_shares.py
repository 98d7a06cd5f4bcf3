"""Penalties by their share of the first gain: the weight is the one by hand, and no share leaves a gray image."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.feature_visualization import (
    L2,
    Blur,
    Colors,
    HighFrequency,
    Norm,
    Objective,
    Pixels,
    Roughness,
    TotalVariation,
    maximize_activation,
)
from ibd.explain.feature_visualization.softening import softening
from ibd.explain.feature_visualization.weighing import Penalties


class Linear(nn.Module):
    """Two logits of 12 x 12 images: a filter of stripes, times a factor, and none."""

    def __init__(self, factor):
        super().__init__()
        stripes = torch.where(torch.arange(12) % 4 < 2, 1.0, -1.0).expand(3, 12, 12)
        self.weight = nn.Parameter(factor * stripes / stripes.numel())

    def forward(self, image):
        logit = ((image - 0.5) * self.weight).sum((1, 2, 3))
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def test_the_weight_is_the_share_of_the_gain_over_the_penalty():
    """By hand: gains of 3 and 5 until step 2 of 16, the lead; penalties of 0.25 and 0.04 there."""
    penalties = Penalties([L2(share=0.4)], 16)
    images = torch.tensor([[0.5, 0.5], [0.75, 0.6], [1.0, 0.7]])  # of one pixel, at steps 0, 1 and later
    values = torch.tensor([[1.0, 2.0], [4.0, 2.5], [2.0, 7.0]])
    found = [
        float(penalties(images[min(step, 2)].view(2, 1, 1, 1), values[min(step, 2)], step)) for step in (0, 1, 2, 3)
    ]
    assert found[:2] == [0, 0]
    assert found[2] == pytest.approx(0.4 * 3 + 0.4 * 5)  # the best so far counts, not the last
    assert found[3] == pytest.approx(found[2])
    halved = float(penalties(torch.tensor([0.75, 0.7]).view(2, 1, 1, 1), values[2], 9))
    assert halved == pytest.approx(0.4 * 3 / 4 + 0.4 * 5)  # the weight stays, the penalty is a quarter


def test_noise_that_is_taken_for_the_class_is_weighed_by_its_gain_over_gray():
    """By hand: the first is at 5 and stays there, gray at 1; the second starts at 0 below gray, and gains 3."""
    penalties = Penalties([L2(share=0.4)], 16, gray=lambda: torch.tensor([1.0, 2.0]))
    image, values = torch.full((2, 1, 1, 1), 1.0), torch.tensor([[5.0, 0.0], [5.0, 3.0], [4.0, 3.0]])
    found = [float(penalties(image, values[step], step)) for step in range(3)]
    assert found[:2] == [0, 0]
    assert found[2] == pytest.approx(0.4 * 4 + 0.4 * 3)


def test_an_image_of_its_class_from_the_start_is_made_smoother():
    """Half of the noise goes, as it does where the class is still to be reached."""
    noise = 0.5 + 0.2 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    start = (noise + Linear(1.0).weight.detach().sign()).clamp(0, 1)
    options = {"steps": 60, "transforms": None, "start": start, "parametrization": Pixels(Colors.independent())}
    model = Linear(60.0)
    assert float(model(start.unsqueeze(0)).softmax(1)[0, 0].detach()) > 0.999
    made = maximize_activation(model, Objective.cls(0), penalties=[TotalVariation(share=0.9)], **options)
    assert float(TotalVariation().size(made.image)) < 0.6 * float(TotalVariation().size(start.unsqueeze(0)))


def test_an_image_without_a_gain_waits_for_its_weight():
    penalties = Penalties([L2(share=0.5)], 8)
    image = torch.full((1, 1, 1, 1), 1.0)
    found = [float(penalties(image, torch.tensor([value]), step)) for step, value in enumerate((1.0, 0.5, 1.0, 3.0))]
    assert found == [0, 0, 0, 1.0]


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(
    "penalty", [TotalVariation, Blur, HighFrequency, L2, Norm, Roughness], ids=lambda kind: kind.__name__
)
def test_no_penalty_leaves_a_gray_image_whatever_the_scale(penalty, factor):
    """The filter of a model a thousand times stronger, or weaker, comes out the same: the weight goes with it."""
    options = {"size": 12, "steps": 48, "transforms": None, "parametrization": Pixels(Colors.independent())}
    made = maximize_activation(Linear(factor), Objective.cls(0, "logit"), penalties=[penalty(share=0.9)], **options)
    moved = made.image[0] - 0.5
    stripes = Linear(1.0).weight.detach().sign()
    assert float((moved * stripes).mean()) > 0.03
    assert float(made.value) > 0
    assert float(made.probability) == pytest.approx(float(made.value.sigmoid()), abs=1e-5)


def test_a_weight_of_ones_own_takes_the_place_of_the_share():
    image = torch.rand(2, 3, 5, 6)
    torch.testing.assert_close(TotalVariation(weight=4.0)(image), 4 * TotalVariation()(image))
    fixed = Penalties([TotalVariation(weight=4.0)], 16)
    assert float(fixed(image, torch.zeros(2), 0)) == pytest.approx(float(4 * TotalVariation()(image).sum()))


def test_mistakes_in_shares():
    with pytest.raises(ConfigError, match=r"share: 1\.5 given, above 0 and at most 1"):
        TotalVariation(share=1.5)
    with pytest.raises(ConfigError, match=r"their shares are 1\.2 in all"):
        Penalties([TotalVariation(share=0.6), Blur(share=0.6)], 8)
    with pytest.raises(ConfigError, match=r"gradient_blur: -1\.0 given"):
        maximize_activation(Linear(1.0), Objective.cls(0), 12, gradient_blur=-1.0)


def test_norm_and_roughness_are_those_of_mahendran_and_vedaldi():
    image = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    expected = ((2 * image - 1) ** 6).mean((1, 2, 3))
    torch.testing.assert_close(Norm()(image), expected)
    dx, dy = image[:, :, :-1, 1:] - image[:, :, :-1, :-1], image[:, :, 1:, :-1] - image[:, :, :-1, :-1]
    torch.testing.assert_close(Roughness()(image), (dx**2 + dy**2).mean((1, 2, 3)))
    torch.testing.assert_close(Roughness(power=1.0)(image), (dx**2 + dy**2).sqrt().mean((1, 2, 3)))


def test_a_gradient_is_blurred_on_its_way_back():
    """A point becomes a Gaussian, whose sigma goes from the first to the last."""
    softened = softening((2.0, 0.0), 11)
    place = torch.arange(21.0) - 10
    for step, sigma in ((0, 2.0), (5, 1.0)):
        image = torch.rand(1, 1, 21, 21, requires_grad=True)
        (gradient,) = torch.autograd.grad(softened(image * 1, step)[0, 0, 10, 10], image)
        bell = torch.exp(-0.5 * (place / sigma) ** 2) * (place.abs() <= 3 * sigma)
        torch.testing.assert_close(gradient[0, 0], torch.outer(bell, bell) / bell.sum() ** 2)
    last = torch.rand(1, 1, 21, 21, requires_grad=True)
    (gradient,) = torch.autograd.grad(softened(last * 1, 10)[0, 0, 10, 10], last)
    assert float(gradient[0, 0, 10, 10]) == 1


def test_a_blurred_gradient_leaves_fine_noise_out():
    """A filter of a checkerboard and of halves: the first step draws the halves alone."""
    model = Linear(1.0)
    board = torch.where((torch.arange(12)[:, None] + torch.arange(12)) % 2 == 0, 3.0, -3.0)
    halves = torch.where(torch.arange(12) < 6, 1.0, -1.0).expand(12, 12)
    model.weight.data = (board + halves).expand(3, 12, 12).clone()
    options = {"steps": 1, "transforms": None, "start": torch.full((3, 12, 12), 0.5)}
    options["parametrization"] = Pixels(Colors.independent())
    sharp, soft = (
        maximize_activation(model, Objective.cls(0, "logit"), gradient_blur=sigma, **options).image[0, 0] - 0.5
        for sigma in (0.0, 1.5)
    )
    assert torch.equal(sharp.sign(), board.sign())
    assert torch.equal(soft.sign()[:, [0, 1, 2, 3, 8, 9, 10, 11]], halves[:, [0, 1, 2, 3, 8, 9, 10, 11]])


def test_the_probability_rises_where_a_logit_would_rise_with_all_others():
    """Both logits rise with brightness, the other one more: the first is probable in a dark image alone."""

    class Bright(nn.Module):
        def forward(self, image):
            light = image.mean((1, 2, 3))
            return torch.stack([10 * light, 20 * light], 1)

    options = {"size": 8, "steps": 60, "channels": 3, "transforms": None}
    by_logit = maximize_activation(Bright(), Objective.cls(0, "logit"), **options)
    by_default = maximize_activation(Bright(), Objective.cls(0), **options)
    assert float(by_logit.value) > 7
    assert float(by_logit.probability) < 0.01
    assert float(by_default.probability) > 0.05
