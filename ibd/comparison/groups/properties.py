"""What a map is like by itself."""

from __future__ import annotations

import torch

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import POSITIVE, UNIT, Group, Measured, Metric
from ibd.comparison.groups.values import few, scores
from ibd.metrics.functional.properties import complexity, conservation, negative_share, sparseness


def measure(asked: Asked) -> Measured:
    """Return what a map is like."""
    maps, value = asked.maps, asked.attributions.value
    measures = {"negative_share": negative_share, "sparseness": sparseness, "complexity": complexity}
    some = few(len(maps))
    values = {name: torch.cat([function(maps[part]) for part in some]) for name, function in measures.items()}
    if not bool(value.isnan().all()):
        values["conservation"] = conservation(maps, value)
    return Measured(scores(values))


_METRICS = (
    Metric("conservation", "Conservation", "Gap between the map's sum and the explained value, relative to that value.",
           POSITIVE, False, "Sundararajan et al. 2017", "map model", conservation, scale_free=False),
    Metric("negative_share", "Negative", "Share of the mass that is negative.", UNIT, False, "Montavon et al. 2018",
           "map", negative_share),
    Metric("sparseness", "Sparseness", "Gini index of the absolute values.", UNIT, True, "Chalasani et al. 2020", "map",
           sparseness),
    Metric("complexity", "Complexity", "Entropy of the shares of the absolute values, in nats.", POSITIVE, False,
           "Bhatt et al. 2020", "map", complexity),
)  # fmt: skip

PROPERTIES = Group(
    "properties",
    "Properties",
    _METRICS,
    measure,
)
