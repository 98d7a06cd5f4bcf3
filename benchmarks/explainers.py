"""What explanations cost, against the passes that they cannot do without."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.timing import Row, side_by_side
from ibd.explain.cam import AblationCAM, EigenCAM, GradCAM
from ibd.explain.gradients import Saliency
from ibd.explain.smoothgrad import SmoothGrad
from ibd.explain.targets import Target

CONCEPTS = 112
SAMPLES = 25
BARS = {
    "Grad-CAM / forward, and backward to the layer": ("gradcam", "to the layer", "<= 1.10"),
    f"Grad-CAM of {CONCEPTS} targets / forward and backward": ("gradcam of many", "to the input", "<= 0.7"),
    f"SmoothGrad / {SAMPLES} x forward and backward": ("smoothgrad", "noisy", "<= 1.05"),
    "Ablation-CAM, linear head / forward and backward": ("ablationcam", "to the input", "<= 1.0"),
    "Ablation-CAM, two-layer head / forward and backward": ("ablationcam of two", "to the input", "<= 1.0"),
    "Eigen-CAM / forward and backward": ("eigencam", "to the input", "<= 0.5"),
    "captum's Grad-CAM / forward and backward": ("captum gradcam", "to the input", ""),
    "pytorch-grad-cam's Grad-CAM / forward and backward": ("grad-cam gradcam", "to the input", ""),
}
"""What is divided by what: the candidates' names, and the bar."""


def measure(repetitions: int = 14, images: int = 4, size: int = 224) -> list[Row]:
    """Return the rows of the table."""
    torch.manual_seed(0)
    model = resnet18(weights=None).eval()
    model.fc = nn.Linear(512, CONCEPTS)
    image = torch.rand(images, 3, size, size)
    timed = side_by_side(candidates(model, image), repetitions, 2)
    timed["noisy"] = timed["to the input"].times(SAMPLES)
    shapes = f"ResNet-18, {images} images of {size} px"
    return [
        Row(what, shapes, f"{timed[ours]} / {timed[floor]}", *timed[ours].ratio(timed[floor]), bar)
        for what, (ours, floor, bar) in BARS.items()
        if ours in timed
    ]


def candidates(model: nn.Module, image: Tensor) -> dict[str, Callable[[], object]]:
    """Return name -> call: ours, the passes that are needed, and others' explainers where these are installed."""
    two = resnet18(weights=None).eval()
    two.fc = nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, CONCEPTS))
    many = Target.classes(range(CONCEPTS))
    return {
        "to the input": lambda: to_the_input(model, image),
        "to the layer": lambda: to_the_layer(model, image),
        "gradcam": lambda: GradCAM()(model, image, 3),
        "gradcam of many": lambda: GradCAM()(model, image, many),
        "smoothgrad": lambda: SmoothGrad(Saliency(), n=SAMPLES)(model, image, 3),
        "ablationcam": lambda: AblationCAM()(model, image, 3),
        "ablationcam of two": lambda: AblationCAM()(two, image, 3),
        "eigencam": lambda: EigenCAM()(model, image, 3),
        **_peers(image),
    }


def to_the_input(model: nn.Module, image: Tensor) -> Tensor:
    """Go forward, and back to the pixels; no gradient of a parameter is computed."""
    leaf = image.detach().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 3].sum(), leaf)[0]


def to_the_layer(model: nn.Module, image: Tensor) -> Tensor:
    """Go forward, and back to the last feature map, with no graph below it."""
    kept: list[Tensor] = []

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    handle = model.get_submodule("layer4").register_forward_hook(cut)
    try:
        return torch.autograd.grad(model(image)[:, 3].sum(), kept[0])[0]
    finally:
        handle.remove()
        for parameter in model.parameters():
            parameter.requires_grad_(True)


def _peers(image: Tensor) -> dict[str, Callable[[], object]]:
    """Return others' Grad-CAM, each on a network of its own, which it may change."""
    peers: dict[str, Callable[[], object]] = {}
    try:
        attribution = importlib.import_module("captum.attr")
        model = resnet18(weights=None).eval()
        captum = attribution.LayerGradCam(model, model.layer4)
        peers["captum gradcam"] = lambda: captum.attribute(image, target=3)
    except ImportError:
        pass
    try:
        cams = importlib.import_module("pytorch_grad_cam")
        targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
        own = resnet18(weights=None).eval()
        theirs = cams.GradCAM(own, [own.layer4])
        asked = [targets.ClassifierOutputTarget(3)] * len(image)
        peers["grad-cam gradcam"] = lambda: theirs(input_tensor=image, targets=asked)
    except ImportError:
        pass
    return peers
