"""The table of all explainers, in settings that cost little, and tiny models to run them on."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

from ibd.explain.attention_maps import AttentionGradient, AttentionRollout
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
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.learned_masks import ExtremalPerturbation, MeaningfulPerturbation
from ibd.explain.lrp import LRP
from ibd.explain.lrp.composites import NAMES as COMPOSITES
from ibd.explain.perturbation import Occlusion, Rise
from ibd.explain.relu_modes import Deconvnet, GuidedBackprop
from ibd.explain.smoothgrad import SmoothGrad
from ibd.explain.surrogates import KernelShap, Lime
from ibd.explain.unit_relevance import UnitRelevance
from ibd.models.baseline.lightning import Baseline
from tests import model_makers as makers
from tests.attention_makers import AnySize
from tests.unit.models.concept_whitening import makers as whitening

EXPLAINERS = {
    "intrinsic": Intrinsic,
    "unit_relevance": UnitRelevance,
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
    "attention_rollout": AttentionRollout,
    "attention_gradient": AttentionGradient,
    "lrp": LRP,
    **{f"lrp: {name}": functools.partial(LRP, name) for name in COMPOSITES},
    "occlusion": lambda: Occlusion(window=9, stride=7),
    "rise": lambda: Rise(masks=6, cells=3),
    "meaningful_perturbation": lambda: MeaningfulPerturbation(steps=3, cells=4, area=0.0, rate=0.2),
    "extremal_perturbation": lambda: ExtremalPerturbation(steps=3, cells=4),
    "lime": lambda: Lime(samples=8, grid=2),
    "kernel_shap": lambda: KernelShap(samples=8, grid=2),
}
"""Row -> what makes it. Every registered explainer is a row of its name (`test_every_explainer_is_in_the_table`)."""

SEEDED = {
    "smoothgrad": lambda seed: SmoothGrad(n=2, seed=seed),
    "rise": lambda seed: Rise(masks=6, cells=3, seed=seed),
    "meaningful_perturbation": lambda seed: MeaningfulPerturbation(
        steps=3, cells=4, area=0.0, rate=0.1, jitter=3, seed=seed
    ),
    "extremal_perturbation": lambda seed: ExtremalPerturbation(steps=3, cells=4, jitter=3, seed=seed),
    "lime": lambda seed: Lime(samples=8, grid=2, seed=seed),
    "kernel_shap": lambda seed: KernelShap(samples=8, grid=2, seed=seed),
}
"""Those that draw random numbers."""

REPEATED = {f"lrp: {name}" for name in COMPOSITES if name != "epsilon_gamma_box"}
"""Rows that differ from others in numbers alone: left to the slow tests where there are many cases."""


APART = ("attention_rollout", "attention_gradient", "unit_relevance")
"""Rows that explain no convolutional network of anybody's."""
ROWS = [
    pytest.param(row, marks=[pytest.mark.slow] if row in REPEATED else []) for row in EXPLAINERS if row not in APART
]
"""Rows that explain a convolutional network."""


def explainer(row):
    """Return the explainer of a row of the table; the test is skipped where it needs captum and there is none."""
    if row in ("lime", "kernel_shap"):
        pytest.importorskip("captum")
    return EXPLAINERS[row]()


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


def _used(network):
    """Return a network in evaluation mode that keeps by now what it derives of its weights at the first image."""
    network(images(1))
    return network


MODELS = {
    "baseline": lambda: Baseline(makers.SPEC, makers.SMALL),
    "cbm": lambda: makers.make_module(bottleneck="logits"),
    "cem": makers.make_embedding,
    "protopnet": makers.make_prototypes,
    "pipnet": lambda: makers.make_pipnet(threshold=0.0),
    "interpretable_cnn": makers.make_filters,
    "concept_whitening": lambda: _used(whitening.settle(whitening.make_module().network)),
    "functional": Functional,
    "dict": Dicts,
    "tuple": TwoLayers,
    "vit": lambda: AnySize(classes=4).float(),
    "resnet18": lambda: resnet18(weights=None, num_classes=4),
}
WITH_UNITS = ("baseline", "cbm", "cem", "protopnet", "pipnet", "concept_whitening", "interpretable_cnn")


def make(name):
    """Return a model, in training mode, as a callback would find it."""
    return _seeded(MODELS[name]).train()


def images(count=3, size=(33, 38), seed=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def refused(row, model, target="class"):
    """Return words of the error with which a pair is refused, rightly; None where there is an explanation."""
    if row == "intrinsic" and model not in WITH_UNITS:
        return "'intrinsic' needs a model that explains itself"
    if row == "unit_relevance":
        if model not in WITH_UNITS:
            return "no names for its units"
        return "no sum over its units" if model == "concept_whitening" and target == "class" else None
    if row in APART and model != "vit":
        return "needs attention between the image and the score"
    if row in ("guided_backprop", "deconvnet") and model == "vit":
        return "no ReLU of this model"
    linear = (*("baseline", "functional", "dict", "cbm", "concept_whitening", "resnet18"),)
    if target == "unit":
        linear = ("baseline", "cbm")
    return "use 'gradcam' or 'hirescam'" if row == "cam" and model not in linear else None
