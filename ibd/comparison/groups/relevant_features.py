"""Which channels of all layers tell the classes, and what rests on them. It is measured of the model alone."""

from __future__ import annotations

from ibd.comparison.groups.record import POSITIVE, UNIT, CurveOf, FigureOf, Group, Metric
from ibd.comparison.probes.layer_features import SELECTED
from ibd.explain.feature_selection import relevant_features
from ibd.metrics.functional.dissection import weighted_iou

_METRICS = (
    Metric("relevant_features", "Relevant features", "Accuracy on images of a class without the channels that tell it.",
           UNIT, None, "Oramas et al. 2019", "model", relevant_features, per_sample=False),
    Metric("relevant_units", "Channels", "Number of channels of all layers that tell a class, within a budget.",
           POSITIVE, None, "Oramas et al. 2019", "model", relevant_features, per_sample=False),
    Metric("relevant_coverage", "Channels' WAIoU", "Weighted mean of the IoU of masks with the best of these channels.",
           UNIT, True, "Behzadi-Khormouji and Oramas 2023", "masks model", weighted_iou, per_sample=False),
)  # fmt: skip

_FIGURES = (
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

RELEVANT = Group(
    "relevant_features",
    "Units",
    _METRICS,
    figures=_FIGURES,
    by_default=False,
    curves=(
        CurveOf("ablation_selected", _TITLE, *_AXES, line="selected", chart="channel_ablation"),
        CurveOf("ablation_random", _TITLE, *_AXES, line="random others", chart="channel_ablation"),
    ),
)
