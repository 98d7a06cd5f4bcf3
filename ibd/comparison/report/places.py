"""The map of where the images lie, by what a model makes of them."""

from __future__ import annotations

import torch
from matplotlib import rc_context

from ibd.comparison.report.curves import Chart
from ibd.comparison.report.numbers import percent
from ibd.comparison.report.svg import STYLE, inline
from ibd.comparison.results import Comparison, ModelInfo
from ibd.explain.code_map import CodeMap
from ibd.explain.code_map_figures import code_map_figure, of_classes


def places_chart(comparison: Comparison, model: ModelInfo) -> Chart | None:
    """Return the map of a model; None where it has none."""
    placed = comparison.placed.get(model.name)
    if placed is None:
        return None
    found = CodeMap(torch.from_numpy(placed.places).float(), "tsne", placed.kept, placed.neighbours)
    groups = of_classes(torch.from_numpy(comparison.labels), comparison.class_names)
    thumbnails = torch.from_numpy(placed.thumbnails).permute(0, 3, 1, 2).float() / 255
    with rc_context(STYLE):
        figure = code_map_figure(found, groups, thumbnails, placed.shown.tolist())
    title = f"{len(placed.places)} images by '{placed.layer}' of {model.name}, laid out by t-SNE"
    wrong = float((placed.predicted != comparison.labels).mean())
    note = (
        f"Of the {placed.neighbours} nearest neighbours of an image by the layer {percent(placed.kept)} are its "
        f"nearest on the map as well. Of its nearest by the layer, as many as there are of its class and at most "
        f"{placed.neighbours}, {percent(placed.same_class)} are of its class. {percent(wrong)} of the images are "
        "predicted wrongly."
    )
    return Chart(f"{model.family}_places", title, inline(figure, title), figure, note=note)
