"""What `ibd compare` can measure: a file for every group of metrics, which everything else is made from.

The plan, the columns of the report, ``ibd list metrics`` and the table in ``docs/comparison.md`` read these records.
"""

from __future__ import annotations

from ibd.comparison.groups.agreement import AGREEMENT
from ibd.comparison.groups.dissection import DISSECTION
from ibd.comparison.groups.localization import LOCALIZATION
from ibd.comparison.groups.objects import OBJECTS
from ibd.comparison.groups.parts import PARTS
from ibd.comparison.groups.pasted import BIM
from ibd.comparison.groups.pixels import PIXELS
from ibd.comparison.groups.properties import PROPERTIES
from ibd.comparison.groups.record import CurveOf, FigureOf, Group, Metric, Question, Variants
from ibd.comparison.groups.relevant_features import RELEVANT
from ibd.comparison.groups.road import ROAD
from ibd.comparison.groups.robustness import ROBUSTNESS
from ibd.comparison.groups.sanity import SANITY
from ibd.comparison.groups.self_consistency import SELF_CONSISTENCY
from ibd.comparison.groups.spray import SPRAY
from ibd.comparison.groups.tcav import TCAV
from ibd.comparison.groups.units import UNITS
from ibd.errors import ConfigError, did_you_mean

_ALL = (
    PIXELS,
    ROAD,
    PARTS,
    OBJECTS,
    LOCALIZATION,
    AGREEMENT,
    PROPERTIES,
    ROBUSTNESS,
    SANITY,
    BIM,
    UNITS,
    SELF_CONSISTENCY,
    DISSECTION,
    TCAV,
    RELEVANT,
    SPRAY,
)
GROUPS: dict[str, Group] = {group.name: group for group in _ALL}
"""Name -> group, in the order of a report."""
METRICS: dict[str, Metric] = {metric.name: metric for group in _ALL for metric in group.metrics}
"""Name -> metric, in the order of a report."""
CURVES: dict[str, CurveOf] = {curve.name: curve for group in _ALL for curve in group.curves}
"""Name -> curve that is measured beside the scores."""
FIGURES: dict[str, FigureOf] = {figure.name: figure for group in _ALL for figure in group.figures}
"""Name -> figure of a model alone."""
VARIANTS: dict[str, Variants] = {
    name: group.variants for group in _ALL if group.variants is not None for name in group.variants.metrics
}
"""Metric -> the ways to score the same, itself among them."""
MAIN = (*PARTS.main, *PIXELS.main)
"""What a verdict rests on: the first choice of which something was measured."""
_GROUP_OF = {metric.name: group for group in _ALL for metric in group.metrics}


def metric(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METRICS:
        raise ConfigError(f"unknown metric '{name}'.{did_you_mean(name, METRICS)}")
    return METRICS[name]


def group_of(name: str) -> Group:
    """Return the group of a metric.

    Raises:
        ConfigError: there is no such metric.
    """
    return _GROUP_OF[metric(name).name]


def question_of(name: str) -> Question:
    """Return the question that a metric answers.

    Raises:
        ConfigError: there is no such metric.
    """
    return metric(name).question or group_of(name).question
