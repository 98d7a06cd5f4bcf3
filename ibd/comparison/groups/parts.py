"""Parts: whether an explanation ranks them as drawing the image anew without them shows that they count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import (
    ANY,
    SIGNED,
    UNIT,
    CurveOf,
    Finding,
    Group,
    Measured,
    Metric,
    Variants,
    needs_a_map,
)
from ibd.comparison.groups.values import few, points, scores
from ibd.comparison.methods import ORACLE, UNITS
from ibd.comparison.probes.parts import part_values
from ibd.metrics.functional.part_scores import (
    normalized_mse,
    part_importance,
    part_means,
    part_spearman,
    part_sums,
    sign_agreement,
    top_part_hit,
)
from ibd.metrics.functional.subsets import removal_auc, removal_curve, set_scores

_HESSE = "Hesse et al. 2023, size fixed"
_FINDING = Finding("ranks the parts by importance", "part importance")


def measure(asked: Asked) -> Measured:
    """Return how well the parts' importance by an explanation agrees with what redrawing the image shows."""
    case = asked.case
    masks = case.images.masks
    assert masks is not None
    assert case.parts is not None
    assert case.kept is not None
    importance, visible = importance_of_parts(asked), masks.flatten(2).any(2)
    truth = part_values(case.parts).where(visible, torch.nan)
    means = importance_of_parts(asked, part_means)
    # The oracle's map has a part's value in every pixel of it; for sums it would be the value over the area.
    sums = means if asked.method.name == ORACLE else importance_of_parts(asked, part_sums)
    curve = removal_curve(importance, case.parts, visible)
    return Measured(
        scores(
            {
                "part_spearman": part_spearman(importance, truth),
                "part_spearman_mean": part_spearman(means, truth),
                "part_spearman_sum": part_spearman(sums, truth),
                "part_sign": sign_agreement(importance, truth),
                "part_error": normalized_mse(importance, truth),
                "part_top": top_part_hit(importance, truth),
                "part_removal": removal_auc(curve),
                **set_scores(importance, case.kept, visible),
            }
        ),
        {"part_removal": points(torch.arange(curve.shape[1]), curve)},
    )


def importance_of_parts(asked: Asked, by: Callable[[Tensor, Tensor], Tensor] = part_importance) -> Tensor:
    """Return (N, P): what the map says of the parts, or of a model's units what those of a part contribute.

    Args:
        asked: whom, and about which images.
        by: of (n, H, W) maps and (n, P, H, W) masks; units have no map, and are the same by any.
    """
    masks = asked.case.images.masks
    assert masks is not None
    if asked.method.name != UNITS:
        return torch.cat([by(asked.maps[some], masks[some]) for some in few(len(masks))])
    units, members = asked.attributions.units, asked.case.unit_parts
    assert units is not None
    assert members is not None
    return (units.double() @ members.double()).where(masks.flatten(2).any(2), torch.nan)


def _why_not(asked: Asked) -> str | None:
    if asked.case.parts is None:
        return "no scene can be drawn again"
    return None if asked.method.name == UNITS else needs_a_map(asked)


_METRICS = (
    Metric("part_spearman", "Part Spearman", "Spearman's correlation of importance with Shapley values.", SIGNED, True,
           "Hesse et al. 2023, means for sums", "scene model", part_spearman, 0.0, by_painting=True, finding=_FINDING),
    Metric("part_spearman_mean", "Part Spearman, mean",
           "Spearman's correlation of means over parts, without a ring, with Shapley values.", SIGNED, True,
           "Hesse et al. 2023, means for sums", "scene model", part_spearman, 0.0, by_painting=True),
    Metric("part_spearman_sum", "Part Spearman, sum",
           "Spearman's correlation of sums over parts with Shapley values: large parts win.", SIGNED, True,
           "Hesse et al. 2023",
           "scene model", part_spearman, by_painting=True),
    Metric("part_sign", "Part sign", "Share of parts whose importance has the sign of their Shapley value.", UNIT, True,
           "this project", "scene model", sign_agreement, 0.5),
    Metric("part_error", "Part error",
           "Squared error of the parts' importance at its best scale, relative to all zeros.",
           UNIT, False, "this project", "scene model", normalized_mse),
    Metric("part_top", "Top part", "Whether the most important part has the highest Shapley value.", UNIT, True,
           "this project", "scene model", top_part_hit, "one_part"),
    Metric("part_removal", "Part removal", "Area under the explained value while images are drawn with fewer parts.",
           ANY, False, "this project", "scene model", removal_auc, by_painting=True),
    Metric("csdc", "CSDC",
           "Largest share of a minimal sufficient set in the top parts (as many as the smallest set has).",
           UNIT, True, _HESSE, "scene model", set_scores),
    Metric("pc", "PC", "Whether these top parts alone keep the prediction.", UNIT, True, _HESSE, "scene model",
           set_scores),
    Metric("dc", "DC", "Whether the prediction changes without these top parts.", UNIT, True, _HESSE, "scene model",
           set_scores),
)  # fmt: skip

PARTS = Group(
    "parts",
    "Parts",
    _METRICS,
    measure,
    _why_not,
    (
        CurveOf(
            "part_removal",
            "Part removal: the image is drawn again with fewer parts",
            "parts removed",
            "centered logit",
        ),
    ),
    Variants(("part_spearman", "part_spearman_mean", "part_spearman_sum"), "how a part is scored"),
    (("part_spearman",),),
)
