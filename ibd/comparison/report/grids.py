"""Which of the shown images to draw: where the model's own map is best, where worst, and where others disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ibd.comparison.report import names
from ibd.comparison.report.numbers import digits_for, number
from ibd.comparison.report.pictures import data_uri, map_picture, outlined
from ibd.comparison.report.tables import REAL, higher_is_better, metric_title
from ibd.comparison.report.verdict import intrinsic_of
from ibd.comparison.results import Comparison, ModelInfo, ShownImage
from ibd.metrics.functional.ranks import spearman

_MOST = 8
_KINDS = (*REAL, "oracle")


@dataclass(frozen=True)
class GridCell:
    """A map of an image with its score, both empty where there is none."""

    picture: str
    score: str


@dataclass(frozen=True)
class GridRow:
    """An image with the maps of every explainer."""

    image: str
    truth: str
    label: str
    predicted: str
    right: bool
    cells: list[GridCell]


@dataclass(frozen=True)
class Grid:
    """Rows of images: a title, what it says, and the rows."""

    title: str
    note: str
    rows: list[GridRow]


@dataclass(frozen=True)
class GridPage:
    """The grids of a model, and the heads of their columns."""

    model: ModelInfo
    columns: list[str]
    metric: str
    truth: bool
    grids: list[Grid]


def make_grids(comparison: Comparison, model: ModelInfo, metric: str) -> GridPage | None:
    """Return the grids of a model, its images chosen by a metric; None where nothing of it is shown."""
    shown = [image for image in comparison.shown if image.maps.get(model.name)]
    own = intrinsic_of(comparison, model.family)
    explainers = [
        explainer.name
        for explainer in comparison.explainers
        if explainer.kind in _KINDS and any(explainer.name in image.maps[model.name] for image in shown)
    ]
    if not shown or not explainers:
        return None
    digits = digits_for(
        [_score(comparison, model, explainer, image, metric) for explainer in explainers for image in shown]
    )
    made: dict[int, GridRow] = {}
    grids = []
    for title, note, some in _chosen(comparison, model, own, shown, metric):
        for image in some:
            if image.position not in made:
                made[image.position] = _row(comparison, model, image, explainers, metric, digits)
        grids.append(Grid(title, note, [made[image.position] for image in some]))
    titles = [names.explainer_title(explainer) for explainer in explainers]
    return GridPage(model, titles, metric_title(metric), any(image.masks is not None for image in shown), grids)


def disagreement(image: ShownImage, model: str, own: str, others: list[str]) -> float:
    """Return 1 minus the mean Spearman correlation of a model's own map with the others; NaN where there are none."""
    maps = image.maps[model]
    if own not in maps:
        return float("nan")
    mine = torch.from_numpy(maps[own]).flatten()
    rho = [float(spearman(mine, torch.from_numpy(maps[other]).flatten())) for other in others if other in maps]
    rho = [value for value in rho if value == value]
    return 1 - sum(rho) / len(rho) if rho else float("nan")


def _chosen(
    comparison: Comparison, model: ModelInfo, own: str | None, shown: list[ShownImage], metric: str
) -> list[tuple[str, str, list[ShownImage]]]:
    """Return (title, note, images) of each grid; all images in one where there is nothing to choose by."""
    if own is None:
        return [("Images", "as they come", shown[:_MOST])]
    scores = {image.position: _score(comparison, model, own, image, metric) for image in shown}
    sign = -1 if higher_is_better(metric) is False else 1
    ranked = sorted(
        (image for image in shown if np.isfinite(scores[image.position])),
        key=lambda image: -sign * scores[image.position],
    )
    others = [explainer.name for explainer in comparison.explainers if explainer.kind == "posthoc"]
    apart = {image.position: disagreement(image, model.name, own, others) for image in shown}
    torn = sorted(
        (image for image in shown if np.isfinite(apart[image.position])), key=lambda image: -apart[image.position]
    )
    count = min(_MOST, max(1, len(ranked) // 2))
    title = metric_title(metric)
    rows = [
        ("Best", f"the model's own map has the best {title}", ranked[:count]),
        ("Worst", f"the model's own map has the worst {title}", ranked[count:][-count:][::-1]),
        (
            "Most disagreeing",
            "the model's own map differs most from the post-hoc maps (mean Spearman correlation over pixels)",
            torn[: min(_MOST, max(1, len(torn) // 2))],
        ),
    ]
    rows = [row for row in rows if row[2]]
    return rows or [("Images", "as they come", shown[:_MOST])]


def _row(
    comparison: Comparison, model: ModelInfo, image: ShownImage, explainers: list[str], metric: str, digits: int
) -> GridRow:
    maps = image.maps[model.name]
    cells = [
        GridCell(
            data_uri(map_picture(image.image, maps[explainer])) if explainer in maps else "",
            number(_score(comparison, model, explainer, image, metric), digits),
        )
        for explainer in explainers
    ]
    predicted = image.predicted.get(model.name, "")
    truth = data_uri(outlined(image.image, image.masks)) if image.masks is not None else ""
    return GridRow(data_uri(image.image), truth, image.label, predicted, predicted == image.label, cells)


def _score(comparison: Comparison, model: ModelInfo, explainer: str, image: ShownImage, metric: str) -> float:
    values = comparison.scores.get((model.name, explainer, metric))
    return float(values[image.position]) if values is not None and len(values) > image.position else float("nan")
