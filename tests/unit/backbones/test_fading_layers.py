"""Layers half way from a plain to a B-cos network: by hand, and against the formula."""

import pytest
import torch
from torch import nn

from ibd.backbones import set_fade
from ibd.backbones.bcos.fading_layers import FadingConv2d, FadingLinear, FadingNorm


def norm_of_four(**settings):
    """Return a normalization of one channel, and values in it of mean 2 and variance 3."""
    norm = nn.BatchNorm2d(1, eps=1e-12, **settings).double()
    nn.init.constant_(norm.weight, 4.0)
    nn.init.constant_(norm.bias, 2.0)
    return FadingNorm(norm), torch.tensor([3.0, 3.0, 3.0, -1.0], dtype=torch.float64).view(2, 1, 1, 2)


@pytest.mark.parametrize(("fade", "high", "low"), [(0.0, 4 / 3**0.5 + 2, -12 / 3**0.5 + 2), (0.5, 5.0, -3.0)])
@pytest.mark.parametrize("training", [True, False])
def test_by_hand_a_norm_fades(fade, high, low, training):
    """Half faded: d is 2 and -2, the mean of its square is 4, and half of the bias is 1."""
    norm, x = norm_of_four()
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(3.0)
    set_fade(norm, fade)
    expected = torch.tensor([high, high, high, low], dtype=torch.float64).view_as(x)
    torch.testing.assert_close(norm.train(training)(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_by_hand_a_faded_norm_is_over_the_root_mean_square(training):
    norm, x = norm_of_four()
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(3.0)
    set_fade(norm, 1.0)
    torch.testing.assert_close(norm.train(training)(x), 4 * x / 7**0.5, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("momentum", "mean", "var"), [(0.1, 0.2, 1.3), (None, 2.0, 4.0)])
def test_running_statistics_are_those_of_batch_normalization(momentum, mean, var):
    norm, x = norm_of_four(momentum=momentum)
    set_fade(norm, 0.7)
    norm(x)
    assert norm.running_mean.item() == pytest.approx(mean)
    assert norm.running_var.item() == pytest.approx(var)


@pytest.mark.parametrize("affine", [True, False])
def test_the_gradient_of_a_norm_is_that_of_the_formula(affine):
    torch.manual_seed(0)
    norm = FadingNorm(nn.BatchNorm2d(3, affine=affine).double())
    x = (torch.randn(2, 3, 4, 5).double() + 1).requires_grad_()
    weight, bias = torch.ones(3), torch.zeros(3)
    if affine:
        weight, bias = nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    set_fade(norm, 0.3)
    d = x - 0.7 * x.mean((0, 2, 3), keepdim=True)
    written = weight.view(-1, 1, 1) * d / (d.square().mean((0, 2, 3), keepdim=True) + norm.eps).sqrt()
    written = written + 0.7 * bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), written)
    pull, wanted = torch.randn_like(x), (x, *norm.parameters())
    expected = torch.autograd.grad(written, wanted, pull)
    torch.testing.assert_close(torch.autograd.grad(norm(x), wanted, pull), expected)


@pytest.mark.parametrize(
    ("fade", "expected"), [(0.0, [13.0, 35.0]), (0.5, [3 * 0.6 + 5, 30.0]), (1.0, [3 * 0.36, 25.0])]
)
@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_by_hand_a_convolution_fades(fade, expected, kind):
    """Its weights are (3, 4), of norm 5, its bias is 10, and its B goes to 3; (1, 0) has a cosine of 3 / 5."""
    plain = (nn.Conv2d(2, 1, 1) if kind == "convolution" else nn.Linear(2, 1)).double()
    x = torch.tensor([[1.0, 0.0], [3.0, 4.0]]).double()
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([3.0, 4.0]).view_as(plain.weight))
        plain.bias.fill_(10.0)
    layer = FadingConv2d.of(plain, 3.0) if kind == "convolution" else FadingLinear(plain, 3.0)
    x = x.view(2, 2, 1, 1) if kind == "convolution" else x
    set_fade(layer, fade)
    torch.testing.assert_close(layer.eval()(x).flatten(), torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)
    gradient = torch.autograd.grad(layer.train()(x).sum(), layer.bias)[0]  # several processes wait for each
    assert gradient.item() == pytest.approx(2 * (1 - fade))
