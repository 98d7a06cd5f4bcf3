"""B-cos layers against the formula, written out patch by patch."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.backbones.bcos import parts as cut
from ibd.backbones.bcos.alignment import EPSILON, aligned
from ibd.backbones.bcos.layers import BcosConv2d, BcosLinear, TwoSided, UncenteredNorm2d
from ibd.backbones.bcos.linearized import Linearized
from ibd.comparison.probes.randomize import randomizable, randomize
from ibd.errors import ConfigError

WINDOWS = [
    (3, 1, 1, 1),
    (3, 2, 1, 1),
    (4, 2, 1, 1),
    (1, 1, 0, 1),
    (1, 2, 0, 1),
    (3, 1, 2, 2),
    ((3, 1), (1, 2), (1, 0), 1),
]


def reference(layer, x):
    """Return what the formula says, by patches that are laid side by side."""
    window, groups = layer.window, layer.window.groups
    shape = (window.kernel, window.dilation, window.padding, window.stride)
    patches = F.unfold(x.reshape(-1, x.shape[1] // groups, *x.shape[2:]), *shape).unflatten(0, (len(x), groups))
    weight = layer.weight / layer.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    product = torch.einsum("bgip,goi->bgop", patches, weight.view(groups, -1, weight[0].numel()))
    product = product.unflatten(2, (layer.max_out, -1)).amax(2)
    cosine = product / (patches.square().sum(2, keepdim=True) + EPSILON).sqrt()
    return (product * cosine.abs() ** (layer.b - 1)).flatten(1, 2)


@pytest.mark.parametrize("b", [1.0, 1.3, 1.5, 1.75, 2.0, 2.25, 2.5])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_the_formula_and_so_is_its_gradient(b, groups):
    torch.manual_seed(0)
    for number, (kernel, stride, padding, dilation) in enumerate(WINDOWS):
        layer = BcosConv2d(4, 6, kernel, stride, padding, dilation, groups, b, max_out=1 + number % 2).double()
        x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
        y = layer(x)
        expected = reference(layer, x).view_as(y)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-12)
        pull = torch.randn_like(y)
        mine = torch.autograd.grad(y, (x, layer.weight), pull)
        theirs = torch.autograd.grad(expected, (x, layer.weight), pull)
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_a_unit_answers_to_its_direction_by_hand():
    layer = BcosConv2d(2, 1, 1, b=2.0).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([7.0, 0.0]).view(1, 2, 1, 1))  # of which only the direction counts
    along, across, between = torch.tensor([[3.0, 0.0], [0.0, 3.0], [3.0, 3.0]]).double()
    image = torch.stack([along, across, between, -along]).view(4, 2, 1, 1)
    expected = torch.tensor([3.0, 0.0, 3.0 * math.cos(math.pi / 4), -3.0]).double()
    torch.testing.assert_close(layer(image).flatten(), expected, rtol=1e-6, atol=1e-9)


def test_the_norm_of_a_weight_counts_where_it_is_asked_to():
    torch.manual_seed(0)
    unit, scaled = BcosConv2d(3, 4, 3, b=1.75).double(), BcosConv2d(3, 4, 3, b=1.75, unit_norm=False).double()
    scaled.load_state_dict(unit.state_dict())
    x = torch.randn(2, 3, 6, 6).double()
    norm = unit.weight.detach().flatten(1).norm(dim=1).view(1, -1, 1, 1)
    torch.testing.assert_close(scaled(x), unit(x) * norm)
    plain = BcosConv2d(3, 4, 3, b=1.0, unit_norm=False).double()
    torch.testing.assert_close(plain(x), F.conv2d(x, plain.weight))


def test_a_linear_layer_is_a_convolution_of_one_pixel():
    torch.manual_seed(0)
    linear, convolution = BcosLinear(5, 3, b=1.6, max_out=2).double(), BcosConv2d(5, 3, 1, b=1.6, max_out=2).double()
    with torch.no_grad():
        convolution.weight.copy_(linear.weight[:, :, None, None])
    x = torch.randn(4, 5).double()
    torch.testing.assert_close(linear(x), convolution(x[:, :, None, None]).flatten(1))


@pytest.mark.parametrize("b", [1.75, 2.0])
def test_linearized_the_gradient_times_the_input_is_the_output(b):
    torch.manual_seed(0)
    network = nn.Sequential(
        BcosConv2d(6, 8, 3, 2, 1, b=b, max_out=2), UncenteredNorm2d(8), BcosConv2d(8, 3, 3, b=b), nn.AvgPool2d(2)
    )
    network.double().eval()[1].running_square.uniform_(0.1, 2)
    x = torch.rand(2, 6, 12, 12).double().requires_grad_()
    with Linearized():
        y = network(x)
        (gradient,) = torch.autograd.grad(y[:, 1].sum(), x)
    torch.testing.assert_close(y, network(x))
    torch.testing.assert_close((gradient * x).sum((1, 2, 3)), y[:, 1].sum((1, 2)), rtol=1e-12, atol=1e-12)
    (true,) = torch.autograd.grad(network(x)[:, 1].sum(), x)
    assert not torch.allclose(true, gradient)  # the factors depend on the input, and only then


def test_a_blank_input_is_no_trouble():
    x = torch.zeros(1, 3, 5, 5, requires_grad=True)
    layer = BcosConv2d(3, 2, 3, padding=1, b=1.75)
    y = layer(x)
    y.sum().backward()
    assert bool((y == 0).all())
    assert bool(x.grad.isfinite().all())
    assert bool(layer.weight.grad.isfinite().all())


def test_parts_of_a_batch_are_the_batch(monkeypatch):
    torch.manual_seed(0)
    layer, norm = BcosConv2d(3, 4, 3, b=1.75).double(), UncenteredNorm2d(4).double()
    x = torch.randn(5, 3, 6, 6).double().requires_grad_()

    def run():
        y = norm(layer(x))
        return y, *torch.autograd.grad(y.square().sum() + y[0, 0].sum(), (x, layer.weight, norm.weight))

    whole = run()
    monkeypatch.setattr(cut, "_CACHED", 70)
    torch.testing.assert_close(run(), whole)


def test_a_norm_is_over_the_root_mean_square_and_centers_nothing():
    norm = UncenteredNorm2d(1).double()
    x = torch.tensor([3.0, 3.0, 3.0, -1.0]).double().view(2, 1, 1, 2)  # mean square 7
    torch.testing.assert_close(norm(x), x / 7**0.5, rtol=1e-5, atol=0)
    assert norm.running_square.item() == pytest.approx(7)  # the first batch is all that is known
    norm(2 * x)
    assert norm.running_square.item() == pytest.approx(0.9 * 7 + 0.1 * 28)
    torch.testing.assert_close(norm.eval()(x), x / 9.1**0.5, rtol=1e-5, atol=0)
    tiny = UncenteredNorm2d(1).double()
    torch.testing.assert_close(tiny(1e-3 * x), x / 7**0.5, rtol=1e-3, atol=0)  # no channel is damped for being small


def test_a_random_norm_still_has_positive_mean_squares():
    torch.manual_seed(0)
    network = nn.Sequential(BcosConv2d(3, 64, 1), UncenteredNorm2d(64))
    network[1].running_square.uniform_(1e-4, 1e-2)
    before = network[1].running_square.clone()
    randomize(network, randomizable(network))
    assert float(network[1].running_square.min()) > 0
    assert not torch.allclose(network[1].running_square, before)
    assert bool(network.eval()(torch.rand(1, 3, 4, 4)).isfinite().all())


def test_the_gradient_of_the_norm_is_that_of_the_formula():
    torch.manual_seed(0)
    norm = UncenteredNorm2d(3).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 4, 5).double().requires_grad_()
    pull = torch.randn_like(x)
    written = x * norm.weight.view(1, -1, 1, 1) / (x.square().mean((0, 2, 3), keepdim=True) + norm.eps).sqrt()
    theirs = torch.autograd.grad(written, (x, norm.weight), pull)
    torch.testing.assert_close(torch.autograd.grad(norm(x), (x, norm.weight), pull), theirs)


def test_channels_last_and_half_precision():
    torch.manual_seed(0)
    network = nn.Sequential(BcosConv2d(3, 4, 3, b=1.75), UncenteredNorm2d(4))
    x = torch.randn(2, 3, 6, 6)
    y = network(x)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), y)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    assert half.dtype == torch.float32  # products are in bfloat16, what follows is not
    torch.testing.assert_close(half, y, rtol=0.1, atol=0.1)


def test_a_network_in_half_precision_stays_in_it():
    torch.manual_seed(0)
    network = nn.Sequential(BcosConv2d(3, 4, 3, b=1.75), UncenteredNorm2d(4), BcosConv2d(4, 2, 1)).bfloat16()
    x = torch.randn(2, 3, 6, 6, dtype=torch.bfloat16)
    for training in (True, False):
        y = network.train(training)(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.float(), network.float()(x.float()), rtol=0.1, atol=0.1)
        network.bfloat16()


@pytest.mark.slow
@pytest.mark.parametrize("b", [1.6, 1.75, 2.5])
def test_compiled_it_has_the_same_gradient_also_where_nothing_is(b):
    torch.manual_seed(0)
    layer = BcosConv2d(3, 4, 3, b=b).double()
    x = torch.randn(2, 3, 8, 8).double()
    x[:, :, :4, :4] = 0
    x.requires_grad_()
    compiled = torch.compile(layer, backend="aot_eager")
    (mine,) = torch.autograd.grad(layer(x).square().sum(), x)
    (theirs,) = torch.autograd.grad(compiled(x).square().sum(), x)
    assert bool(theirs.isfinite().all())
    torch.testing.assert_close(theirs, mine, rtol=1e-6, atol=1e-9)


def test_two_sides_of_an_image():
    image = torch.tensor([0.25, 0.5, 1.0]).view(1, 3, 1, 1)
    assert TwoSided()(image).flatten().tolist() == [0.25, 0.5, 1.0, 0.75, 0.5, 0.0]


def test_modes_see_one_operation_that_scales_its_first_argument():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        BcosConv2d(3, 4, 3)(torch.randn(1, 3, 5, 5))
    assert aligned in seen
    assert aligned.relevance == "scaled"


@pytest.mark.parametrize(("options", "said"), [({"b": 0.5}, "b: 0.5 given"), ({"max_out": 0}, "max_out: 0 given")])
def test_options_are_checked(options, said):
    with pytest.raises(ConfigError, match=said):
        BcosConv2d(3, 4, 3, **options)
