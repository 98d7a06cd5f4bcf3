"""What is measured of a model once, for all methods: its predictions of part subsets, agreement, honesty."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.asked import Case
from ibd.comparison.cells import Arrays, Cells
from ibd.comparison.honesty import honesty, linear_head
from ibd.comparison.plan import Plan
from ibd.comparison.probes.parts import oracle_maps as paint, part_values, subset_tables
from ibd.comparison.probes.scenes import cell_values, object_values
from ibd.comparison.questions import Questions, choose_questions
from ibd.comparison.results import Comparison, Curve, Floats, Honesty, Skipped
from ibd.comparison.subjects import Subject
from ibd.metrics.functional.agreement import spearman_matrix, ssim_matrix, top_k_iou_matrix

_COMPARED = 16
"""Images of which all maps are compared at a time."""
_VALIDATION = 32
"""Validation images on which the threshold of an IoU is chosen."""


def make_case(subject: Subject, questions: Questions, cells: Cells, plan: Plan, probe_images: int, seed: int) -> Case:
    """Return a model with its predictions, and those of what its images are without, where they are needed."""
    case = Case(
        subject=subject,
        questions=questions,
        classes=torch.zeros(0, dtype=torch.int64),
        parts=None,
        kept=None,
        cells=cells,
        probe_images=min(probe_images, len(questions)),
        seed=seed,
    )
    key = {"kind": "predicted", "model": subject.fingerprint, "data": questions.fingerprint}
    found = cells.get(key, lambda: {"classes": case.predictor.predicted(questions.images).cpu().numpy()})
    case.classes = torch.from_numpy(found["classes"])
    if questions.scenes:
        key = {"kind": "subsets", "model": subject.fingerprint, "data": questions.fingerprint}
        tables = cells.get(key, lambda: _subsets(case))
        case.parts, case.kept = torch.from_numpy(tables["centred"]), torch.from_numpy(tables["kept"])
    if questions.scenes and "objects" in plan.groups():
        key = {"kind": "objects", "model": subject.fingerprint, "data": questions.fingerprint}
        tables = cells.get(key, lambda: _finer(case))
        case.object_values, case.cell_values = torch.from_numpy(tables["objects"]), torch.from_numpy(tables["cells"])
    if plan.validated:
        chosen = choose_questions(subject.data, "val", min(_VALIDATION, len(questions)), seed)
        case.validation = make_case(subject, chosen, cells, Plan([], []), 1, seed)
    return case


def _subsets(case: Case) -> Arrays:
    size = case.questions.images.shape[-1]
    table = subset_tables(case.predictor, case.questions.scenes, case.classes, size)
    return {"centred": table.centred.cpu().numpy(), "kept": table.kept.cpu().numpy() > 0}


def _finer(case: Case) -> Arrays:
    drawings = case.questions.drawings
    objects = object_values(case.predictor, drawings, case.classes)
    return {"objects": objects.numpy(), "cells": cell_values(case.predictor, drawings, case.classes).numpy()}


def oracle_maps(case: Case) -> Tensor:
    """Return maps of the truth: of each pixel of a part what the part is worth, (N, H, W)."""
    assert case.parts is not None
    assert case.questions.masks is not None
    return paint(part_values(case.parts), case.questions.masks)


def agreement(case: Case, maps: list[Tensor], names: list[str]) -> dict[str, Floats]:
    """Return metric -> (N, E, E) agreement of the E maps, (N, H, W) each, of the methods of these names."""

    def compute() -> Arrays:
        measures = {"spearman": spearman_matrix, "top": top_k_iou_matrix, "ssim": ssim_matrix}
        found: dict[str, list[Tensor]] = {name: [] for name in measures}
        for start in range(0, len(maps[0]), _COMPARED):
            some = torch.stack([each[start : start + _COMPARED] for each in maps], 1)
            for name, measure in measures.items():
                found[name].append(measure(some))
        return {f"agreement_{name}": torch.cat(matrices).cpu().numpy() for name, matrices in found.items()}

    key = {"kind": "agreement", "model": case.subject.fingerprint, "data": case.questions.fingerprint}
    key |= {"methods": json.dumps(names), "maps": " ".join(digest(each) for each in maps)}
    return case.cells.get(key, compute)


def digest(maps: Tensor | None) -> str:
    """Return a hash of maps."""
    if maps is None:
        return ""
    return hashlib.sha256(maps.detach().cpu().contiguous().numpy().data).hexdigest()[:16]


def add_honesty(found: Comparison, case: Case, plan: Plan) -> None:
    """Add what the model's own account of itself is worth, and its linear head."""
    name, questions = case.subject.info.name, case.questions
    head = linear_head(case.subject.module, case.scores)
    if head is not None:
        found.heads[name] = head
    if not {"honesty", "dissection"} & set(plan.groups()):
        return

    def compute() -> Arrays:
        module, data = case.subject.module, case.subject.data
        measured, skipped = honesty(
            module, data, questions.index.tolist(), name="model", split=questions.split, seed=case.seed
        )
        plain: dict[str, Any] = {
            "figures": measured.figures,
            "rows": measured.rows,
            "columns": measured.columns,
            "skipped": [asdict(each) for each in skipped],
        }
        arrays: Arrays = {"honesty": np.array(json.dumps(plain))}
        return arrays if measured.matrix is None else arrays | {"matrix": measured.matrix}

    key = {"kind": "honesty", "model": case.subject.fingerprint, "data": questions.fingerprint, "seed": case.seed}
    key["split"] = case.subject.asked  # leakage is measured on more images than the questions
    arrays = case.cells.get(key, compute)
    plain = json.loads(str(arrays["honesty"]))
    found.skipped += [Skipped(**{**each, "model": name}) for each in plain.pop("skipped")]
    curves = _unit_curves(found, name)
    found.honesty[name] = Honesty(matrix=arrays.get("matrix"), curves=curves, **plain)


def _unit_curves(found: Comparison, model: str) -> dict[str, Curve]:
    """Take the curves of unit ablation, of a model's own explanation, from those of the methods."""
    titles = {
        "unit_ablation": "unit ablation: relevant first",
        "unit_ablation_random": "unit ablation: random order",
        "unit_ablation_reversed": "unit ablation: relevant last",
    }
    taken = {}
    for key in [key for key in found.curves if key[0] == model and key[2] in titles]:
        taken[titles[key[2]]] = found.curves.pop(key)
    return taken
