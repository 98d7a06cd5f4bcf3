"""Which strategies a model has for each class, by clusters of relevance maps. It is measured of the model alone."""

from __future__ import annotations

from ibd.comparison.groups.record import UNIT, FigureOf, Group, Metric
from ibd.explain.strategies import spray

_METRICS = (
    Metric("spray", "SpRAy", "Strangeness of clusters of a class's maps: the same pixels lie under the relevance.",
           UNIT, None, "Lapuschkin et al. 2019", "model", spray, per_sample=False),
)  # fmt: skip

_FIGURES = (
    FigureOf(
        "spray_clusters",
        "Mean number of kinds of relevance maps (LRP) of a class's training images, by the gap in the spectrum. 1: one "
        "strategy for each class.",
        "spray",
    ),
    FigureOf(
        "spray_strangest",
        "Strangeness of the strangest cluster of maps. 1: under its relevance lie the same pixels in all of its "
        "images, as of a mark that was put on them; 0: as different ones as anywhere.",
        "spray",
    ),
    FigureOf(
        "spray_on_tag",
        "Share of the strangest cluster's relevance that lies on the tag, where images are drawn with one.",
        "spray",
    ),
    FigureOf("spray_tag_area", "Share of its images that the tag covers: the same by chance.", "spray"),
)

SPRAY = Group("spray", "Units", _METRICS, figures=_FIGURES, by_default=False)
