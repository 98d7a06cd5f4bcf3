"""What measuring explanations costs, against the passes that it cannot do without."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.timing import Row, side_by_side
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.pixels import PixelProbe
from ibd.comparison.probes.sanity import Reference, cascade
from ibd.explain.gradients import Saliency
from ibd.explain.targets import Target

STEPS, STAGES, CLASSES = 16, 8, 20
EXPLAINED = 16
"""Images of the cascade: new weights, some 0.4 s for 11 million, are drawn for all of them together."""
FLIPPED = "pixel flipping, Quantus / the same forward passes"


def measure(repetitions: int = 14, images: int = 4, size: int = 224) -> list[Row]:
    """Return the rows of the table."""
    torch.manual_seed(0)
    model = resnet18(weights=None, num_classes=CLASSES).eval()
    image = torch.rand(images, 3, size, size)
    maps = torch.randn(images, size, size)
    calls = {**table_calls(model, image, maps), **_quantus(model, image, maps)}
    timed = side_by_side(calls, repetitions)
    timed |= side_by_side(cascade_calls(model, torch.rand(EXPLAINED, 3, size, size)), repetitions)
    ends = f", {2 * STEPS} passes of each"
    pairs = {
        f"deletion and insertion of {STEPS} steps / the forward passes needed": ("tables", "needed", ends, "<= 1.10"),
        "the same of the model as it is / of its folded copy": ("plain", "needed", ends, ""),
        f"cascade of {STAGES} stages, saliency / as many gradients": ("cascade", "gradients", "", "<= 1.10"),
        FLIPPED: ("quantus", "plain half", f", {STEPS} passes of each", ""),
        "our deletion and insertion / Quantus's pixel flipping": ("tables", "quantus", "", ""),
    }
    return [
        Row(
            what,
            f"ResNet-18, {EXPLAINED if a == 'cascade' else images} images of {size} px{more}",
            f"{timed[a]} / {timed[b]}",
            *timed[a].ratio(timed[b]),
            bar,
        )
        for what, (a, b, more, bar) in pairs.items()
        if a in timed and b in timed
    ]


def table_calls(model: nn.Module, image: Tensor, maps: Tensor) -> dict[str, Callable[[], object]]:
    """Return name -> call: both tables of a probe, and passes alone of as many images, which lie there already."""
    predictor = Predictor(model, image)
    classes = predictor.predicted(image)
    count = 2 * STEPS * len(image)  # two ends, which both tables share, and two times the steps between
    batch = predictor.batch_size(image)
    ready = torch.rand(batch, *image.shape[1:])
    laid_out = ready.contiguous(memory_format=torch.channels_last)
    return {
        "tables": lambda: PixelProbe(predictor, image, classes, steps=STEPS).pixels(maps),
        "needed": lambda: passes(predictor.network, laid_out, count),
        "plain": lambda: passes(model, ready, count),
        "plain half": lambda: passes(model, ready, count // 2),
    }


@torch.inference_mode()
def passes(model: nn.Module, images: Tensor, count: int) -> None:
    """Run as many images through a model, so many at a time as are given."""
    while count > 0:
        model(images[:count])
        count -= len(images)


def cascade_calls(model: nn.Module, image: Tensor) -> dict[str, Callable[[], object]]:
    """Return name -> call: a cascade with its similarities, and the gradients alone, on the same batch."""
    classes = torch.zeros(len(image), dtype=torch.int64)
    reference = Reference(Saliency()(model, image, Target.cls(classes)).map)  # type: ignore[arg-type]
    network = copy.deepcopy(model).requires_grad_(False)

    def gradients() -> None:
        for _ in range(STAGES):
            leaf = image.detach().requires_grad_()
            torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)

    return {
        "cascade": lambda: cascade(Saliency(), model, image, classes, reference, most=STAGES),
        "gradients": gradients,
    }


def _quantus(model: nn.Module, image: Tensor, maps: Tensor) -> dict[str, Callable[[], object]]:
    """Return Quantus's pixel flipping with as many steps, where it is installed."""
    try:
        quantus: Any = importlib.import_module("quantus")
    except ImportError:
        return {}
    pixels = image.shape[2] * image.shape[3]
    metric = quantus.PixelFlipping(
        features_in_step=pixels // STEPS, perturb_baseline="black", disable_warnings=True, return_auc_per_sample=False
    )
    batch, labels = image.numpy(), np.zeros(len(image), dtype=np.int64)
    given = maps.unsqueeze(1).numpy()
    own = copy.deepcopy(model)
    return {"quantus": lambda: metric(model=own, x_batch=batch, y_batch=labels, a_batch=given, device="cpu")}
