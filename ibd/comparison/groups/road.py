"""Faithfulness by imputing: what is left of the accuracy where pixels are filled in from their neighbors."""

from __future__ import annotations

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import Group, Measured, Metric
from ibd.comparison.groups.values import scores
from ibd.metrics.functional.curves import road


def measure(asked: Asked) -> Measured:
    """Return what is left of the accuracy where pixels are imputed, the highest or the lowest."""
    tables = asked.case.pixels.road(asked.maps)
    return Measured(scores({"road": road(tables.morf.kept, tables.fractions, tables.lerf.kept)}))


_METRICS = (
    Metric("road", "ROAD", "Half the difference in accuracy between imputing the lowest and the highest pixels.",
           (-0.5, 0.5), True, "Rong et al. 2022", "map model", road, 0.0),
)  # fmt: skip

ROAD = Group(
    "road",
    "Faithfulness",
    _METRICS,
    measure,
    by_default=False,  # imputing takes longer than the passes of the model
)
