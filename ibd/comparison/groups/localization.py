"""Localization: whether a map lies where the truth lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import UNIT, CurveOf, Group, Measured, Metric
from ibd.comparison.groups.values import few, points, scores
from ibd.comparison.methods import ORACLE
from ibd.metrics.functional.localization import (
    BOX_THRESHOLDS,
    THRESHOLDS,
    best_threshold,
    box_hits,
    energy_shares,
    iou_at_size,
    iou_curve,
    localize,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
    roc_auc,
)


def measure(asked: Asked) -> Measured:
    """Return where the positive part of a map lies, against the parts that decide, and its share in every region.

    The oracle's map knows what each part is worth, not which decide; here it says what is true.
    """
    wanted, masks = asked.case.truth, asked.case.images.masks
    assert wanted is not None
    assert masks is not None
    oracle = asked.method.name == ORACLE
    given = wanted.float() if oracle else asked.maps
    parts = [
        localize(given[some], wanted[some]) | {"energy": _energy(asked.maps[some], masks[some])}
        for some in few(len(given))
    ]
    measures = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    names = ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size")
    values = {name: measures[name] for name in names}
    if asked.validation is not None:
        maps, truth = (asked.validation[1].float() if oracle else asked.validation[0]), asked.validation[1]
        values["iou_best"] = _cut(measures["iou_curve"], iou_curve(maps, truth), THRESHOLDS)
        values["box_accuracy"] = _cut(measures["box_hits"], box_hits(maps, truth), BOX_THRESHOLDS)
    energy = measures["energy"]
    return Measured(scores(values), {"energy": points(torch.arange(energy.shape[1]), energy)})


def _cut(curves: Tensor, others: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return (N,) of (N, T) curves at the threshold that is best for others; NaN where none of those is defined."""
    if bool(others.isnan().all()):
        return torch.full((len(curves),), torch.nan, dtype=torch.float64)
    chosen, _ = best_threshold(others, thresholds)
    return curves[:, list(thresholds).index(chosen)]


def _energy(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the shares of the parts, and of what is no part, (n, P + 1); what parts share counts for each of them."""
    return energy_shares(maps, torch.cat([masks, ~masks.any(1, keepdim=True)], 1))


_METRICS = (
    Metric("mass_accuracy", "Mass", "Share of the positive mass that lies in the mask.", UNIT, True,
           "Arras et al. 2022", "map masks", mass_accuracy, "mask_share", by_painting=True),
    Metric("rank_accuracy", "Rank",
           "Share of the highest pixels, as many as the mask has, that lie in the mask.", UNIT, True,
           "Arras et al. 2022", "map masks", rank_accuracy, "mask_share"),
    Metric("pointing_game", "Pointing", "Whether the highest pixel lies in the mask.", UNIT, True, "Zhang et al. 2018",
           "map masks", pointing_game, "mask_share"),
    Metric("roc_auc", "AUC", "Chance that a pixel inside the mask is higher than one outside.", UNIT, True,
           "Hanley and McNeil 1982", "map masks", roc_auc, 0.5, by_painting=True),
    Metric("iou_at_size", "IoU, |S|",
           "IoU of the mask with equally many of the highest pixels.", UNIT, True, "this project",
           "map masks", iou_at_size, "mask_share_iou"),
    Metric("iou_best", "IoU, best", "IoU of the map at the cut that is best on the validation split.", UNIT, True,
           "Oramas et al. 2019", "map masks", iou_curve, validated=True),
    Metric("box_accuracy", "Box", "Share of the mask's pieces whose box is hit, at the best cut in validation.",
           UNIT, True, "Choi et al. 2020, several pieces", "map masks", box_hits, validated=True),
    Metric("energy_share", "Energy", "Share of the positive mass that lies in a region.", UNIT, None,
           "Wang et al. 2020", "map masks", energy_shares, "mask_share"),
)  # fmt: skip

LOCALIZATION = Group(
    "localization",
    "Localization",
    _METRICS,
    measure,
    curves=(CurveOf("energy", "Energy", "region", "share of the positive mass"),),
)
