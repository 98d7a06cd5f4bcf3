"""The groups of metrics: which function measures them, when they do not apply, and where their results go."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ibd.comparison import map_measures, model_measures
from ibd.comparison.asked import Asked
from ibd.comparison.case_measures import digest
from ibd.comparison.cells import Arrays
from ibd.comparison.methods import OTHER, UNITS
from ibd.comparison.plan import GROUPS, Plan
from ibd.comparison.results import Comparison, Curve, Floats
from ibd.errors import UnsupportedError

MEASURES: dict[str, Callable[[Asked], Arrays]] = {
    "parts": map_measures.parts,
    "objects": map_measures.objects,
    "pixels": model_measures.pixels,
    "road": model_measures.road_scores,
    "localization": map_measures.localization,
    "robustness": model_measures.robustness,
    "sanity": model_measures.sanity,
    "properties": map_measures.properties,
    "units": model_measures.units,
}
"""Group -> function of a model, a method and the images; agreement and honesty are of all methods, or of none."""

CURVES = {
    "part_removal": ("parts removed", "centred logit"),
    "deletion": ("share of pixels removed", "probability"),
    "insertion": ("share of pixels put in", "probability"),
    "aopc_morf": ("share of regions removed, most relevant first", "centred logit"),
    "aopc_lerf": ("share of regions removed, least relevant first", "centred logit"),
    "energy": ("region", "share of the positive mass"),
    "unit_ablation": ("share of units ablated", "centred logit"),
    "unit_ablation_random": ("share of units ablated", "centred logit"),
    "unit_ablation_reversed": ("share of units ablated", "centred logit"),
}
"""Curve -> what its axes are."""


def why_not(group: str, asked: Asked) -> str | None:
    """Return why a group of metrics does not apply to a method; None if it does, "" where it goes without saying."""
    kind, name = asked.method.info.kind, asked.method.name
    if asked.answers.maps is None and group not in ("parts", "units"):
        return ""
    if group == "units" and (name == UNITS or asked.answers.units is None):
        return ""
    if group in ("robustness", "sanity") and (kind == "oracle" or name == OTHER):
        return ""
    if group == "parts" and asked.case.parts is None:
        return "there are no scenes to draw anew"
    return None


def kept(group: str, asked: Asked) -> Arrays:
    """Return the arrays of a group, from disk or computed, with the seconds that computing took.

    Where it turns out that the explainer cannot answer, the reason alone is there, as "unsupported".
    """

    def compute() -> Arrays:
        started = time.perf_counter()
        try:
            arrays = MEASURES[group](asked)
        except UnsupportedError as error:
            arrays = {"unsupported": np.array(str(error))}
        return arrays | {"seconds": np.array(time.perf_counter() - started)}

    case = asked.case
    key = {
        "kind": group,
        "model": case.subject.fingerprint,
        **asked.method.key,
        "data": case.questions.fingerprint,
        "images": case.questions.ids,
        "classes": case.classes.tolist(),
        "seed": case.seed,
        "probe_images": case.probe_images,
        "maps": digest(asked.answers.maps) if asked.method.explainer is None else "",
        "units": digest(asked.answers.units) if asked.method.explainer is None else "",
    }
    if group == "localization" and asked.validation is not None:
        key["validation"] = [digest(each) for each in asked.validation]
    return case.cells.get(key, compute)


def add(found: Comparison, asked: Asked, group: str, arrays: Arrays, plan: Plan) -> None:
    """Put the arrays of a group where the report looks for them."""
    model, method = asked.case.subject.info.name, asked.method.name
    for name in GROUPS[group]:
        if name in arrays and name in plan.metrics:
            found.scores[model, method, name] = padded(arrays[name], len(asked.case.questions))
    for name, values in arrays.items():
        if name.startswith("curve:"):
            short = name.removeprefix("curve:")
            x = arrays.get(f"x:{short}", np.arange(values.shape[1]))
            found.curves[model, method, short] = Curve(np.asarray(x, dtype=np.float64), values, *CURVES[short])
    if group == "sanity":
        found.sanity[model, method] = model_measures.as_sanity(arrays)


def padded(values: Floats, count: int) -> Floats:
    """Return (n,) values as (count,): of images that were not measured they are NaN."""
    return np.concatenate([values, np.full(count - len(values), np.nan)])
