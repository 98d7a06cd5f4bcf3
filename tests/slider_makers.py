"""Small models with sliders of every kind, and the page of a report that has them all."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import torch

from ibd.comparison.report import Report
from ibd.comparison.results import Comparison, ExplainerInfo, ModelInfo
from ibd.comparison.showing import shown_images
from ibd.models.baseline.lightning import Baseline
from ibd.types import Quantity
from tests.model_makers import (
    LARGE,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_posthoc,
    make_stochastic_module,
)

MIXED = dataclasses.replace(LARGE, quantities={"flies": Quantity("km", 20.0, 4.0)})
IMAGES = 3


def slider_models():
    """Return name -> module, of every rule that setting a unit has."""
    torch.manual_seed(0)
    return {
        "probabilities": make_module(LARGE),
        "hard": make_module(LARGE, bottleneck="hard"),
        "logits": make_module(LARGE, bottleneck="logits"),
        "evidence": make_module(LARGE, bottleneck="evidence"),
        "softmax": make_module(LARGE, softmax_groups=["wing"]),
        "softmax_hard": make_module(LARGE, softmax_groups=["wing"], bottleneck="hard"),
        "residual": make_module(LARGE, residual=2),
        "quantity": make_module(MIXED),
        "cem": make_embedding(LARGE),
        "scbm": make_stochastic_module(LARGE),
        "scbm_logits": make_stochastic_module(LARGE, bottleneck="logits", class_loss="expected"),
        "scbm_amortized": make_stochastic_module(LARGE, covariance="amortized", rank=2),
        "posthoc": make_posthoc(LARGE, rest=True),
        "directions": make_posthoc(LARGE, truth=False),
        "baseline": Baseline(LARGE, {"name": "small_cnn", "width": 2, "depth": 3}).eval(),
        "filters": make_filters(LARGE),
        "pipnet": make_pipnet(LARGE).eval(),
    }


def slider_logits(sliders):
    """Return the (B, C) logits that sliders begin with."""
    reads, weights, bias = map(torch.from_numpy, (sliders.reads, sliders.weights, sliders.bias))
    return (reads.unsqueeze(2) * weights).sum(1) + bias


def slider_report(modules, images):
    """Return a report of modules on (N, 3, H, W) images, in which no map was measured; each is a family."""
    classes = next(iter(modules.values())).network.class_names
    labels = torch.arange(len(images)) % len(classes)
    comparison = Comparison(
        settings={},
        class_names=list(classes),
        part_names=[],
        models=[ModelInfo(name, name, "run", 0, 0.9, "concept") for name in modules],
        explainers=[ExplainerInfo("gradcam", "posthoc")],
        metrics=["deletion"],
        image_ids=[str(i) for i in range(len(images))],
        labels=labels.numpy(),
        scores={(name, "gradcam", "deletion"): np.linspace(0, 1, len(images)) for name in modules},
    )
    for name, module in modules.items():
        with torch.no_grad():
            prediction = module.predict(images)
            passed = module.network.passed(prediction.units)
        model = SimpleNamespace(foreign=False, info=SimpleNamespace(name=name), module=module)
        case = SimpleNamespace(
            model=model,
            images=_Images(pixels=images, labels=labels, masks=None),
            classes=prediction.labels,
            passed=passed,
        )
        comparison.shown[:] = shown_images(comparison, case, [], {}, len(images))
    return Report(comparison)


class _Images(SimpleNamespace):
    def __len__(self):
        return len(self.pixels)
