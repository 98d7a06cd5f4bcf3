"""A model with its predictions, and those of what its images are without: what is asked once, for all methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.comparison.asked import Case
from ibd.comparison.cache import Cache
from ibd.comparison.images import ComparedImages, choose_images
from ibd.comparison.models import ComparedModel
from ibd.comparison.plan import Plan
from ibd.comparison.probes.parts import additive_maps, oracle_maps as paint, part_values, subset_tables
from ibd.comparison.probes.scenes import cell_values, object_values
from ibd.comparison.results import Floats

_VALIDATION = 32
"""Validation images on which the threshold of an IoU is chosen."""


@dataclass(frozen=True)
class Predicted:
    """The (N,) classes that a model predicts."""

    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Subsets:
    """What a model says of every subset of the parts: (N, 2^P) centered logits, and whether the prediction is kept."""

    centered: Floats
    kept: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Finer:
    """What each object of a scene is worth, (N, O), and what each cell's foreground is, (N, R)."""

    objects: Floats
    cells: Floats


def make_case(
    model: ComparedModel, chosen: ComparedImages, cache: Cache, plan: Plan, probe_images: int, seed: int
) -> Case:
    """Return a model with its predictions, and those of what its images are without, where they are needed."""
    case = Case(
        model=model,
        images=chosen,
        classes=torch.zeros(0, dtype=torch.int64),
        parts=None,
        kept=None,
        cache=cache,
        probe_images=min(probe_images, len(chosen)),
        seed=seed,
    )
    case.classes = torch.from_numpy(cache.get(_key(case, "predicted"), Predicted, lambda: _predicted(case)).classes)
    if chosen.scenes:
        subsets = cache.get(_key(case, "subsets"), Subsets, lambda: _subsets(case))
        case.parts, case.kept = torch.from_numpy(subsets.centered), torch.from_numpy(subsets.kept)
    if chosen.scenes and "objects" in plan.groups():
        finer = cache.get(_key(case, "objects"), Finer, lambda: _finer(case))
        case.object_values, case.cell_values = torch.from_numpy(finer.objects), torch.from_numpy(finer.cells)
    if plan.validated:
        others = choose_images(model.data, "val", min(_VALIDATION, len(chosen)), seed)
        case.validation = make_case(model, others, cache, Plan([], []), 1, seed)
    return case


def _key(case: Case, kind: str) -> dict[str, str]:
    return {"kind": kind, "model": case.model.fingerprint, "data": case.images.fingerprint}


def _predicted(case: Case) -> Predicted:
    return Predicted(case.predictor.predicted(case.images.pixels).cpu().numpy())


def _subsets(case: Case) -> Subsets:
    size = case.images.pixels.shape[-1]
    table = subset_tables(case.predictor, case.images.scenes, case.classes, size)
    return Subsets(table.centered.cpu().numpy(), table.kept.cpu().numpy() > 0)


def _finer(case: Case) -> Finer:
    drawings = case.images.drawings
    objects = object_values(case.predictor, drawings, case.classes)
    return Finer(objects.numpy(), cell_values(case.predictor, drawings, case.classes).numpy())


def oracle_maps(case: Case, summed: bool = False) -> Tensor:
    """Return maps of the truth, (N, H, W): the mean over a part is what the part is worth, or the sum is."""
    assert case.parts is not None
    assert case.images.masks is not None
    return (additive_maps if summed else paint)(part_values(case.parts), case.images.masks)
