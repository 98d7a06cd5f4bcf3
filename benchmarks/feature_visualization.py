"""What a step of feature visualization costs, against lucent where it is installed, and against its own passes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18

from benchmarks.timing import Row, side_by_side
from ibd.explain.feature_visualization import Objective, maximize_activation

LAYER, CHANNEL, SIZE, STEPS, BATCH = "layer3", 5, 128, 32, 8


def measure(repetitions: int = 14) -> list[Row]:
    """Return the rows of the table."""
    torch.manual_seed(0)
    model = resnet18(weights=None).eval().requires_grad_(False)
    rounds = max(1, repetitions // 3)
    timed = side_by_side(candidates(model), rounds)
    one, batch = timed["one"], timed["batch"].times(1 / BATCH)
    shapes = f"ResNet-18, {LAYER}, {SIZE} px, {STEPS} steps"
    rows = [("one image / its passes to the layer and back", one, timed["passes"], "")]
    rows += [(f"{BATCH} images at once, each / the same", batch, timed["passes"], "")]
    if "lucent" in timed:
        rows += [("lucent / ours, one image", timed["lucent"], one, ">= 3")]
        rows += [(f"lucent / ours, each of {BATCH} at once", timed["lucent"], batch, ">= 4")]
    return [Row(f"feature visualization: {w}", shapes, f"{a} / {b}", *a.ratio(b), bar) for w, a, b, bar in rows]


def candidates(model: ResNet) -> dict[str, Callable[[], object]]:
    """Return name -> call; lucent, where it is installed, gets a network of its own, on which it leaves hooks."""
    objective = Objective.channel(LAYER, CHANNEL)
    calls: dict[str, Callable[[], object]] = {
        "passes": lambda: passes(model),
        "one": lambda: maximize_activation(model, objective, SIZE, steps=STEPS, progress=False),
        "batch": lambda: maximize_activation(model, objective, SIZE, batch=BATCH, steps=STEPS, progress=False),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            render = importlib.import_module("lucent.optvis.render")
            param = importlib.import_module("lucent.optvis.param")
    except ImportError:
        return calls

    def lucent() -> object:
        theirs = resnet18(weights=None).eval()
        image = lambda: param.image(SIZE, batch=1)  # noqa: E731
        options = {"thresholds": (STEPS,), "progress": False, "show_image": False}
        return render.render_vis(theirs, f"{LAYER}:{CHANNEL}", param_f=image, **options)

    return {**calls, "lucent": lucent}


def passes(model: ResNet) -> Tensor:
    """Go forward to the layer and back to the pixels, as often as there are steps."""
    to_layer = [model.conv1, model.bn1, model.relu, model.maxpool, model.layer1, model.layer2, model.layer3]
    trunk = nn.Sequential(*to_layer)
    image = torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    for _ in range(STEPS):
        gradient = torch.autograd.grad(trunk(image)[:, CHANNEL].mean(), image)[0]
    return gradient
