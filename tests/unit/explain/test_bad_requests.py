"""Every mistake in a request is one clear line, whichever explainer is asked."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.base import Explainer, as_target
from ibd.explain.cam.base import CamExplainer
from ibd.explain.smoothgrad import SmoothGrad
from ibd.explain.targets import Target
from ibd.registry import names, resolve
from tests.explainer_makers import APART, EXPLAINERS, ROWS, Functional, explainer, images, make
from tests.model_state import check_untouched, snapshot

IMAGE = images(2, (17, 20))


@pytest.fixture(scope="module")
def models():
    return {name: make(name) for name in ("baseline", "functional", "cbm")}


IMAGES = {
    "float images .* not .3, 17, 20. of torch.float32": IMAGE[0],
    "float images .* not .2, 3, 17, 20. of torch.uint8": (IMAGE * 255).byte(),
    "float images .* not .2, 3, 17, 20. of torch.int64": IMAGE.long(),
    "float images .* not ndarray": IMAGE.numpy(),
    "float images .* not list": [IMAGE],
    "at least one image": IMAGE[:0],
    "at least one pixel": IMAGE[..., :0],
    "image 1 of the batch has values that are not finite": IMAGE.clone().index_fill(0, torch.tensor([1]), torch.nan),
    "image 0 of the batch has values that are not finite": IMAGE / 0,
}
TARGETS = {
    "target: no class 3: there are 3, counted from 0": 3,
    "target: no class -1: there are 3, counted from 0": -1,
    "target: unknown class 'be'. Did you mean 'bee'": "be",
    "target: unknown class 'dog'. Known: ant, bee, cow": "dog",
    "target: no unit 8: there are 8, counted from 0": Target.unit(8),
    "target: no unit -1: there are 8": Target.units([0, -1]),
    "target: unknown unit 'chanel 1'. Did you mean .*'channel 1'": Target.unit("chanel 1"),
    "target: no unit's name fits 'wing::.'. Known: channel 0, ": Target.units("wing::*"),
    "target: 3 class numbers for 2 images": Target.cls([0, 1, 2]),
    "the function returned a Tensor of shape .2, 3.: a score for each image": Target.of(lambda out: out.logits),
    "the function returned a float: a score for each image": Target.of(lambda out: 0.5),
}
"""Message -> of a baseline with three classes and eight channels."""


@pytest.mark.parametrize("row", ROWS)
def test_images_and_targets(row, models):
    explain, network = explainer(row), models["baseline"]
    before = snapshot(network)
    for message, image in IMAGES.items():
        with pytest.raises(DataError, match=message) as caught:
            explain(network, image, 1)
        assert "\n" not in str(caught.value)
    for message, target in TARGETS.items():
        with pytest.raises(ConfigError, match=message) as caught:
            explain(network, IMAGE, target)
        assert "\n" not in str(caught.value)
    check_untouched(network, before)


@pytest.mark.parametrize("row", [each for each in ROWS if each.values[0] != "intrinsic"])
def test_models_without_names_and_units(row, models):
    explain, network = explainer(row), models["functional"]
    with pytest.raises(UnsupportedError, match="Functional has no names for its classes: give a number"):
        explain(network, IMAGE, "bee")
    with pytest.raises(UnsupportedError, match="Functional has no names for its units: give a number"):
        explain(network, IMAGE, Target.units("wing::*"))
    with pytest.raises(UnsupportedError, match="target: this model has no units: ask for a class"):
        explain(network, IMAGE, Target.unit(1))


class NeedsMore(Explainer):
    """Cannot be made by its name alone."""

    def __init__(self, more):
        self.more = more

    def explain(self, call, image):
        raise NotImplementedError


class Returns(Functional):
    """Returns something else than logits."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, image):
        return self.change(super().forward(image))


ANSWERS = {
    "NoneType": lambda logits: None,
    r"Tensor of shape \(2,\)": lambda logits: logits[:, 0],
    r"Tensor of shape \(2, 4, 1, 1\)": lambda logits: logits[..., None, None],
    "dict": lambda logits: {"loss": logits.sum().item()},
    "tuple": lambda logits: (),
    "ndarray": lambda logits: logits.detach().numpy(),
}


@pytest.mark.parametrize("row", [each for each in ROWS if each.values[0] != "intrinsic"])
def test_models_without_logits(row):
    explain = explainer(row)
    for answer, change in ANSWERS.items():
        message = f"the model returns a {answer}: logits .B, C., a tuple or dict with them, or a target of its own"
        with pytest.raises(UnsupportedError, match=message):
            explain(Returns(change), IMAGE, 1)


BLIND = ("intrinsic", "occlusion", "rise", "lime", "kernel_shap")
"""Those that take no gradient."""


@pytest.mark.parametrize("row", [row for row in EXPLAINERS if row not in (*BLIND, *APART)])
def test_scores_that_are_constants(row):
    with pytest.raises(UnsupportedError, match=r"does not depend on the image|every score depends on one feature map"):
        explainer(row)(Returns(torch.Tensor.detach), IMAGE, 1)


def mlp(*before):
    return nn.Sequential(*before, nn.Flatten(), nn.Linear(3 * 17 * 20, 8), nn.ReLU(), nn.Linear(8, 4))


