"""The report's files of numbers: every score as a line, and every mean, interval and verdict as JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ibd.comparison.groups import METRICS
from ibd.comparison.report.matrices import Matrix
from ibd.comparison.report.outcomes import Verdict
from ibd.comparison.report.page import FamilyView
from ibd.comparison.report.tables import Row, reference_of, score_intervals
from ibd.comparison.report.verdict import main_metrics
from ibd.comparison.results import Comparison

_HEAD = ("image", "label", "model", "family", "seed", "explainer", "kind", "metric", "value")


def write_scores(comparison: Comparison, path: Path) -> None:
    """Write a line for every image, model, explainer and metric; an undefined value is an empty cell.

    A metric with one figure for all images has one line, without image and label.
    """
    models = {model.name: model for model in comparison.models}
    kinds = {explainer.name: explainer.kind for explainer in comparison.explainers}
    labels = [comparison.class_names[label] for label in comparison.labels.tolist()]
    images = list(zip(comparison.image_ids, labels, strict=True))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_HEAD)
        for (model, explainer, metric), values in comparison.scores.items():
            info = models[model]
            between = (model, info.family, info.seed, explainer, kinds[explainer], metric)
            of = images if len(values) == len(images) else [("", "")]
            cells = ("" if math.isnan(value) else repr(value) for value in values.tolist())
            writer.writerows((*image, *between, cell) for image, cell in zip(of, cells, strict=True))


def summary(comparison: Comparison, views: list[FamilyView]) -> dict[str, Any]:
    """Return what a program reads of a comparison: plain values, None for what is unknown."""
    content = {
        "format": 1,
        "settings": comparison.settings,
        "images": len(comparison.image_ids),
        "interval": {"level": 0.95, "method": "Student's t", "over": "models of a family and images"},
        "models": [vars(model) for model in comparison.models],
        "explainers": [vars(explainer) for explainer in comparison.explainers],
        "references": {kind: reference_of(comparison, kind) for kind in ("reference", "oracle")},
        "metrics": {metric: _metric(metric) for metric in comparison.metrics},
        "main_metrics": main_metrics(comparison),
        "scores": _model_scores(comparison),
        "families": {view.table.family: _family(view) for view in views},
        "verdicts": [_verdict(verdict) for view in views for verdict in view.verdicts],
        "sanity": {
            model: {e: _sanity(comparison, model, e) for m, e in comparison.sanity if m == model}
            for model in dict.fromkeys(key[0] for key in comparison.sanity)
        },
        "self_consistency": {model: account.figures for model, account in comparison.self_consistency.items()},
        "self_consistency_breakdown": {
            model: account.breakdown for model, account in comparison.self_consistency.items()
        },
        "costs": _nested({key: vars(cost) for key, cost in comparison.costs.items()}),
        "shortcut": {model: tagged.figures for model, tagged in comparison.shortcut.items()},
        "shortcut_breakdown": {model: tagged.breakdown for model, tagged in comparison.shortcut.items()},
        "skipped": [vars(entry) for entry in comparison.skipped],
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def write_summary(comparison: Mapping[str, object], path: Path) -> None:
    """Write what `summary` returned."""
    path.write_text(json.dumps(comparison, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _model_scores(comparison: Comparison) -> dict[str, object]:
    """Return model -> explainer -> metric -> interval over its images."""
    values = {key: torch.from_numpy(scores).double().unsqueeze(0) for key, scores in comparison.scores.items()}
    figures: dict[str, Any] = {}
    for (model, explainer, metric), interval in score_intervals(values).items():
        figures.setdefault(model, {}).setdefault(explainer, {})[metric] = vars(interval)
    return figures


def _family(view: FamilyView) -> dict[str, object]:
    table = view.table
    return {
        "title": table.title,
        "models": [model.name for model in table.models],
        "intrinsic": view.intrinsic,
        "scores": {row.explainer.name: _row(row) for row in (*table.rows, *table.references)},
        "paintings": _paintings(view),
        "metrics_judged": {
            row.metric: {**vars(row.others), "sparse": row.sparse, "noise": row.noise, "truth": row.truth}
            for row in view.coherency
        },
        **{matrix.name: _matrix(matrix) for matrix in (*view.matrices, view.locality, view.concepts) if matrix},
    }


def _row(row: Row) -> dict[str, object]:
    return {
        metric: {**vars(cell.interval), "normalized": cell.normalized, "best": cell.best, "tied": cell.tied}
        for metric, cell in row.cells.items()
    }


def _paintings(view: FamilyView) -> dict[str, dict[str, object]]:
    """Return painting -> metric -> interval of a family's own map."""
    means = view.paintings.means if view.paintings else {}
    return _nested({key: vars(mean) for key, mean in means.items()})


def _matrix(matrix: Matrix) -> dict[str, object]:
    return {"rows": matrix.rows, "columns": matrix.columns, "values": matrix.values}


def _verdict(verdict: Verdict) -> dict[str, object]:
    return {**{k: v for k, v in vars(verdict).items() if k != "interval"}, "difference": vars(verdict.interval)}


def _sanity(comparison: Comparison, model: str, explainer: str) -> dict[str, object]:
    sanity = comparison.sanity[model, explainer]
    return {"passed": sanity.passed, "values": sanity.values, "band": sanity.band}


def _metric(name: str) -> dict[str, object]:
    entry = METRICS.get(name)
    if entry is None:
        return {"title": name, "higher_is_better": None}
    return {
        "title": entry.title,
        "definition": entry.definition,
        "low": entry.range[0],
        "high": entry.range[1],
        "higher_is_better": entry.higher_is_better,
        "source": entry.source,
    }


def _nested(values: Mapping[tuple[str, str], object]) -> dict[str, dict[str, object]]:
    nested: dict[str, dict[str, Any]] = {}
    for (one, other), value in values.items():
        nested.setdefault(one, {})[other] = value
    return nested


def _plain(value: Any) -> Any:
    """Return values that JSON can hold: None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
