"""Measurements that need no further pass of a model: where maps lie, what they are like, how parts rank by them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.asked import Asked
from ibd.comparison.cells import Arrays
from ibd.comparison.methods import UNITS
from ibd.metrics.functional.localization import THRESHOLDS, best_threshold, energy_shares, iou_curve, localize
from ibd.metrics.functional.part_scores import (
    normalised_mse,
    part_importance,
    part_spearman,
    sign_agreement,
    top_part_hit,
)
from ibd.metrics.functional.properties import complexity, conservation, negative_share, sparseness
from ibd.metrics.functional.subsets import removal_auc, removal_curve, set_scores, shapley


def localization(asked: Asked) -> Arrays:
    """Return where the positive part of a map lies, against what tells the class, and its share in every region."""
    questions = asked.case.questions
    assert questions.truth is not None
    assert questions.masks is not None
    found = localize(asked.maps, questions.truth)
    names = ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size")
    scores = {name: found[name] for name in names}
    if asked.validation is not None:
        maps, truth = asked.validation
        chosen, _ = best_threshold(iou_curve(maps, truth))
        scores["iou_best"] = found["iou_curve"][:, THRESHOLDS.index(chosen)]
    hits = (found["box_iou_curve"] >= 0.5).double().where(~found["box_iou_curve"].isnan(), torch.nan)
    best = int(hits.nanmean(0).nan_to_num(-1.0).argmax())
    scores["box_accuracy"] = hits[:, best]
    regions = torch.cat([questions.masks, ~questions.masks.any(1, keepdim=True)], 1)
    return _plain(scores) | {"curve:energy": energy_shares(asked.maps, regions).numpy()}


def properties(asked: Asked) -> Arrays:
    """Return what a map is like."""
    maps, value = asked.maps, asked.answers.value
    scores = {
        "negative_share": negative_share(maps),
        "sparseness": sparseness(maps),
        "complexity": complexity(maps),
    }
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
    importance, visible, truth = importance_of_parts(asked), masks.flatten(2).any(2), shapley(case.parts)
    truth = truth.where(visible, torch.nan)
    curve = removal_curve(importance, case.parts, visible)
    scores = {
        "part_spearman": part_spearman(importance, truth),
        "part_sign": sign_agreement(importance, truth),
        "part_error": normalised_mse(importance, truth),
        "part_top": top_part_hit(importance, truth),
        "part_removal": removal_auc(curve),
        **set_scores(importance, case.kept, visible),
    }
    return _plain(scores) | {"curve:part_removal": curve.numpy(), "importance": importance.numpy()}


def importance_of_parts(asked: Asked) -> Tensor:
    """Return (N, P): means of the map over the parts, or of a model's units what those of a part contribute."""
    masks = asked.case.questions.masks
    assert masks is not None
    if asked.method.name != UNITS:
        return part_importance(asked.maps, masks)
    units, members = asked.answers.units, asked.case.unit_parts
    assert units is not None
    assert members is not None
    return (units.double() @ members.double()).where(masks.flatten(2).any(2), torch.nan)


def _plain(scores: dict[str, Tensor]) -> Arrays:
    return {name: np.asarray(value.double().numpy()) for name, value in scores.items()}
