"""Which classes rest on which labelled concepts, by a layer. It is measured of the model alone."""

from __future__ import annotations

from ibd.comparison.groups.record import UNIT, FigureOf, Group, Metric
from ibd.explain.concept_slopes import tcav

_METRICS = (
    Metric("tcav", "TCAV", "Share of images of a class in which more of a concept, by a layer, speaks for the class.",
           UNIT, None, "Kim et al. 2018", "concepts model", tcav, per_sample=False),
)  # fmt: skip

_FIGURES = (
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

TCAV = Group("tcav", "Units", _METRICS, figures=_FIGURES, by_default=False)
