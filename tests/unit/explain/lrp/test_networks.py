"""Networks of every family, and the same computation written in other ways."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from ibd.explain.lrp import LRP, Choice, Composite, ZPlus
from ibd.explain.targets import Target
from ibd.models.baseline.lightning import Baseline
from tests import model_makers as makers
from tests.lrp_makers import perturb

COMPOSITES = ["epsilon", "epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat", "deep_taylor"]
FAMILIES = {
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "vgg11_bn": 32,
    "densenet121": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "efficientnet_b0": 32,
    "convnext_tiny": 32,
    "googlenet": 64,
    "inception_v3": 75,
    "regnet_y_400mf": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 64,
    "mnasnet0_5": 32,
}
"""torchvision's name -> pixels."""
OTHERS = ["resnet50", "vgg16", "densenet169", "mobilenet_v3_large", "efficientnet_v2_s", "convnext_small"]


def build(name, biases, dtype=torch.float64):
    torch.manual_seed(0)
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = models.get_model(name, weights=None, num_classes=7, **more)
    if name == "vgg11_bn":  # a gigabyte less
        model.classifier = nn.Sequential(nn.Linear(25088, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 7))
    return perturb(model, biases=biases).to(dtype)


def pixels(size, dtype=torch.float64, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)


def check(name, size, composite, biases):
    model, image = build(name, biases), pixels(size)
    found = LRP(composite)(model, image, 3)
    with torch.no_grad():
        torch.testing.assert_close(found.value, model(image)[:, 3], rtol=1e-12, atol=0)
    torch.testing.assert_close(found.extra["conservation"], torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-3)
    assert found.map.shape == (2, size, size)
    assert found.map.isfinite().all()
    if not biases:
        torch.testing.assert_close(found.map.sum((1, 2)), found.value, rtol=1e-3, atol=0)
        assert not found.extra["bias"].any()


LARGE = ("resnext50_32x4d", "vgg11_bn")
WITH_BIASES = ("resnet18", "squeezenet1_1")
"""Of these a second composite is quick."""


def cases():
    """Return (family, composite, biases): all of them, most of them slow."""
    for name in FAMILIES:
        for composite in COMPOSITES:
            for biases in (False, True):
                quick = (composite, biases) == ("epsilon_plus", False) and name not in LARGE
                quick |= (composite, biases) == ("epsilon_gamma_box", True) and name in WITH_BIASES
                yield pytest.param(name, composite, biases, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize(("name", "composite", "biases"), cases())
def test_relevance_is_conserved_and_the_value_is_the_models(name, composite, biases):
    check(name, FAMILIES[name], composite, biases)


@pytest.mark.slow
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1"])
@pytest.mark.parametrize("name", OTHERS)
def test_more_of_the_families(name, composite, biases):
    check(name, 64, composite, biases)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_single_precision(name):
    found = LRP()(build(name, False, torch.float32), pixels(32, torch.float32), 3)
    torch.testing.assert_close(found.extra["conservation"], torch.ones(2), rtol=0, atol=1e-3)
    exact = LRP()(build(name, False), pixels(32, torch.float32).double(), 3)
    assert float((found.map - exact.map).norm() / exact.map.norm()) < 1e-2


def test_epsilon_is_gradient_times_input_without_biases():
    model, image = build("resnet18", False), pixels(32).requires_grad_()
    (gradient,) = torch.autograd.grad(model(image)[:, 3].sum(), image)
    found = LRP("epsilon")(model, image.detach(), 3)
    torch.testing.assert_close(found.map, (gradient * image).detach().sum(1), rtol=1e-9, atol=1e-12)


class Reused(nn.Module):
    def __init__(self, shared):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.conv = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
        self.again = self.conv if shared else copy.deepcopy(self.conv)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.first(x).relu()
        x = F.relu(self.conv(x))
        return self.head(F.relu(self.again(x)).mean((2, 3)))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_module_used_twice_is_like_two_modules(composite):
    maps = [LRP(composite)(Reused(shared).double(), pixels(9), 2).map for shared in (True, False)]
    assert torch.equal(*maps)


class Modules(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.left = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.right = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU())
        self.act, self.pool, self.mean = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.left(x)
        y += x
        y = self.pool(torch.cat([self.act(y), self.right(x)], 1))
        return self.head(self.mean(y).flatten(1))


class Functions(Modules):
    """The same, by functions."""

    def forward(self, x):
        convolution, norm = self.stem[0], self.stem[1]
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        x = torch.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))
        y = torch.add(self.left(x), x).clamp(min=0)
        y = torch.cat((y, torch.relu_(self.right[0](x))), dim=1)
        y = F.max_pool2d(y, 2).flatten(2).mean(-1)
        return y @ self.head.weight.T + self.head.bias


class NormFirst(Modules):
    """The same, its modules registered in another order."""

    def __init__(self):
        super().__init__()
        self.left = nn.ModuleDict({"norm": self.left[1], "conv": self.left[0]})
        self.left.forward = None

    def forward(self, x):
        x = self.stem(x)
        y = self.act(x + self.left["norm"](self.left["conv"](x)))
        y = self.pool(torch.cat([y, self.right(x)], 1))
        return self.head(self.mean(y).flatten(1))


