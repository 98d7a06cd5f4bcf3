"""What the methods say about the images: explanations of every image by a model and a method, kept on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.cells import Arrays, Cells
from ibd.comparison.methods import Method
from ibd.comparison.probes.explaining import centred_target
from ibd.comparison.questions import Questions
from ibd.comparison.results import CostInfo
from ibd.comparison.subjects import Subject
from ibd.errors import UnsupportedError
from ibd.explain.base import Explanation

CHUNK = 16
"""Images that are explained at once; what was explained is kept chunk by chunk."""


@dataclass(frozen=True)
class Answers:
    """Explanations of N images.

    Attributes:
        maps: (N, H, W) float32, or None.
        value: (N,) the explained scores; NaN where the method has none.
        units: (N, U) contributions of the model's units, or None.
        cost: for one image.
    """

    maps: Tensor | None
    value: Tensor
    units: Tensor | None
    cost: CostInfo


def explain_all(subject: Subject, method: Method, questions: Questions, classes: Tensor, cells: Cells) -> Answers:
    """Return a model's explanations by an explainer, of the centred logit of a class of each image.

    Raises:
        UnsupportedError: the explainer cannot explain this model.
    """
    parts: list[Arrays] = []
    for start in range(0, len(questions), CHUNK):
        rows = slice(start, start + CHUNK)
        key = {"kind": "answers", "model": subject.fingerprint, **method.key}
        key |= {"images": questions.ids[rows], "data": questions.fingerprint, "classes": classes[rows].tolist()}
        parts.append(cells.get(key, lambda rows=rows: _explain(subject, method, questions, classes, rows)))  # type: ignore[misc]
    for part in parts:
        if "unsupported" in part:
            raise UnsupportedError(str(part["unsupported"]))
    maps = torch.from_numpy(np.concatenate([part["maps"] for part in parts])) if "maps" in parts[0] else None
    units = torch.from_numpy(np.concatenate([part["units"] for part in parts])) if "units" in parts[0] else None
    value = torch.from_numpy(np.concatenate([part["value"] for part in parts]))
    total = np.stack([part["cost"] for part in parts]).sum(0) / len(questions)
    forwards, backwards, heads, seconds = (float(each) for each in total)
    return Answers(maps, value, units, CostInfo(forwards, backwards, heads, seconds))


def _explain(subject: Subject, method: Method, questions: Questions, classes: Tensor, rows: slice) -> Arrays:
    try:
        found = ask(subject.module, method, questions.images[rows], classes[rows])
    except UnsupportedError as error:
        return {"unsupported": np.array(str(error))}
    cost = found.cost
    arrays: Arrays = {
        "value": found.value.double().cpu().numpy(),
        "cost": np.array([cost.forwards, cost.backwards, cost.heads, cost.seconds]),
    }
    if found.map is not None:
        arrays["maps"] = found.map.float().cpu().numpy()
    if found.units is not None and found.kind == "intrinsic":
        arrays["units"] = found.units.double().cpu().numpy()
    return arrays


def ask(module: Any, method: Method, images: Tensor, classes: Tensor) -> Explanation:
    """Return an explainer's answer about the centred logits of classes, (B,)."""
    assert method.explainer is not None
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    return method.explainer(module, images.to(device), centred_target(classes))


def with_metric_seconds(cost: CostInfo, seconds: dict[str, float]) -> CostInfo:
    """Return a cost with what the metrics took."""
    return replace(cost, metric_seconds=dict(seconds))
