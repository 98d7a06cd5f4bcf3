"""What every explainer promises, on every kind of model."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd import registry
from ibd.errors import UnsupportedError
from ibd.explain.cam import AblationCAM, EigenCAM, GradCAM, HiResCAM
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.perturbation import Occlusion, Rise
from ibd.explain.targets import Target, logits_of
from tests.explainer_makers import (
    APART,
    EXPLAINERS,
    MODELS,
    REPEATED,
    ROWS,
    SEEDED,
    WITH_UNITS,
    Functional,
    explainer,
    images,
    make,
    refused,
)
from tests.model_state import check_untouched, snapshot

BLIND = ("occlusion", "rise", "lime", "kernel_shap")
"""Those that see nothing but scores: two models are as good as all."""

FEW = ("intrinsic", "smoothgrad", "cam", "gradcam", "eigencam", "lrp")
"""Those that are asked of every model; of the others, what sees gradients alike is quick on two."""


def cases(models):
    """Return all pairs of a row and a model; those that add little are slow."""
    pairs = itertools.product(EXPLAINERS, models)
    little = {
        pair: pair[0] in REPEATED
        or (pair[0] in BLIND and pair[1] not in ("cbm", "functional"))
        or (pair[0] not in FEW and pair[1] not in ("cbm", "functional"))
        for pair in pairs
    }
    return [pytest.param(*pair, marks=[pytest.mark.slow] if slow else []) for pair, slow in little.items()]


def close(one, other, tolerance=1e-4, value=0.0):
    """Check a map, of differences of a value, which is rounded, too: by another number of targets in other ways."""
    scale = float(other.abs().max()) + 1e-12
    rounding = 16 * torch.finfo(other.dtype).eps * float(torch.as_tensor(value).abs().max())
    assert float((one - other).abs().max()) <= tolerance * scale + rounding


def test_every_explainer_is_in_the_table():
    assert set(registry.names("explainers")) <= set(EXPLAINERS)
    for name in registry.names("explainers"):
        made = EXPLAINERS[name]()
        assert made.name == name
        assert isinstance(made, registry.resolve("explainers", name))


@pytest.mark.parametrize(("row", "model"), cases([model for model in MODELS if model != "resnet18"]))
def test_the_call(row, model):
    explain, network, image = explainer(row), make(model), images()
    if words := refused(row, model):
        with pytest.raises(UnsupportedError, match=words):
            explain(network, image, 1)
        return
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    before = snapshot(network)
    answer = explain(network, image, Target.cls(1))
    check_untouched(network, before)
    assert answer.map.shape == (3, 33, 38)
    assert answer.map.isfinite().all()
    assert not answer.map.requires_grad
    assert answer.value.shape == (3,)
    assert answer.cost.forwards >= 3
    assert torch.equal(explain(network, image, 1).map, answer.map)  # again: bit for bit
    several = explain(network, image, Target.classes([0, 1]))
    assert several.map.shape == (3, 2, 33, 38)
    assert float(several.map.abs().max()) > 0
    close(several.map[:, 1], answer.map, value=answer.value)
    close(several.value[:, 1], answer.value)
    alone = explain(network, image[1:2], 1)
    close(alone.map, answer.map[1:2], value=answer.value)
    each = explain(network, image, Target.cls([0, 1, 2]))
    close(each.map[1], answer.map[1], value=answer.value)
    close(each.map[0], several.map[0, 0], value=answer.value)
    best = logits_of(network.eval()(image)).argmax(1)
    network.train()
    close(explain(network, image).map, explain(network, image, Target.cls(best)).map)
    assert explain(network, image, Target.cls(1) - Target.cls(0)).map.isfinite().all()
    check_untouched(network, before)


@pytest.mark.parametrize(("row", "model"), cases(WITH_UNITS))
def test_units(row, model):
    explain, network, image = explainer(row), make(model), images(2, (24, 33))
    if words := refused(row, model, "unit"):
        with pytest.raises(UnsupportedError, match=words):
            explain(network, image, Target.unit(1))
        return
    answer = explain(network, image, Target.unit(1))
    several = explain(network, image, Target.units([0, 1]))
    assert answer.map.shape == (2, 24, 33)
    close(several.map[:, 1], answer.map)
    assert several.map.isfinite().all()


EXPENSIVE = {*REPEATED, *APART, "scorecam", "ablationcam"}


@pytest.mark.parametrize("row", [row for row in EXPLAINERS if row not in EXPENSIVE])
def test_a_network_of_torchvision(row, resnet):
    check_call(row, "resnet18", resnet, 2, (33, 38), Target.cls(1), again=False)


@pytest.mark.slow
@pytest.mark.parametrize(("row", "model"), list(itertools.product(EXPLAINERS, MODELS)))
def test_batches_and_sizes(row, model):
    network = make(model)
    before = snapshot(network)
    cases = ((1, (33, 38)), (8, (40, 23))) if model == "resnet18" else ((1, (17, 20)), (8, (33, 38)))
    long = model == "resnet18" and row == "scorecam"  # a pass for each of 512 channels
    for count, size in cases[:1] if long else cases:
        check_call(row, model, network, count, size, Target.cls(1), again=not long)
        if model in WITH_UNITS:
            check_call(row, model, network, count, size, Target.unit(1))
        check_untouched(network, before)


@pytest.fixture(scope="module")
def resnet():
    return make("resnet18")


def check_call(row, model, network, count, size, target, again=True):
    explain, image = explainer(row), images(count, size)
    if words := refused(row, model, target.sums[0][0].kind):
        with pytest.raises(UnsupportedError, match=words):
            explain(network, image, target)
    else:
        answer = explain(network, image, target)
        assert answer.map.shape == (count, *size)
        assert answer.map.isfinite().all()
        assert not again or torch.equal(explain(network, image, target).map, answer.map)


@pytest.mark.parametrize("row", SEEDED)
def test_random_numbers_are_those_of_the_seed(row):
    explainer(row)  # skips
    network, image = make("baseline"), images(2, (17, 20))
    maps = []
    for seed in (0, 1):
        maps.append(SEEDED[row](seed)(network, image, 1).map)
        torch.rand(3)  # the caller's own numbers are no part of it
        assert torch.equal(SEEDED[row](seed)(network, image, 1).map, maps[-1])
    assert not torch.equal(*maps)


class Dropping(Functional):
    """Draws random numbers in evaluation mode as well."""

    def features(self, image):
        return F.dropout(super().features(image), 0.3, training=True)


class InPlace(Functional):
    """Normalizes the image that it is given where it lies."""

    def forward(self, image):
        image -= 0.5
        image /= 0.25
        return super().forward(image)


class OutOfPlace(Functional):
    def forward(self, image):
        return super().forward((image - 0.5) / 0.25)


POSTHOC = [row for row in ROWS if row.values != ("intrinsic",)]


@pytest.mark.parametrize("row", POSTHOC)
def test_a_model_that_draws_leaves_the_random_state(row):
    network, image, explain = Dropping(), images(2, (17, 20)), explainer(row)
    before = snapshot(network)
    first = explain(network, image, 1).map
    assert torch.equal(explain(network, image, 1).map, first)
    check_untouched(network, before)


@pytest.mark.parametrize("row", POSTHOC)
def test_a_model_that_writes_over_its_image(row):
    network, other, image = InPlace(), OutOfPlace(), images(2, (17, 20))
    other.load_state_dict(network.state_dict())
    answer, given = explainer(row)(network, image, 1), images(2, (17, 20))
    assert torch.equal(image, given)
    close(answer.map, explainer(row)(other, given, 1).map)


@pytest.mark.parametrize("row", ROWS)
def test_inside_of(row):
    network, image, explain = make("baseline"), images(2, (24, 33)), explainer(row)
    plain = explain(network, image, 1)
    before = snapshot(network)
    with torch.autocast("cpu", torch.bfloat16):
        answer = explain(network, image, 1)
    assert answer.map.dtype == torch.float32
    assert answer.map.isfinite().all()
    assert torch.corrcoef(torch.stack([answer.map.flatten(), plain.map.flatten()]))[0, 1] > 0.7
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            answer = explain(network, image * 1, 1)
        close(answer.map, plain.map)
        assert not answer.map.requires_grad
        assert not answer.map.is_inference()
    check_untouched(network, before)


@pytest.mark.parametrize("row", ["occlusion", "rise", "lime", "kernel_shap", "lrp"])
def test_scores_of_half_precision_are_not_added_up_in_it(row):
    """The logits of a plain model are bfloat16 under autocast; those of ours are not."""
    network, image, explain = make("functional"), images(2, (24, 33)), explainer(row)
    plain = explain(network, image, 1)
    with torch.autocast("cpu", torch.bfloat16):
        answer = explain(network, image, 1)
    assert answer.map.dtype == answer.value.dtype == torch.float32
    assert torch.corrcoef(torch.stack([answer.map.flatten(), plain.map.flatten()]))[0, 1] > 0.7


SUMS = {
    "rise": lambda: Rise(masks=400, cells=3, batch_size=100),
    "occlusion": lambda: Occlusion(window=9, stride=2),
    "gradcam": GradCAM,
    "hirescam": HiResCAM,
    "ablationcam": AblationCAM,
    "eigencam": EigenCAM,
    "intrinsic": Intrinsic,
}


class Rounded(nn.Module):
    """A network whose values are the same with and without autocast: it works in bfloat16 itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def __getattr__(self, name):
        return getattr(self.network, name) if name in ("contributions", "shares") else super().__getattr__(name)

    def forward(self, image):
        with torch.autocast("cpu", torch.bfloat16):
            return self.network(image)