class Normalize(nn.Module):
    def forward(self, image):
        return (image - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / 0.2


FLAT = [
    mlp(),
    mlp(Normalize()),
    nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 8 * 10, 4)),
    mlp(nn.BatchNorm2d(3)),
]


def is_cam(row):
    made = EXPLAINERS[row]()
    return isinstance(made, CamExplainer) or (isinstance(made, SmoothGrad) and isinstance(made.base, CamExplainer))


@pytest.mark.parametrize("row", [row for row in EXPLAINERS if is_cam(row)])
def test_models_without_a_feature_map(row):
    """The image itself, normalized or smaller, is none."""
    for network in FLAT:
        with pytest.raises(UnsupportedError, match=r"no feature map is pooled .* use a method of pixels"):
            explainer(row)(network, IMAGE, 1)


@pytest.mark.parametrize("row", [row for row in EXPLAINERS if not is_cam(row) and row not in ("intrinsic", *APART)])
def test_what_needs_no_feature_map_explains_these_too(row):
    for network in FLAT:
        if row in ("guided_backprop", "deconvnet") and not any(isinstance(each, nn.ReLU) for each in network):
            continue
        assert explainer(row)(network, IMAGE, 1).map.isfinite().all()


def classes_with_layers():
    kinds = {type(EXPLAINERS[row]()) for row in EXPLAINERS}
    return [kind for kind in kinds if "layer" in inspect.signature(kind).parameters]


@pytest.mark.parametrize("kind", sorted(classes_with_layers(), key=lambda kind: kind.name))
def test_layers(kind, models):
    mistakes = {
        "no layer 'secnd' in Functional. Layers, the nearest first: second": (models["functional"], "secnd"),
        "no layer '' in Functional. Layers, the nearest first: first, second": (models["functional"], ""),
        "no layer 'backbone.stage9' in .*nearest first: backbone.stage": (models["cbm"], "backbone.stage9"),
    }
    for message, (network, layer) in mistakes.items():
        before = snapshot(network)
        with pytest.raises(ConfigError, match=message) as caught:
            kind(layer=layer)(network, IMAGE, 1)
        assert "\n" not in str(caught.value)
        check_untouched(network, before)
    if issubclass(kind, CamExplainer):
        with pytest.raises(UnsupportedError, match=r"layer 'head' returns 4 numbers for each image, no map"):
            kind(layer="head")(models["functional"], IMAGE, 1)


@pytest.mark.parametrize("row", ROWS)
def test_normalization_in_training_is_that_of_evaluation(row):
    """A batch's own statistics are used nowhere, and nothing is added to the running ones."""
    network, explain = make("baseline"), explainer(row)
    before = snapshot(network)
    training = explain(network, IMAGE, 1).map
    check_untouched(network, before)
    assert torch.equal(explain(network.eval(), IMAGE, 1).map, training)


def test_numbers_of_numpy_and_torch_are_numbers():
    for given in (np.int64(1), np.array(1), torch.tensor(1), True, 1):
        assert as_target(given) == Target.cls(1)
        assert type(as_target(given).sums[0][0].index) is int
    for given in (np.array([0, 2]), torch.tensor([0, 2]), (np.int32(0), 2)):
        assert as_target(given) == Target.cls([0, 2])
    assert Target.classes(np.array([0, 2])) == Target.classes([0, 2])
    assert Target.units(torch.tensor([0, 2])) == Target.units([0, 2])


@pytest.mark.parametrize(
    ("make_target", "message"),
    [
        (
            lambda: as_target(1.0),
            "target: a number counted from 0, a name, or a number for each image is needed, not 1.0",
        ),
        (lambda: Target.unit(torch.tensor([0.0, 1.0])), "a number for each image is needed, not tensor"),
        (lambda: Target.cls({}), "is needed, not {}"),
        (lambda: Target.cls(None), "is needed, not None"),
        (lambda: Target.cls([[0], [1]]), r"is needed, not \[\[0\], \[1\]\]"),
        (lambda: Target.classes([]), "target: at least one class is needed"),
        (lambda: Target.units([]), "target: at least one unit is needed"),
        (lambda: Target.cls(1, "logits"), "target: scalar 'logits' is not one of logit, centered_logit, log_prob, "),
        (lambda: Target.predicted("p"), "target: scalar 'p' is not one of logit"),
    ],
)
def test_targets_that_cannot_be(make_target, message):
    with pytest.raises(ConfigError, match=message):
        make_target()


@pytest.mark.parametrize("name", names("explainers"))
def test_a_model_is_no_option(name, models):
    """As other libraries have it: GradCAM(model), or GradCAM(layer=model.layer4)."""
    cls, model = resolve("explainers", name), models["baseline"]
    expected = rf"^{cls.__name__}: takes only options, .*: {cls.__name__}\(...\)\(model, image, target\)$"
    with pytest.raises(ConfigError, match=expected):
        cls(model)
    with pytest.raises(ConfigError, match=expected):
        cls(layer=model.network.backbone)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_another_type_than_the_weights(dtype):
    """A stranger's network says it in one line; ours computes in its own precision."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(UnsupportedError, match=r"differ from the model's weights in type.*\('cpu', torch.float32\)"):
        explainer("saliency")(net, IMAGE.to(dtype))
    ours = make("baseline")
    rounded = IMAGE.to(dtype)
    torch.testing.assert_close(
        explainer("saliency")(ours, rounded).value, explainer("saliency")(ours, rounded.float()).value
    )
