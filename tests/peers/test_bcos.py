"""Our B-cos layers and accounts against the authors' package bcos 0.1.3 (extra `peers`)."""

import pytest
import torch
from torch import nn

from ibd.backbones.bcos.layers import BcosConv2d, BcosLinear
from ibd.backbones.bcos.linearized import Linearized

theirs = pytest.importorskip("bcos.modules")

SHAPES = [(6, 8, 3, 1, 1, 1), (6, 8, 3, 2, 1, 2), (8, 4, 1, 1, 0, 1), (6, 8, 7, 2, 3, 1)]


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_convolution(shape, b):
    torch.manual_seed(0)
    channels, outputs, kernel, stride, padding, groups = shape
    ours = BcosConv2d(channels, outputs, kernel, stride, padding, groups=groups, b=b).double()
    other = theirs.BcosConv2d(channels, outputs, kernel, stride, padding, groups=groups, b=b).double()
    other.linear.weight.data.copy_(ours.weight.detach())
    x = torch.randn(2, channels, 11, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), other(x), rtol=1e-9, atol=1e-12)


def test_the_same_linear_layer():
    torch.manual_seed(0)
    ours, other = BcosLinear(6, 4, b=2.0).double(), theirs.BcosLinear(6, 4, b=2).double()
    other.linear.weight.data.copy_(ours.weight.detach())
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), other(x), rtol=1e-5, atol=1e-9)


def test_the_same_account():
    """The gradient with the factors held constant: their explanation mode, our `Linearized`."""
    torch.manual_seed(0)
    ours = nn.Sequential(BcosConv2d(6, 8, 3, 2, 1, b=2.0), BcosConv2d(8, 3, 3, b=2.0)).double()
    other = nn.Sequential(theirs.BcosConv2d(6, 8, 3, 2, 1), theirs.BcosConv2d(8, 3, 3)).double()
    for mine, layer in zip(ours, other, strict=True):
        layer.linear.weight.data.copy_(mine.weight.detach())
        layer.set_explanation_mode(True)
    x = torch.rand(2, 6, 9, 9, dtype=torch.float64, requires_grad=True)
    with Linearized():
        (mine,) = torch.autograd.grad(ours(x)[:, 1].sum(), x)
    (yours,) = torch.autograd.grad(other(x)[:, 1].sum(), x)
    torch.testing.assert_close(mine, yours, rtol=1e-9, atol=1e-12)
