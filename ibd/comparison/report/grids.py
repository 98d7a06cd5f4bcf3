"""Which of the shown images to draw: wrong ones, where the own map is best, where worst, where others disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ibd.comparison.report import names
from ibd.comparison.report.numbers import digits_for, number
from ibd.comparison.report.pictures import Picture, map_picture, outlined, picture
from ibd.comparison.report.tables import REAL, higher_is_better, metric_title
from ibd.comparison.report.verdict import intrinsic_of
from ibd.comparison.results import Comparison, ModelInfo, ShownImage
from ibd.metrics.functional.ranks import spearman

_MOST = 3
"""Images of a grid; none is in two of them."""
ROWS = 4 * _MOST
"""Images of a model that are drawn, at most."""
_KINDS = (*REAL, "oracle")


@dataclass(frozen=True)
class GridCell:
    """A map of an image with what it is called and its score, which is empty where there is none."""

    title: str
    picture: Picture
    score: str


@dataclass(frozen=True)
class GridRow:
    """An image with the maps of every explainer that has one; `truth` has the outlines of its parts."""

    image: Picture
    truth: Picture | None
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
    """The grids of a model, whose images were chosen by a metric."""

    model: ModelInfo
    metric: str
    truth: bool
    grids: list[Grid]


def make_grids(comparison: Comparison, model: ModelInfo, metric: str, side: int) -> GridPage | None:
    """Return the grids of a model, its images chosen by a metric; None where nothing of it is shown.

    Args:
        comparison: comparison of explanations.
        model: model of which images are drawn.
        metric: metric that they are chosen by.
        side: pixels of the longer side of a picture, at most.
    """
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
    grids = [
        Grid(title, note, [_row(comparison, model, image, explainers, metric, digits, side) for image in some])
        for title, note, some in _chosen(comparison, model, own, shown, metric)
    ]
    truth = any(image.masks is not None for image in shown)
    return GridPage(model, metric_title(metric), truth, grids)


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
    """Return (title, note, images) of each grid, no image in two; wrong ones come first."""
    wrong = [image for image in shown if image.predicted.get(model.name) != image.label]
    title, by = metric_title(metric), own or _first(comparison, model, metric)
    scores = {image.position: _score(comparison, model, by, image, metric) for image in shown}
    sign = -1 if higher_is_better(metric) is False else 1
    ranked = sorted(
        (image for image in shown if np.isfinite(scores[image.position])),
        key=lambda image: -sign * scores[image.position],
    )
    whose = "the model's own map" if own else names.explainer_title(by)
    wanted = [
        ("Predicted wrongly", "what the maps say of a mistake", wrong),
        ("Best", f"{whose} has the best {title}", ranked),
        ("Worst", f"{whose} has the worst {title}", ranked[::-1]),
    ]
    if own:
        note = "the model's own map differs most from the post-hoc maps (mean Spearman correlation over pixels)"
        wanted.append(("Most disagreeing", note, _torn(comparison, model, own, shown)))
    grids: list[tuple[str, str, list[ShownImage]]] = []
    drawn: set[int] = set()
    share = max(1, min(_MOST, len(shown) // len(wanted)))
    for name, note, images in wanted:
        some = [image for image in images if image.position not in drawn][:share]
        drawn |= {image.position for image in some}
        grids += [(name, note, some)] if some else []
    return grids or [("Images", "as they come", shown[:_MOST])]


def _first(comparison: Comparison, model: ModelInfo, metric: str) -> str:
    """Return the first post-hoc explainer that was measured on a model; "" where none was."""
    posthoc = [explainer.name for explainer in comparison.explainers if explainer.kind == "posthoc"]
    return next((name for name in posthoc if (model.name, name, metric) in comparison.scores), "")


def _torn(comparison: Comparison, model: ModelInfo, own: str, shown: list[ShownImage]) -> list[ShownImage]:
    """Return images in the order of how far a model's own map is from those of the others."""
    others = [explainer.name for explainer in comparison.explainers if explainer.kind == "posthoc"]
    apart = {image.position: disagreement(image, model.name, own, others) for image in shown}
    known = [image for image in shown if np.isfinite(apart[image.position])]
    return sorted(known, key=lambda image: -apart[image.position])


def _row(
    comparison: Comparison,
    model: ModelInfo,
    image: ShownImage,
    explainers: list[str],
    metric: str,
    digits: int,
    side: int,
) -> GridRow:
    maps, predicted = image.maps[model.name], image.predicted.get(model.name, "")
    cells = []
    for explainer in explainers:
        if explainer in maps:
            title, score = names.explainer_title(explainer), _score(comparison, model, explainer, image, metric)
            alt = f"{title}: what speaks for {predicted} in red, against it in blue"
            drawn = picture(map_picture(image.image, maps[explainer]), alt, side)
            cells.append(GridCell(title, drawn, number(score, digits)))
    truth = None if image.masks is None else picture(outlined(image.image, image.masks), "outlines of the parts", side)
    whole = picture(image.image, f"an image of {image.label}", side)
    return GridRow(whole, truth, image.label, predicted, predicted == image.label, cells)


def _score(comparison: Comparison, model: ModelInfo, explainer: str, image: ShownImage, metric: str) -> float:
    values = comparison.scores.get((model.name, explainer, metric))
    return float(values[image.position]) if values is not None and len(values) > image.position else float("nan")
