"""Agreement: how alike the maps of a model's rows are, pair by pair. It is measured of all rows together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.asked import Case
from ibd.comparison.attributions import Attributions
from ibd.comparison.groups.record import SIGNED, UNIT, Group, Metric
from ibd.comparison.groups.values import scores
from ibd.comparison.methods import Method
from ibd.comparison.results import Comparison, Floats
from ibd.metrics.functional.agreement import (
    map_spearman,
    spearman_matrix,
    ssim,
    ssim_matrix,
    top_k_iou,
    top_k_iou_matrix,
)

_COMPARED = 16
"""Images of which all maps are compared at a time."""
MAIN_AGREEMENT = "agreement_spearman"
"""The measure that the report draws."""
_MATRICES = {
    MAIN_AGREEMENT: spearman_matrix,
    "agreement_top": top_k_iou_matrix,
    "agreement_ssim": ssim_matrix,
}


@dataclass(frozen=True)
class Agreement:
    """Metric -> (N, E, E) agreement of the maps of E rows."""

    matrices: dict[str, Floats]


def add_agreement(
    comparison: Comparison, case: Case, methods: Sequence[Method], attributions: Mapping[str, Attributions]
) -> None:
    """Add how alike the maps of a model's rows are, pair by pair, and each with the model's own."""
    if not set(AGREEMENT.names) & set(comparison.metrics):
        return
    model = case.model.info.name
    maps = {
        method.name: there.maps
        for method in methods
        if (there := attributions.get(method.name)) is not None
        and there.maps is not None
        and method.info.kind != "oracle"
    }
    if len(maps) < 2:
        return
    names = list(maps)
    comparison.agreement_names[model] = names
    intrinsic = {method.name for method in methods if method.info.kind == "intrinsic"}
    own = next((i for i, name in enumerate(names) if name in intrinsic), None)
    for metric, matrix in _matrices(case, list(maps.values()), names).matrices.items():
        if metric not in comparison.metrics:
            continue
        comparison.agreement[model, metric] = _mean(matrix)
        for i, name in enumerate(names if own is not None else ()):
            if i != own:
                comparison.scores[model, name, metric] = matrix[:, own, i]


def _matrices(case: Case, maps: list[Tensor], names: list[str]) -> Agreement:
    """Return the agreement of the E maps, (N, H, W) each, of the rows of these names."""

    def compute() -> Agreement:
        values: dict[str, list[Tensor]] = {name: [] for name in _MATRICES}
        for start in range(0, len(maps[0]), _COMPARED):
            some = torch.stack([of_explainer[start : start + _COMPARED] for of_explainer in maps], 1)
            for name, measure in _MATRICES.items():
                values[name].append(measure(some))
        return Agreement(scores({name: torch.cat(matrices) for name, matrices in values.items()}))

    key = {"kind": "agreement", "model": case.model.fingerprint, "data": case.images.fingerprint}
    key |= {"methods": json.dumps(names), "maps": " ".join(digest(of_explainer) for of_explainer in maps)}
    return case.cache.get(key, Agreement, compute)


def digest(maps: Tensor | None) -> str:
    """Return a hash of maps."""
    if maps is None:
        return ""
    return hashlib.sha256(maps.detach().cpu().contiguous().numpy().data).hexdigest()[:16]


def _mean(matrix: Floats) -> Floats:
    """Return the mean over images of what is defined; NaN where nothing is."""
    known = ~np.isnan(matrix)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, matrix, 0).sum(0) / np.maximum(count, 1), np.nan)


_METRICS = (
    Metric(MAIN_AGREEMENT, "Agreement, Spearman", "Spearman's correlation over pixels of two explanations.", SIGNED,
           None, "Spearman 1904", "map", map_spearman, 0.0),
    Metric("agreement_top", "Agreement, top k", "IoU of the highest pixels of two explanations.", UNIT, None,
           "this project", "map", top_k_iou, "mask_share_iou"),
    Metric("agreement_ssim", "Agreement, SSIM", "Structural similarity of two explanations scaled to [0, 1].", SIGNED,
           None, "Wang et al. 2004", "map", ssim),
)  # fmt: skip

AGREEMENT = Group(
    "agreement",
    "Agreement",
    _METRICS,
)
