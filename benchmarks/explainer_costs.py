"""Every explainer's time, operations and memory, as multiples of one pass forward and back to the pixels.

Operations are those of convolutions and matrix products. Memory is the most that is allocated at once during the call,
above what was there before.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torchvision import models

from benchmarks.lrp import zennit
from benchmarks.timing import Times, side_by_side
from ibd import registry

NETWORKS = {"resnet18": 1, "vgg16_bn": 1}
"""torchvision's name -> images of 224 px."""
LEFT_OUT = {
    "intrinsic": "needs a network of ours",
    "lime": "captum's",
    "kernel_shap": "captum's",
    "rise": "4000 masks: its cost is their passes",
    "scorecam": "a pass for each channel: its cost is theirs",
}
LONG = (
    *("integrated_gradients", "smoothgrad", "occlusion", "captum NoiseTunnel, 25"),
    *("meaningful_perturbation", "extremal_perturbation"),
)
"""Dozens of passes: on the first network alone."""
HEADER = (
    "| method | network | CPU time | time | operations | memory | passes it says it took |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class CostRow:
    """One line: a method's cost as multiples of one pass forward and back."""

    method: str
    network: str
    times: str
    time: float
    operations: float
    memory: float
    said: str

    def __str__(self) -> str:
        """Return the line in Markdown."""
        multiples = [f"{value:.2f}" for value in (self.time, self.operations, self.memory)]
        return f"| {' | '.join([self.method, self.network, self.times, *multiples, self.said])} |"


def measure(repetitions: int = 14) -> list[CostRow]:
    """Return the rows of the table."""
    return [row for name, images in NETWORKS.items() for row in network_rows(name, images, max(1, repetitions // 5))]


def network_rows(name: str, images: int, rounds: int, size: int = 224) -> list[CostRow]:
    """Measure all methods on one network."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None).eval().requires_grad_(False)
    image = torch.rand(images, 3, size, size)
    calls: dict[str, Callable[[], Any]] = {"forward and back": lambda: _floor(model, image)}
    for explainer in registry.names("explainers"):
        if explainer not in LEFT_OUT:
            calls[explainer] = _ours(explainer, model, image)
    calls |= _peers(name, image)
    if name != next(iter(NETWORKS)):
        calls = {method: call for method, call in calls.items() if method not in LONG}
    times = side_by_side(calls, rounds)
    base = calls["forward and back"]
    floor = times["forward and back"], operations(base), memory(base)
    shapes = f"{name}, {images} x 3 x {size} x {size}"
    return [_row(method, shapes, call, times[method], floor) for method, call in calls.items()]


def _row(name: str, shapes: str, call: Callable[[], Any], times: Times, floor: tuple[Times, float, float]) -> CostRow:
    cost = getattr(call(), "cost", None)
    said = (
        ""
        if cost is None
        else ", ".join(
            f"{getattr(cost, kind):g} {kind}" for kind in ("forwards", "backwards", "heads") if getattr(cost, kind)
        )
    )
    ratio = times.ratio(floor[0])[0]
    return CostRow(name, shapes, str(times), ratio, operations(call) / floor[1], memory(call) / floor[2], said)


def operations(call: Callable[[], object]) -> float:
    """Return the operations of a call's convolutions and matrix products."""
    with _Counter() as counter:
        call()
    return counter.total


class _Counter(TorchDispatchMode):
    """Adds up operations; torch's own counter fails where a gradient is asked for by a leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def memory(call: Callable[[], object]) -> float:
    """Return the bytes that a call has allocated at once at most."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        call()
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return float(most)


def _floor(model: nn.Module, image: Tensor) -> Tensor:
    leaf = image.detach().clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 3].sum(), leaf)[0]


def _ours(name: str, model: nn.Module, image: Tensor) -> Callable[[], Any]:
    explainer = registry.resolve("explainers", name)()
    return lambda: explainer(model, image, 3)


def _peers(name: str, image: Tensor) -> dict[str, Callable[[], Any]]:
    """Return others' explainers where these are installed, each on a network of its own, which it may change."""
    peers: dict[str, Callable[[], Any]] = {}

    def network() -> Any:
        return models.get_model(name, weights=None).eval()

    def last(model: Any) -> nn.Module:
        layer: nn.Module = model.layer4 if name.startswith("resnet") else model.features
        return layer

    try:
        attr = importlib.import_module("captum.attr")
        one, two, three = network(), network(), network()
        layer_cam, saliency = attr.LayerGradCam(one, last(one)), attr.Saliency(two)
        tunnel = attr.NoiseTunnel(attr.Saliency(three))
        peers["captum LayerGradCam"] = lambda: layer_cam.attribute(image, target=3)
        peers["captum Saliency"] = lambda: saliency.attribute(image.clone().requires_grad_(), target=3)
        peers["captum NoiseTunnel, 25"] = lambda: tunnel.attribute(image.clone(), nt_samples=25, target=3)
    except ImportError:
        pass
    try:
        cams = importlib.import_module("pytorch_grad_cam")
        targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
        asked = [targets.ClassifierOutputTarget(3)] * len(image)
        for kind in ("GradCAM", "EigenCAM"):
            model = network()
            cam = getattr(cams, kind)(model, [last(model)])
            peers[f"pytorch-grad-cam {kind}"] = lambda cam=cam: cam(input_tensor=image, targets=asked)  # type: ignore[misc]
    except ImportError:
        pass
    if importlib.util.find_spec("zennit") is not None:
        for composite in ("epsilon_plus", "epsilon_gamma_box"):
            peers[f"zennit {composite}"] = zennit(network(), image, composite)
    return peers