@pytest.mark.parametrize("other", [Functions, NormFirst])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_how_it_is_written_makes_no_difference(other, composite):
    maps = [LRP(composite)(perturb(Modules()).double(), pixels(8), 2).map]
    model = perturb(Modules()).double()
    twin = other().double().eval()
    for mine, its in zip(model.parameters(), twin_parameters(twin), strict=True):
        its.data = mine.data
    for mine, its in zip(model.buffers(), twin.buffers(), strict=True):
        its.data = mine.data
    maps.append(LRP(composite)(twin, pixels(8), 2).map)
    torch.testing.assert_close(*maps, rtol=1e-9, atol=1e-12)


def twin_parameters(twin):
    order = [twin.stem[0], twin.stem[1]]
    order += [twin.left["conv"], twin.left["norm"]] if isinstance(twin.left, nn.ModuleDict) else list(twin.left)
    return [each for part in (*order, twin.right[0], twin.head) for each in (part.weight, part.bias)]


def test_a_merged_normalization_is_a_convolution_with_its_weights():
    model = perturb(Modules()).double()
    merged = copy.deepcopy(model)
    for part in (merged.stem, merged.left):
        part[0] = torch.nn.utils.fuse_conv_bn_eval(part[0], part[1])
        part[1] = nn.Identity()
    for composite in COMPOSITES:
        maps = [LRP(composite)(each, pixels(8), 2).map for each in (model, merged)]
        torch.testing.assert_close(*maps, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_several_targets_are_as_one_after_the_other():
    model, image = build("resnet18", True), pixels(32)
    together = LRP()(model, image, Target.classes([1, 5, 2]))
    assert together.map.shape == (2, 3, 32, 32)
    for k, index in enumerate((1, 5, 2)):
        alone = LRP()(model, image, index)
        torch.testing.assert_close(together.map[:, k], alone.map)
        torch.testing.assert_close(together.extra["bias"][:, k], alone.extra["bias"])
    each = LRP()(model, image, Target.cls([1, 5]))
    torch.testing.assert_close(each.map, torch.stack([together.map[0, 0], together.map[1, 1]]))
    difference = LRP()(model, image, Target.cls(1) - Target.cls(5)).map
    torch.testing.assert_close(difference, together.map[:, 0] - together.map[:, 1])
    assert (together.cost.forwards, together.cost.backwards) == (2, 6)


@pytest.mark.slow
def test_images_do_not_depend_on_each_other():
    model, image = build("resnet18", True), pixels(32, count=3)
    together = LRP("epsilon_alpha2_beta1")(model, image, 2).map
    alone = torch.cat([LRP("epsilon_alpha2_beta1")(model, each.unsqueeze(0), 2).map for each in image])
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-12)


def test_conservation_by_layer():
    found = LRP(layers=True)(build("resnet18", True), pixels(32), 2)
    layers = {name.removeprefix("layer: "): value for name, value in found.extra.items() if name.startswith("layer: ")}
    assert {"conv1", "layer1.0.conv1", "layer4.0.downsample.0", "fc"} <= set(layers)
    assert len(layers) == 21
    for value in layers.values():
        torch.testing.assert_close(value, torch.ones(2, dtype=torch.float64))
    shared = LRP(layers=True)(Reused(True).double(), pixels(9), 2).extra
    assert {"layer: conv", "layer: conv #2"} <= set(shared)


def test_a_bias_that_is_added_later_is_a_bias():
    class Later(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight, None, self.stride, self.padding) + self.bias.view(-1, 1, 1)

    model = perturb(Modules()).double()
    twin = copy.deepcopy(model)
    twin.left[0].__class__ = twin.right[0].__class__ = Later
    for composite in COMPOSITES:
        maps = [LRP(composite)(each, pixels(8), 2).map for each in (model, twin)]
        torch.testing.assert_close(*maps, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_ignored_biases_get_nothing():
    found = LRP(bias="ignore")(build("resnet18", True), pixels(32), 2)
    torch.testing.assert_close(found.map.sum((1, 2)), found.value)
    assert float(LRP()(build("resnet18", True), pixels(32), 2).extra["bias"].abs().min()) > 0


def test_places_are_names_within_the_network():
    """A rule for a place in one of our training modules is taken, whether or not its name begins with ``network.``."""
    module, image = Baseline(makers.SPEC, makers.SMALL).eval(), torch.rand(1, 3, 16, 16)
    by_rule = Composite((Choice(ZPlus(), kind="conv"),))
    expected = LRP(by_rule)(module, image, 1).map
    for place in ("backbone.*", "network.backbone.*"):
        torch.testing.assert_close(LRP(Composite((Choice(ZPlus(), place=place),)))(module, image, 1).map, expected)
    assert not torch.allclose(LRP("epsilon")(module, image, 1).map, expected)
