"""Activations and gates within a network that is seen as a linear map."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.backbones import Linearized

ACTIVATIONS = [
    *(nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.GELU, nn.Mish, nn.ELU, nn.SELU, nn.CELU),
    *(nn.Tanh, nn.Softsign, nn.Softshrink, nn.Tanhshrink, nn.ReLU, nn.LeakyReLU, nn.Hardshrink),
]


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_factors(kind):
    for options in [{}] + [{"inplace": True}] * hasattr(kind(), "inplace"):
        layer = kind(**options)
        x = torch.linspace(-8, 8, 33, dtype=torch.float64).requires_grad_()  # 0 among them
        with Linearized():
            given = x * 1
            y = layer(given)
            (gradient,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(y, layer(x.detach().clone()))
        torch.testing.assert_close(gradient * x, y)
        assert (y.data_ptr() == given.data_ptr()) is bool(options)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x.sigmoid(),
        lambda x: x * torch.sigmoid(x),
        lambda x: x * F.hardsigmoid(x),
        lambda x: x * nn.Sigmoid()(x) * (3 * x).sigmoid_(),
        lambda x: x * x.softmax(0) + x * F.softmax(x, dim=0),
        lambda x: x.clamp(-1, 6) + torch.clamp(x, max=2, min=0) + x.clamp(0, max=3) + torch.tanh(x),
        lambda x: x / x.square().sum().clamp(min=1e-6, max=10.0).detach(),
    ],
)
def test_gates_and_clamps_are_factors(function):
    x = torch.linspace(-8, 8, 33, dtype=torch.float64).requires_grad_()
    with Linearized():
        y = function(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y, function(x.detach()))
    torch.testing.assert_close((gradient * x), y)
