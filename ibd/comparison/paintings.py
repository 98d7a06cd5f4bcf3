"""A model's own map, painted in every way: so that no finding hangs on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from ibd.comparison import measuring
from ibd.comparison.asked import Asked, Case
from ibd.comparison.attributions import CHUNK, Attributions
from ibd.comparison.groups import GROUPS
from ibd.comparison.groups.record import Group
from ibd.comparison.methods import Method
from ibd.comparison.plan import Plan
from ibd.comparison.results import Comparison, ExplainerInfo, Skipped
from ibd.errors import UnsupportedError
from ibd.explain.intrinsic import Intrinsic, repaint
from ibd.types import Painting


def add_paintings(
    comparison: Comparison, case: Case, methods: Sequence[Method], attributions: Mapping[str, Attributions], plan: Plan
) -> None:
    """Add the scores of a model's own map by painting, where its own map is among the methods.

    The contributions are those of the first such row; nothing but where they are painted is computed anew.
    """
    own = [method for method in methods if isinstance(method.explainer, Intrinsic) and method.name in attributions]
    groups = [group for group in map(GROUPS.__getitem__, plan.groups()) if group.by_painting]
    if not own or not groups:
        return
    done = {method.explainer.painting: method.name for method in own if isinstance(method.explainer, Intrinsic)}
    for painting in get_args(Painting):
        if painting in done:
            _copy(comparison, case.model.info.name, done[painting], painting, groups)
        else:
            _add(comparison, case, attributions[own[0].name], painting, groups, plan)


def _copy(comparison: Comparison, model: str, name: str, painting: Painting, groups: Sequence[Group]) -> None:
    """Take the scores of a row that is there already."""
    for metric in (name for group in groups for name in group.names):
        if (model, name, metric) in comparison.scores:
            comparison.paintings[model, painting, metric] = comparison.scores[model, name, metric]


def _add(
    comparison: Comparison, case: Case, account: Attributions, painting: Painting, groups: Sequence[Group], plan: Plan
) -> None:
    """Paint what the units contribute to all images, and measure that."""
    model, name = case.model.info.name, f"intrinsic {painting}"
    method = Method(ExplainerInfo(name, "intrinsic"), Intrinsic(painting), {"painting": painting})
    try:
        asked = Asked(case, method, replace(account, maps=_maps(case, account, painting), units=None))
        for group in groups:
            if group.why_not(asked) is None:
                for metric, values in measuring.measured(group, asked).scores.items():
                    if metric in plan.metrics:
                        comparison.paintings[model, painting, metric] = values
    except UnsupportedError as error:
        comparison.skipped.append(Skipped(model, name, None, str(error)))


def _maps(case: Case, account: Attributions, painting: Painting) -> Tensor:
    """Return the (N, H, W) maps of what the units contribute, a few images at a time."""
    assert account.units is not None
    module, device = case.model.module, case.predictor.device
    pairs = zip(torch.split(case.images.pixels, CHUNK), torch.split(account.units, CHUNK), strict=True)
    return torch.cat([repaint(module, images.to(device), units, painting).float().cpu() for images, units in pairs])
