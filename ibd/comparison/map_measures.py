"""Measurements that need no further pass of a model: where maps lie, what they are like, how parts rank by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.asked import Asked
from ibd.comparison.cells import Arrays
from ibd.comparison.methods import ORACLE, UNITS
from ibd.comparison.probes.parts import part_values
from ibd.comparison.probes.pixels import region_means
from ibd.metrics.functional.localization import (
    BOX_THRESHOLDS,
    THRESHOLDS,
    best_threshold,
    box_hits,
    energy_shares,
    iou_curve,
    localize,
)
from ibd.metrics.functional.part_scores import (
    cell_spearman,
    normalised_mse,
    part_importance,
    part_means,
    part_spearman,
    part_sums,
    sign_agreement,
    top_part_hit,
)
from ibd.metrics.functional.properties import complexity, conservation, negative_share, sparseness
from ibd.metrics.functional.subsets import removal_auc, removal_curve, set_scores

FEW = 64
"""Images that are measured at a time."""


def localization(asked: Asked) -> Arrays:
    """Return where the positive part of a map lies, against the parts that decide, and its share in every region.

    The oracle's map knows what each part is worth, not which decide; here it says what is true.
    """
    wanted, masks = asked.case.truth, asked.case.questions.masks
    assert wanted is not None
    assert masks is not None
    oracle = asked.method.name == ORACLE
    given = wanted.float() if oracle else asked.maps
    parts = [
        localize(given[some], wanted[some]) | {"energy": _energy(asked.maps[some], masks[some])}
        for some in _few(len(given))
    ]
    found = {name: torch.cat([each[name] for each in parts]) for name in parts[0]}
    names = ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size")
    scores = {name: found[name] for name in names}
    if asked.validation is not None:
        maps, truth = (asked.validation[1].float() if oracle else asked.validation[0]), asked.validation[1]
        scores["iou_best"] = _cut(found["iou_curve"], iou_curve(maps, truth), THRESHOLDS)
        scores["box_accuracy"] = _cut(found["box_hits"], box_hits(maps, truth), BOX_THRESHOLDS)
    return _plain(scores) | {"curve:energy": found["energy"].numpy()}


def _cut(curves: Tensor, others: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return (N,) of (N, T) curves at the threshold that is best for others; NaN where none of those is defined."""
    if bool(others.isnan().all()):
        return torch.full((len(curves),), torch.nan, dtype=torch.float64)
    chosen, _ = best_threshold(others, thresholds)
    return curves[:, list(thresholds).index(chosen)]


def _energy(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the shares of the parts, and of what is no part, (n, P + 1); what parts share counts for each of them."""
    return energy_shares(maps, torch.cat([masks, ~masks.any(1, keepdim=True)], 1))


def _few(count: int) -> list[slice]:
    """Return the images a few at a time: what is measured of all their pixels is many times as large as they are."""
    return [slice(start, start + FEW) for start in range(0, count, FEW)]


def properties(asked: Asked) -> Arrays:
    """Return what a map is like."""
    maps, value = asked.maps, asked.answers.value
    measures = {"negative_share": negative_share, "sparseness": sparseness, "complexity": complexity}
    few = _few(len(maps))
    scores = {name: torch.cat([measure(maps[some]) for some in few]) for name, measure in measures.items()}
    if not bool(value.isnan().all()):
        scores["conservation"] = conservation(maps, value)
    return _plain(scores)


def parts(asked: Asked) -> Arrays:
    """Return how well the parts' importance by an explanation agrees with what redrawing the image shows."""
    case = asked.case
    masks = case.questions.masks
    assert masks is not None
    assert case.parts is not None
    assert case.kept is not None
    importance, visible = importance_of_parts(asked), masks.flatten(2).any(2)
    truth = part_values(case.parts).where(visible, torch.nan)
    means = importance_of_parts(asked, part_means)
    # The oracle's map has a part's value in every pixel of it; for sums it would be the value over the area.
    sums = means if asked.method.name == ORACLE else importance_of_parts(asked, part_sums)
    curve = removal_curve(importance, case.parts, visible)
    scores = {
        "part_spearman": part_spearman(importance, truth),
        "part_spearman_mean": part_spearman(means, truth),
        "part_spearman_sum": part_spearman(sums, truth),
        "part_sign": sign_agreement(importance, truth),
        "part_error": normalised_mse(importance, truth),
        "part_top": top_part_hit(importance, truth),
        "part_removal": removal_auc(curve),
        **set_scores(importance, case.kept, visible),
    }
    return _plain(scores) | {"curve:part_removal": curve.numpy(), "importance": importance.numpy()}


def importance_of_parts(asked: Asked, by: Callable[[Tensor, Tensor], Tensor] = part_importance) -> Tensor:
    """Return (N, P): what the map says of the parts, or of a model's units what those of a part contribute.

    Args:
        asked: whom, and about which images.
        by: of (n, H, W) maps and (n, P, H, W) masks; units have no map, and are the same by any.
    """
    masks = asked.case.questions.masks
    assert masks is not None
    if asked.method.name != UNITS:
        return torch.cat([by(asked.maps[some], masks[some]) for some in _few(len(masks))])
    units, members = asked.answers.units, asked.case.unit_parts
    assert units is not None
    assert members is not None
    return (units.double() @ members.double()).where(masks.flatten(2).any(2), torch.nan)


def objects(asked: Asked) -> Arrays:
    """Return how well a map ranks all objects of a scene, and the cells of a grid, by what they are worth.

    The oracle's map knows parts only; here it says what is true.
    """
    values, cells = asked.case.object_values, asked.case.cell_values
    assert values is not None
    assert cells is not None
    if asked.method.name == ORACLE:
        said, of_cells = values, cells
    else:
        masks = asked.case.questions.drawings.masks
        said = torch.cat([part_importance(asked.maps[some], masks[some]) for some in _few(len(masks))])
        of_cells = torch.cat([region_means(asked.maps[some]) for some in _few(len(masks))])
    return _plain({"object_spearman": part_spearman(said, values), "cell_spearman": cell_spearman(of_cells, cells)})


def _plain(scores: dict[str, Tensor]) -> Arrays:
    return {name: np.asarray(value.double().numpy()) for name, value in scores.items()}
