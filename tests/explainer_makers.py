"""Explainers and tiny models to run them on, and what must not change in a model."""

import torch
from torch import nn
from torch.nn import functional as F

from ibd.explain.cam import (
    CAM,
    AblationCAM,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from ibd.explain.gradients import GradientTimesInput, IntegratedGradients, Saliency, Sensitivity
from ibd.explain.relu_modes import Deconvnet, GuidedBackprop
from ibd.explain.smoothgrad import SmoothGrad
from ibd.models.baseline.lightning import Baseline
from tests import model_makers as makers
from tests.unit.models.concept_whitening import makers as whitening

EXPLAINERS = {
    "saliency": Saliency,
    "gradient_input": GradientTimesInput,
    "sensitivity": Sensitivity,
    "integrated_gradients": lambda: IntegratedGradients(steps=3),
    "smoothgrad": lambda: SmoothGrad(n=3),
    "smoothgrad of gradcam": lambda: SmoothGrad(GradCAM(), n=2, chunk=2),
    "vargrad": lambda: SmoothGrad(GradientTimesInput(), n=3, kind="variance", chunk=2),
    "guided_backprop": GuidedBackprop,
    "deconvnet": Deconvnet,
    "cam": CAM,
    "gradcam": GradCAM,
    "hirescam": HiResCAM,
    "gradcam++": GradCAMPlusPlus,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
    "eigencam": EigenCAM,
    "ablationcam": AblationCAM,
    "scorecam": lambda: ScoreCAM(chunk=3),
}


class Functional(nn.Module):
    """Convolutions; everything else is a function. The activation is one of several ways to write a ReLU."""

    def __init__(self, relu=F.relu, classes=4, bias=True):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=bias)
        self.second = nn.Conv2d(5, 6, 3, stride=2, padding=1, bias=bias)
        self.head = nn.Linear(6, classes, bias=bias)
        self.relu = relu

    def features(self, image):
        x = F.max_pool2d(self.relu(self.first(image)), 2)
        return self.relu(self.second(x))

    def forward(self, image):
        return self.head(self.features(image).mean((2, 3)))


class Dicts(Functional):
    """Returns a dict, and squeezes and excites before the last map, then writes over that."""

    def forward(self, image):
        x = self.features(image)
        x = x * x.mean((2, 3), keepdim=True).sigmoid()
        x += 0.1
        return {"logits": self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)), "aux": x}


class TwoLayers(Functional):
    """With a head that is not linear."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = nn.Linear(6, 6)

    def forward(self, image):
        pooled = F.adaptive_avg_pool2d(self.features(image), 1)
        return (self.head(torch.tanh(self.hidden(torch.flatten(pooled, 1)))),)


def _seeded(make):
    torch.manual_seed(0)
    return make()


MODELS = {
    "baseline": lambda: Baseline(makers.SPEC, makers.SMALL),
    "cbm": lambda: makers.make_module(bottleneck="logits"),
    "protopnet": makers.make_prototypes,
    "pipnet": lambda: makers.make_pipnet(threshold=0.0),
    "concept_whitening": lambda: whitening.settle(whitening.make_module().network),
    "functional": Functional,
    "dict": Dicts,
    "tuple": TwoLayers,
}
WITH_UNITS = ("baseline", "cbm", "protopnet", "pipnet", "concept_whitening")


def make(name):
    """Return a model, in training mode, as a callback would find it."""
    return _seeded(MODELS[name]).train()


def images(count=3, size=(33, 38), seed=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def refused(explainer, model, target="class"):
    """Return whether a pair is refused, rightly: CAM needs a linear head after a mean over positions."""
    linear = ("baseline", "functional", "dict", "cbm", "concept_whitening")
    if target == "unit":
        linear = ("baseline", "cbm")
    return explainer == "cam" and model not in linear


def snapshot(model):
    """Return all of a model that an explanation must leave as it was."""
    return {
        "keys": list(model.state_dict()),
        "ids": [id(each) for each in (*model.parameters(), *model.buffers())],
        "wanted": [each.requires_grad for each in model.parameters()],
        "leaves": [each.is_leaf for each in model.parameters()],
        "grads": [None if each.grad is None else each.grad.clone() for each in model.parameters()],
        "modes": [each.training for each in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "values": {name: each.clone() for name, each in model.state_dict().items()},
        "random": torch.get_rng_state(),
        "inplace": [getattr(module, "inplace", None) for module in model.modules()],
    }


def check_untouched(model, before):
    after = snapshot(model)
    for key in before:
        if key == "values":
            for name, each in before[key].items():
                torch.testing.assert_close(after[key][name], each, rtol=0, atol=0, equal_nan=True)
        elif key == "grads":
            for one, other in zip(before[key], after[key], strict=True):
                assert (one is None and other is None) or torch.equal(one, other)
        elif key == "random":
            assert torch.equal(before[key], after[key])
        else:
            assert before[key] == after[key], key