@pytest.mark.parametrize("row", SUMS)
def test_what_is_made_of_the_values_of_a_model_is_precise_under_autocast(row):
    network, image = Rounded(make("baseline").network), images(2, (24, 33))
    plain = SUMS[row]()(network, image, 1).map
    with torch.autocast("cpu", torch.bfloat16):
        answer = SUMS[row]()(network, image, 1).map
    close(answer, plain, 1e-5)


def test_scores_in_bfloat16_are_added_up_in_float32():
    """However many at a time."""
    network, image = Rounded(make("functional")), images(1, (24, 33))
    assert network(image).dtype == torch.bfloat16
    maps = [Rise(masks=256, cells=3, batch_size=size)(network, image, 1).map for size in (4, 256)]
    close(*maps)


def test_what_was_made_in_inference_mode():
    with torch.inference_mode():
        network = make("baseline")
    image, wanted = images(2, (17, 20)), [each.requires_grad for each in network.parameters()]
    for row in EXPLAINERS:
        if row in ("intrinsic", "occlusion", "rise"):
            assert explainer(row)(network, image, 1).map.isfinite().all()
        elif row not in ("lime", "kernel_shap", *APART):
            with pytest.raises(
                UnsupportedError, match=r"made inside of torch.inference_mode, .* load the model outside"
            ):
                explainer(row)(network, image, 1)
        assert [each.requires_grad for each in network.parameters()] == wanted
