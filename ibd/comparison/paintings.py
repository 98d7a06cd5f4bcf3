"""A model's own map, painted in every way: so that no finding hangs on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from ibd.comparison import measuring
from ibd.comparison.answers import explain_all
from ibd.comparison.asked import Asked, Case
from ibd.comparison.methods import Method
from ibd.comparison.plan import GROUPS, Plan
from ibd.comparison.results import Comparison, ExplainerInfo, Skipped
from ibd.errors import UnsupportedError
from ibd.explain.intrinsic import Intrinsic
from ibd.types import Painting

MEASURED = ("parts", "objects", "localization", "pixels")
"""Groups of metrics that are measured of every painting."""


def add_paintings(found: Comparison, case: Case, methods: Sequence[Method], plan: Plan) -> None:
    """Add the scores of a model's own map by painting, where its own map is among the methods."""
    own = {method.explainer.painting: method.name for method in methods if isinstance(method.explainer, Intrinsic)}
    groups = [group for group in plan.groups() if group in MEASURED]
    for painting in get_args(Painting) if own and groups else ():
        if painting in own:
            _copy(found, case.subject.info.name, own[painting], painting, groups)
        else:
            _add(found, case, painting, groups, plan)


def _copy(found: Comparison, model: str, name: str, painting: Painting, groups: Sequence[str]) -> None:
    """Take the scores of a row that is there already."""
    for group in groups:
        for metric in GROUPS[group]:
            if (model, name, metric) in found.scores:
                found.paintings[model, painting, metric] = found.scores[model, name, metric]


def _add(found: Comparison, case: Case, painting: Painting, groups: Sequence[str], plan: Plan) -> None:
    """Explain all images and measure that."""
    model, name = case.subject.info.name, f"intrinsic {painting}"
    method = Method(ExplainerInfo(name, "intrinsic"), Intrinsic(painting), {"painting": painting})
    try:
        asked = Asked(case, method, explain_all(case.subject, method, case.questions, case.classes, case.cells))
    except UnsupportedError as error:
        found.skipped.append(Skipped(model, name, None, str(error)))
        return
    for group in groups:
        if measuring.why_not(group, asked) is None:
            arrays = measuring.kept(group, asked)
            for metric in GROUPS[group]:
                if metric in arrays and metric in plan.metrics:
                    found.paintings[model, painting, metric] = arrays[metric]
