"""What LRP costs, against one pass forward and back to the pixels; and against zennit, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision import models

from benchmarks.timing import Row, side_by_side
from ibd.explain.lrp import LRP

BARS = {
    "epsilon": "<= 1.1",
    "epsilon_plus": "<= 1.7",
    "epsilon_gamma_box": "<= 2.8",
    "epsilon_alpha2_beta1": "<= 2.8",
}
"""Composite -> bar."""
NETWORKS = {"resnet18": 4, "vgg16_bn": 1}
"""torchvision's name -> images."""


def measure(repetitions: int = 14, size: int = 224) -> list[Row]:
    """Return the rows of the table."""
    return [row for name, images in NETWORKS.items() for row in network_rows(repetitions, name, images, size)]


def network_rows(rounds: int, name: str, images: int, size: int) -> list[Row]:
    """Compare all composites on one network."""
    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval().requires_grad_(False)
    image = torch.rand(images, 3, size, size)
    calls: dict[str, Callable[[], object]] = {"plain": lambda: _floor(network, image)}
    calls |= {bar: _ours(network, image, bar) for bar in BARS}
    if importlib.util.find_spec("zennit") is not None:
        calls |= {f"zennit {bar}": zennit(network, image, bar) for bar in BARS if bar != "epsilon"}
    timed = side_by_side(calls, rounds)
    shapes = f"{name}, {images} x 3 x {size} x {size}"
    return [
        Row(
            f"LRP {composite} / forward and backward to the input" if composite in BARS else f"{composite} / the same",
            shapes,
            f"{times} / {timed['plain']}",
            *times.ratio(timed["plain"]),
            BARS.get(composite, ""),
        )
        for composite, times in timed.items()
        if composite != "plain"
    ]


def _floor(network: nn.Module, image: Tensor) -> Tensor:
    """Return the gradient of each image's largest logit by its pixels."""
    leaf = image.clone().requires_grad_()
    return torch.autograd.grad(network(leaf).amax(1).sum(), leaf)[0]


def _ours(network: nn.Module, image: Tensor, composite: str) -> Callable[[], object]:
    explainer = LRP(composite, low=-3.0, high=3.0)  # type: ignore[arg-type]  # one of the names
    return lambda: explainer(network, image)


def zennit(network: nn.Module, image: Tensor, composite: str) -> Callable[[], object]:
    """Return zennit's call of a composite, on a network that it may change meanwhile."""
    composites, canonizers = (importlib.import_module(f"zennit.{module}") for module in ("composites", "torchvision"))
    attribution = importlib.import_module("zennit.attribution")
    canonizer = canonizers.ResNetCanonizer if hasattr(network, "layer1") else canonizers.VGGCanonizer
    kind = getattr(composites, "".join(part.capitalize() for part in composite.split("_")))
    box = {"low": -3.0, "high": 3.0} if composite.endswith("box") else {}

    def call() -> object:
        with attribution.Gradient(network, kind(canonizers=[canonizer()], **box)) as attributor:
            return attributor(image, lambda logits: torch.zeros_like(logits).scatter(1, logits.argmax(1, True), 1.0))

    return call
