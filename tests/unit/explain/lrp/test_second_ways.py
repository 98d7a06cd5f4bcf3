"""Operations whose relevance is known: the same network written another way, or a closed form."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.backbones.small import CifarResNet
from ibd.errors import UnsupportedError
from ibd.explain.lrp import LRP, operations as ops

COMPOSITES = ["epsilon", "epsilon_plus", "epsilon_gamma_box"]


class Net(nn.Module):
    """Two convolutions, an operation between them, and a mean."""

    def __init__(self, operation, bias=True, between=4):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1, bias=bias)
        self.operation = operation
        self.second = nn.Conv2d(between, 5, 3, bias=bias)
        self.head = nn.Linear(5, 3, bias=bias)

    def forward(self, x):
        x = F.relu(self.second(self.operation(self.first(x))))
        return self.head(x.mean((2, 3)))


def image():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def explained(operation, composite="epsilon", **options):
    network = Net(operation, **options).double().eval()
    torch.manual_seed(7)  # of what the operation draws
    return LRP(composite)(network, image(), 1)


def same(found, wanted):
    torch.testing.assert_close(found.value, wanted.value, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.map, wanted.map, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.extra["bias"], wanted.extra["bias"], rtol=1e-9, atol=1e-14)


# --- random numbers in evaluation mode -------------------------------------------------------------------------------

MASKED = {
    "F.dropout": lambda x: F.dropout(x, 0.5),
    "F.dropout, in place": lambda x: F.dropout(x * 1, 0.5, True, True),
    "torch.dropout": lambda x: torch.dropout(x, 0.5, True),
    "F.dropout1d": lambda x: F.dropout1d(x.flatten(2), 0.5).view(x.shape),
    "F.dropout2d": lambda x: F.dropout2d(x, 0.5),
    "F.dropout3d": lambda x: F.dropout3d(x.unsqueeze(2), 0.5).squeeze(2),
    "torch.feature_dropout": lambda x: torch.feature_dropout(x, 0.5, True),
}
"""Each multiplies by a mask that it draws; of ones it returns the mask."""


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", MASKED)
def test_a_mask_is_drawn_once(name, composite):
    torch.manual_seed(7)
    mask = MASKED[name](torch.ones(2, 4, 8, 8, dtype=torch.float64))
    assert 0 < float(mask.count_nonzero()) < mask.numel()
    with pytest.warns(UserWarning, match="draws random numbers in evaluation mode: value and map come from one"):
        found = explained(MASKED[name], composite)
    same(found, explained(lambda x: x * mask, composite))


def draw(function):
    """Return what a function draws after the seed."""
    torch.manual_seed(7)
    return function(torch.empty(2, 4, 8, 8, dtype=torch.float64))


RANDOM = {
    "rand_like": (lambda x: x * torch.rand_like(x), lambda n: lambda x: x * n, torch.rand_like),
    "randn_like": (lambda x: x + torch.randn_like(x), lambda n: lambda x: x + n, torch.randn_like),
    "rand": (lambda x: x * torch.rand(x.shape), lambda n: lambda x: x * n, lambda x: torch.rand(x.shape)),
    "bernoulli_": (
        lambda x: x * torch.empty_like(x).bernoulli_(0.5),
        lambda n: lambda x: x * n,
        lambda x: x.bernoulli_(0.5),
    ),
}


@pytest.mark.filterwarnings("ignore:lrp. the model draws random numbers")
@pytest.mark.parametrize("name", RANDOM)
def test_noise_that_a_model_adds_is_a_constant(name):
    operation, written, noise = RANDOM[name]
    same(explained(operation), explained(written(draw(noise))))


@pytest.mark.filterwarnings("ignore:lrp. the model draws random numbers")
def test_a_random_slope_is_drawn_once():
    found = explained(lambda x: F.rrelu(x, training=True), bias=False)
    network = Net(lambda x: F.rrelu(x, training=True), bias=False).double()
    torch.manual_seed(7)
    with torch.no_grad():
        value = network(image())[:, 1]
    torch.testing.assert_close(found.value, value)
    torch.testing.assert_close(found.map.sum((1, 2)), value)


REFUSED = {
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, 0.5, training=True),
    "bernoulli": lambda x: x * torch.bernoulli(x.sigmoid()),
    "gumbel_softmax": lambda x: x * F.gumbel_softmax(x, dim=1),
    "uniform_": lambda x: x.clone().uniform_(),
    "normal": lambda x: torch.normal(x, 1.0),
    "poisson": lambda x: torch.poisson(x.relu()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_draws_by_the_image_is_refused_and_why(name):
    with pytest.raises(UnsupportedError, match=f"no rule for '{name}', which draws random numbers,"):
        explained(REFUSED[name])


def test_dropout_that_is_off_is_nothing():
    for module in (nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.RReLU(1.0, 1.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = explained(module)
        same(found, explained(lambda x: x))


# --- operations that were refused for a wrong reason -----------------------------------------------------------------

EVEN = [
    (2, 1, (0, 1, 0, 1)),
    ((2, 3), 1, (1, 1, 0, 1)),
    (2, 3, (1, 2, 1, 2)),
    ((4, 2), (1, 2), (1, 1, 1, 2)),
]
"""Kernel, dilation, and the padding written out: left, right, top, bottom."""


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize(("kernel", "dilation", "padding"), EVEN)
def test_padding_same_of_an_even_kernel(kernel, dilation, padding, composite):
    """Also where it reads the image: as zeros around it, written out."""
    torch.manual_seed(0)
    made = nn.Conv2d(4, 4, kernel, dilation=dilation, padding="same").double()
    plain = nn.Conv2d(4, 4, kernel, dilation=dilation).double()
    plain.load_state_dict(made.state_dict())
    same(explained(made, composite), explained(nn.Sequential(nn.ZeroPad2d(padding), plain), composite))
    torch.manual_seed(0)
    first = nn.Conv2d(3, 3, kernel, dilation=dilation, padding="same").double()
    head = nn.Linear(3, 2).double()
    found = LRP(composite)(nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head), image(), 1)
    torch.testing.assert_close(found.extra["conservation"], torch.ones(2).double(), rtol=1e-9, atol=0)
    assert found.map.shape == (2, 8, 8)


def test_instance_normalization_by_running_statistics_is_batch_normalization():
    torch.manual_seed(0)
    instance = nn.InstanceNorm2d(4, affine=True, track_running_stats=True).double()
    batch = nn.BatchNorm2d(4).double()
    for each in (instance.weight, instance.bias, instance.running_mean):
        nn.init.uniform_(each)
    nn.init.uniform_(instance.running_var, 0.5, 2.0)
    batch.load_state_dict(instance.state_dict())
    for composite in COMPOSITES:
        same(explained(instance, composite), explained(batch, composite))


def test_log_sigmoid_is_minus_softplus_of_minus():
    """At 0 it is -log 2, which is a bias: what is left of ``log sigmoid(x)`` goes to x."""
    same(explained(F.logsigmoid), explained(lambda x: x - F.softplus(x)))
    found = LRP("epsilon")(nn.Sequential(nn.Flatten(), nn.LogSigmoid()), image()[:, :1, :1, :2], 1)
    torch.testing.assert_close(found.extra["bias"], -torch.full((2,), 2.0).double().log())


def test_a_threshold_is_a_gate_on_itself():
    same(explained(nn.Threshold(0.1, 0.0)), explained(lambda x: x * (x.detach() > 0.1)))


MODULES = [
    *(nn.ELU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardswish(), nn.LeakyReLU(), nn.LogSigmoid()),
    *(nn.PReLU(), nn.ReLU(), nn.ReLU6(), nn.RReLU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.Sigmoid(), nn.SiLU()),
    *(nn.Mish(), nn.Softplus(), nn.Softshrink(), nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 2.0)),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_every_activation_of_torch_has_a_rule(module):
    """By the names that torch gives its functions, which are not always those of the modules."""
    found = explained(module)
    torch.testing.assert_close(found.extra["conservation"], torch.ones(2).double(), rtol=1e-9, atol=0)


def test_names_of_the_table_are_names_of_torch():
    for name in {name for name in ops.ACTIVATIONS if not name.endswith("_")} | ops.NORMS | ops.DRAWN | ops.REPLACED:
        found = [getattr(place, name, None) for place in (torch, torch.Tensor, F, torch._C._nn)]
        assert any(getattr(each, "__name__", None) == name for each in found), name


def test_weights_made_in_inference_mode_are_weights():
    with torch.inference_mode():
        frozen = Net(nn.Identity()).double()
    same(LRP("epsilon")(frozen, image(), 1), explained(nn.Identity()))


# --- biases that are passed on ---------------------------------------------------------------------------------------


def test_a_bias_is_passed_on_by_the_size_of_contributions():
    """``y = x1 + x2 + 3`` at (1, -1): the inputs add up to 0, and each gets half of the 3 beside its own."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    nn.init.ones_(network[1].weight)
    nn.init.constant_(network[1].bias, 3.0)
    found = LRP("epsilon", bias="ignore")(network, torch.tensor([1.0, -1.0]).view(1, 1, 1, 2), 0)
    torch.testing.assert_close(found.map, torch.tensor([[[2.5, 0.5]]]))
    absorbed = LRP("epsilon")(network, torch.tensor([1.0, -1.0]).view(1, 1, 1, 2), 0)
    torch.testing.assert_close(absorbed.map, torch.tensor([[[1.0, -1.0]]]))
    nothing = LRP("epsilon", bias="ignore")(network, torch.zeros(1, 1, 1, 2), 0)
    assert not nothing.map.any()
    torch.testing.assert_close(nothing.extra["bias"], torch.tensor([3.0]))


