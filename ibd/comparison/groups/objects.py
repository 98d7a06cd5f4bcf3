"""Finer than parts: all objects of a scene, and the cells of a grid."""

from __future__ import annotations

import torch

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import SIGNED, Group, Measured, Metric
from ibd.comparison.groups.values import few, scores
from ibd.comparison.methods import ORACLE
from ibd.comparison.probes.pixels import region_means
from ibd.metrics.functional.part_scores import cell_spearman, part_importance, part_spearman


def measure(asked: Asked) -> Measured:
    """Return how well a map ranks all objects of a scene, and the cells of a grid, by what they are worth.

    The oracle's map knows parts only; here it says what is true.
    """
    values, cells = asked.case.object_values, asked.case.cell_values
    assert values is not None
    assert cells is not None
    if asked.method.name == ORACLE:
        said, of_cells = values, cells
    else:
        masks = asked.case.images.drawings.masks
        said = torch.cat([part_importance(asked.maps[some], masks[some]) for some in few(len(masks))])
        of_cells = torch.cat([region_means(asked.maps[some]) for some in few(len(masks))])
    rho = {"object_spearman": part_spearman(said, values), "cell_spearman": cell_spearman(of_cells, cells)}
    return Measured(scores(rho))


_METRICS = (
    Metric("object_spearman", "Object Spearman",
           "Spearman's correlation over parts and distractors with what each alone adds.",
           SIGNED, True, "this project", "scene model map", part_spearman, 0.0, by_painting=True),
    Metric("cell_spearman", "Cell Spearman",
           "Spearman's correlation over cells of a grid with what each cell's content adds.",
           SIGNED, True, "this project", "scene model map", cell_spearman, 0.0, by_painting=True),
)  # fmt: skip

OBJECTS = Group(
    "objects",
    "Parts",
    _METRICS,
    measure,
)
