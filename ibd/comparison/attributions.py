"""What the methods say about the images: explanations of every image by a model and a method, kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.comparison.cache import Cache
from ibd.comparison.images import ComparedImages
from ibd.comparison.methods import Method
from ibd.comparison.models import ComparedModel
from ibd.comparison.probes.explaining import centered_target
from ibd.comparison.results import CostInfo, Floats
from ibd.explain.base import Explanation
from ibd.models.lightning import InterpretableModule

CHUNK = 16
"""Images that are explained at once; what was explained is kept chunk by chunk."""


@dataclass(frozen=True)
class Explained:
    """Explanations of a few images, as they are kept: maps, or None; explained scores; units, or None; the cost."""

    maps: npt.NDArray[np.float32] | None
    value: Floats
    units: Floats | None
    cost: CostInfo


@dataclass(frozen=True)
class Attributions:
    """Explanations of N images.

    Attributes:
        maps: (N, H, W) float32, or None.
        value: (N,) the explained scores; NaN where the method has none.
        units: (N, U) contributions of the model's units, or None.
        cost: cost for one image.
    """

    maps: Tensor | None
    value: Tensor
    units: Tensor | None
    cost: CostInfo


def explain_all(
    model: ComparedModel, method: Method, chosen: ComparedImages, classes: Tensor, cache: Cache
) -> Attributions:
    """Return a model's explanations by an explainer, of the centered logit of a class of each image.

    Raises:
        UnsupportedError: the explainer cannot explain this model.
    """
    parts: list[Explained] = []
    for start in range(0, len(chosen), CHUNK):
        rows = slice(start, start + CHUNK)
        key = {"kind": "attributions", "model": model.fingerprint, **method.key}
        key |= {"images": chosen.ids[rows], "data": chosen.fingerprint, "classes": classes[rows].tolist()}
        explain = partial(_explain, model, method, chosen.pixels[rows], classes[rows])
        parts.append(cache.get(key, Explained, explain))
    costs = [(part.cost.forwards, part.cost.backwards, part.cost.heads, part.cost.seconds) for part in parts]
    return Attributions(
        _joined([part.maps for part in parts]),
        torch.from_numpy(np.concatenate([part.value for part in parts])),
        _joined([part.units for part in parts]),
        CostInfo(*(sum(times) / len(chosen) for times in zip(*costs, strict=True))),
    )


def _joined(parts: Sequence[npt.NDArray[Any] | None]) -> Tensor | None:
    """Return the arrays one after the other; None where the first is not there."""
    there = [part for part in parts if part is not None]
    return torch.from_numpy(np.concatenate(there)) if len(there) == len(parts) else None


def _explain(model: ComparedModel, method: Method, images: Tensor, classes: Tensor) -> Explained:
    attributions = ask(model.module, method, images, classes)
    own = attributions.units is not None and attributions.kind == "intrinsic"
    return Explained(
        maps=None if attributions.map is None else attributions.map.float().cpu().numpy(),
        value=attributions.value.double().cpu().numpy(),
        units=attributions.units.double().cpu().numpy() if own and attributions.units is not None else None,
        cost=CostInfo(
            attributions.cost.forwards, attributions.cost.backwards, attributions.cost.heads, attributions.cost.seconds
        ),
    )


def ask(module: InterpretableModule, method: Method, images: Tensor, classes: Tensor) -> Explanation:
    """Return an explainer's explanation of the centered logits of classes, (B,)."""
    assert method.explainer is not None
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    return method.explainer(module, images.to(device), centered_target(classes))


def with_metric_seconds(cost: CostInfo, seconds: dict[str, float]) -> CostInfo:
    """Return a cost with what the metrics took."""
    return replace(cost, metric_seconds=dict(seconds))