def biased(norm_first=False):
    """Return a residual network of 20 layers whose batch normalizations shift as much as they scale."""
    torch.manual_seed(0)
    backbone = CifarResNet(depth=20, width=8)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.bias)
    shift = [nn.BatchNorm2d(32), nn.ReLU()] if norm_first else []
    for module in shift[:1]:
        nn.init.normal_(module.bias)
    return nn.Sequential(backbone, *shift, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)).double().eval()


@pytest.mark.parametrize("composite", [*COMPOSITES, "epsilon_alpha2_beta1"])
def test_twenty_layers_that_ignore_large_biases_are_stable(composite):
    found = LRP(composite, bias="ignore")(biased(), image(), 1)
    torch.testing.assert_close(found.map.sum((1, 2)), found.value, rtol=1e-6, atol=0)
    assert bool((found.map.abs().sum((1, 2)) < 100 * found.value.abs()).all())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.Softplus()])
def test_shifts_of_a_value_by_itself_are_never_passed_on(activation):
    """A normalization after a sum, a sigmoid: there is no contribution to share by but a value that may be near 0."""
    network = biased(norm_first=True)
    network[2] = activation
    for composite in COMPOSITES:
        found = LRP(composite, bias="ignore")(network, image(), 1)
        torch.testing.assert_close(found.extra["conservation"], torch.ones(2).double(), rtol=1e-6, atol=0)
        assert bool((found.map.abs().sum((1, 2)) < 100 * found.value.abs()).all())
        assert bool(found.extra["bias"].any())
