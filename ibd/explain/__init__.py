"""Explanations and the pictures of them. Works on any network through its outputs; imports no model."""

from ibd.explain.axis_charts import (
    auc_figure,
    correlation_figure,
    importance_figure,
    purity_figure,
    trajectory_figure,
)
from ibd.explain.axis_figures import axis_maps_figure, top_images_figure
from ibd.explain.base import Cost, Explainer, Explanation
from ibd.explain.boxes import percentile_box, relative_box
from ibd.explain.figures import prediction_figure
from ibd.explain.prototype_figures import global_figure, local_figure
from ibd.explain.prototypes import local_explanation, local_explanations, to_csv
from ibd.explain.render import colour_map, grid_figure, overlay
from ibd.explain.targets import Target

__all__ = [
    "Cost",
    "Explainer",
    "Explanation",
    "Target",
    "auc_figure",
    "axis_maps_figure",
    "colour_map",
    "correlation_figure",
    "global_figure",
    "grid_figure",
    "importance_figure",
    "local_explanation",
    "local_explanations",
    "local_figure",
    "overlay",
    "percentile_box",
    "prediction_figure",
    "purity_figure",
    "relative_box",
    "to_csv",
    "top_images_figure",
    "trajectory_figure",
]
