"""A model's own units: whether predictions fall where the units go that the model says they rest on."""

from __future__ import annotations

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import ANY, POSITIVE, CurveOf, Group, Measured, Metric
from ibd.comparison.groups.values import points, scores
from ibd.comparison.methods import UNITS as UNITS_ROW
from ibd.comparison.probes.units import completeness, encoded, interpretable, unit_tables
from ibd.metrics.functional.curves import ablation_gain
from ibd.metrics.functional.self_consistency import unit_completeness


def measure(asked: Asked) -> Measured:
    """Return how much sooner a prediction falls where relevant units go. A unit is set to its mean over the images."""
    assert asked.attributions.units is not None
    case = asked.case
    network, encodings = interpretable(case.predictor), encoded(case.predictor, case.images.pixels)
    means = network.passed(encodings).mean(0)
    ids = case.images.ids
    tables = unit_tables(
        case.predictor, encodings, asked.attributions.units, case.classes, ids, value=means, seed=case.seed
    )
    ordered, random = tables.ordered.centered, tables.random.centered
    return Measured(
        scores(
            {
                "unit_ablation": ablation_gain(ordered, random, tables.fractions),
                "unit_completeness": completeness(network, encodings, case.classes),
            }
        ),
        {
            "unit_ablation": points(tables.fractions, ordered),
            "unit_ablation_random": points(tables.fractions, random),
            "unit_ablation_reversed": points(tables.fractions, tables.reversed.centered),
        },
    )


def _why_not(asked: Asked) -> str | None:
    return None if asked.attributions.units is not None and asked.method.name != UNITS_ROW else ""


def _curve(name: str, line: str) -> CurveOf:
    title = "Unit ablation: units are silenced"
    return CurveOf(name, title, "share of units ablated", "centered logit", line, "unit_ablation")


_METRICS = (
    Metric("unit_ablation", "Unit ablation",
           "How much faster predictions fall by ablating relevant units than random ones.",
           ANY, True, "ablation of units", "units model", ablation_gain, 0.0, question="Faithfulness"),
    Metric("unit_completeness", "Completeness", "Gap between the explained value and bias plus contributions.",
           POSITIVE, False, "Sundararajan et al. 2017", "units model", unit_completeness, scale_free=False),
)  # fmt: skip

UNITS = Group(
    "units",
    "Units",
    _METRICS,
    measure,
    _why_not,
    (
        _curve("unit_ablation", "relevant first"),
        _curve("unit_ablation_random", "random order"),
        _curve("unit_ablation_reversed", "relevant last"),
    ),
)
