"""What lies in a model's layers: which classes rest on which labelled concepts, and which channels tell the classes.

It is measured of the model alone, of ours and of anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ibd.comparison.asked import Case
from ibd.comparison.groups.record import POSITIVE, UNIT, CurveOf, FigureOf, Group, Metric
from ibd.comparison.probes.layer_features import (
    SELECTED,
    LayerAccount,
    channels_account,
    concepts_account,
)
from ibd.comparison.results import Comparison, Curve, SelfConsistency, Skipped
from ibd.errors import DataError, IbdError, UnsupportedError
from ibd.explain.concept_slopes import tcav
from ibd.explain.feature_coverage import semantic_coverage
from ibd.explain.feature_selection import relevant_features

_TCAV = (
    Metric("tcav", "TCAV", "Share of images of a class in which more of a concept, by a layer, speaks for the class.",
           UNIT, None, "Kim et al. 2018", "concepts model", tcav, per_sample=False),
)  # fmt: skip

_TCAV_FIGURES = (
    FigureOf(
        "tcav_significant",
        "Share of the pairs of a class and a concept in which the class rests on the concept, for it or against: the "
        "slope along the concept's direction is apart from those of random directions (p < 0.05, corrected).",
        "tcav",
    ),
    FigureOf(
        "tcav_truth",
        "How well the slopes tell which concepts the classes have (AUROC over all pairs; a class has a concept that "
        "holds in most of its training images). 1: more of a concept speaks for the classes that have it; 0.5: chance.",
        "tcav",
    ),
    FigureOf(
        "tcav_auroc",
        "How well the concepts' directions tell images that they were not fitted on (mean AUROC). Near 0.5 the layer "
        "does not tell the concepts, and nothing can be said.",
        "tcav",
    ),
)

_CHANNELS = (
    Metric("relevant_features", "Relevant features", "Accuracy on images of a class without the channels that tell it.",
           UNIT, None, "Oramas et al. 2019", "model", relevant_features, per_sample=False),
    Metric("relevant_units", "Channels", "Number of channels of all layers that tell a class, within a budget.",
           POSITIVE, None, "Oramas et al. 2019", "model", relevant_features, per_sample=False),
    Metric("relevant_coverage", "Channels' WAIoU", "Weighted mean of the IoU of masks with the best of these channels.",
           UNIT, True, "Behzadi-Khormouji and Oramas 2023", "masks model", semantic_coverage, per_sample=False),
)  # fmt: skip

_CHANNEL_FIGURES = (
    FigureOf(
        "relevant_accuracy",
        "Share of training images whose class the selected channels alone tell (a channel's maximum each, weighed "
        "within a budget for each class).",
        "relevant_features",
    ),
    FigureOf(
        "relevant_ablated",
        f"Accuracy on images of a class without the {SELECTED} channels of the largest weights for it, set to 0. The "
        "lower beside relevant_ablated_random, the more rests on them.",
        "relevant_features",
    ),
    FigureOf(
        "relevant_ablated_random",
        "The same without as many other channels of the same layers, drawn at random.",
        "relevant_features",
    ),
    FigureOf("relevant_units", "Mean number of channels that were selected for a class.", "relevant_units"),
    FigureOf(
        "relevant_coverage",
        "Mean over parts and concepts, weighted by area, of the IoU with the selected channel that fits best.",
        "relevant_coverage",
    ),
    FigureOf(
        "relevant_coverage_random",
        "The same of as many other channels of the same layers, drawn at random.",
        "relevant_coverage",
    ),
)

_TITLE = "Accuracy without channels"
_AXES = "channels of each class taken out", "accuracy on its images"

TCAV = Group("tcav", "Units", _TCAV, figures=_TCAV_FIGURES, by_default=False)
RELEVANT = Group(
    "relevant_features",
    "Units",
    _CHANNELS,
    figures=_CHANNEL_FIGURES,
    by_default=False,
    curves=(
        CurveOf("ablation_selected", _TITLE, *_AXES, line="selected", chart="channel_ablation"),
        CurveOf("ablation_random", _TITLE, *_AXES, line="random others", chart="channel_ablation"),
    ),
)


def add_layer_features(comparison: Comparison, case: Case) -> None:
    """Add what lies in the layers of a model, as far as it is asked for."""
    wanted = set(comparison.metrics)
    if wanted & set(TCAV.names):
        _add(comparison, case, TCAV, concepts_account)
    if wanted & set(RELEVANT.names):
        _add(comparison, case, RELEVANT, channels_account)


def _add(comparison: Comparison, case: Case, group: Group, measure: Callable[[Case], LayerAccount]) -> None:
    """Add the figures, the table and the curves of one of the groups."""
    model, name = case.model, case.model.info.name
    key = {"kind": group.name, "model": model.fingerprint, "data": case.images.fingerprint, "seed": case.seed}
    key["split"] = model.asked

    def compute() -> LayerAccount:
        try:
            return measure(case)
        except DataError as error:  # too few images: that is said, and the rest is measured
            raise UnsupportedError(str(error)) from error

    try:
        found = case.cache.get(key, LayerAccount, compute)
    except IbdError as error:
        comparison.skipped.append(Skipped(name, None, group.name, str(error)))
        return
    wanted = {figure.name for figure in group.figures if figure.metric in comparison.metrics}
    before = comparison.self_consistency.get(name, SelfConsistency())
    figures = {figure: value for figure, value in found.figures.items() if figure in wanted}
    comparison.self_consistency[name] = replace(before, figures={**before.figures, **figures})
    comparison.skipped += [Skipped(name, None, metric, why) for metric, why in found.left_out.items()]
    if found.concepts is not None:
        comparison.concept_tests[name] = found.concepts
    for curve in group.curves:
        if curve.name in found.curves and group.names[0] in comparison.metrics:
            drawn = Curve(found.counts, found.curves[curve.name], curve.x_label, curve.y_label)
            comparison.own_curves.setdefault((name, curve.chart), {})[curve.line] = drawn
