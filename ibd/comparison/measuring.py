"""Measuring a group of metrics for one model and one row of the tables, and where its results go."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ibd.comparison.asked import Asked
from ibd.comparison.groups.agreement import digest
from ibd.comparison.groups.pasted import BIM
from ibd.comparison.groups.record import Group, Measured
from ibd.comparison.plan import Plan
from ibd.comparison.results import Comparison, Curve, Floats


def measured(group: Group, asked: Asked) -> Measured:
    """Return what a group measures, from disk or computed.

    Raises:
        UnsupportedError: it turns out that the explainer cannot answer.
    """

    def compute() -> Measured:
        assert group.measure is not None
        started = time.perf_counter()
        values = group.measure(asked)
        return replace(values, seconds=time.perf_counter() - started)

    return asked.case.cache.get(_key(group, asked), Measured, compute)


def _key(group: Group, asked: Asked) -> dict[str, object]:
    """Return all that the results depend on."""
    case = asked.case
    key = {
        "kind": group.name,
        "model": case.model.fingerprint,
        **asked.method.key,
        "data": case.images.fingerprint,
        "images": case.images.ids,
        "classes": case.classes.tolist(),
        "seed": case.seed,
        "probe_images": case.probe_images,
        "maps": digest(asked.attributions.maps) if asked.method.explainer is None else "",
        "units": digest(asked.attributions.units) if asked.method.explainer is None else "",
    }
    if group.name == BIM.name and case.contrast is not None:
        key["contrast"] = case.contrast.fingerprint
    if group.validated and asked.validation is not None:
        key["validation"] = [digest(maps) for maps in asked.validation]
    return key


def add(comparison: Comparison, asked: Asked, group: Group, results: Measured, plan: Plan) -> None:
    """Put the results of a group where the report looks for them."""
    model, method = asked.case.model.info.name, asked.method.name
    for name, values in results.scores.items():
        if name in plan.metrics:
            comparison.scores[model, method, name] = padded(values, len(asked.case.images))
    for curve in group.curves:
        if curve.name not in results.curves:
            continue
        drawn = Curve(*results.curves[curve.name], curve.x_label, curve.y_label)
        if curve.line:
            comparison.own_curves.setdefault((model, curve.chart), {})[curve.line] = drawn
        else:
            comparison.curves[model, method, curve.name] = drawn
    if results.sanity is not None:
        comparison.sanity[model, method] = results.sanity


def padded(values: Floats, count: int) -> Floats:
    """Return (n,) values as (count,): of images that were not measured they are NaN."""
    return np.concatenate([values, np.full(count - len(values), np.nan)])
