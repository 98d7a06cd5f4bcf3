"""Sanity: whether a map changes when the model forgets, the class is another, or the image."""

from __future__ import annotations

from ibd.comparison.asked import Asked
from ibd.comparison.groups.again import explainer_of, why_not_again
from ibd.comparison.groups.record import SIGNED, Group, Measured, Metric
from ibd.comparison.probes.sanity import sanity
from ibd.explain.names import require_names
from ibd.metrics.functional.self_consistency import randomization_verdict


def measure(asked: Asked) -> Measured:
    """Return whether an explanation depends on what the model learned, on the class and on the image."""
    case, count = asked.case, asked.case.probe_images
    chosen = case.images.first(count)
    checks = sanity(
        explainer_of(asked),
        case.model.module,
        chosen.pixels,
        case.classes[:count],
        ids=chosen.ids,
        maps=asked.maps[:count],
        class_count=len(require_names(case.model.module, "class")),
        most=case.stages,
        seed=case.seed,
    )
    return Measured(sanity=checks)


_METRICS = (
    Metric("randomization", "Randomization", "Similarity to the map of the randomized model: pass or fail.", SIGNED,
           False, "Adebayo et al. 2018", "map model explainer", randomization_verdict, per_sample=False),
)  # fmt: skip

SANITY = Group(
    "sanity",
    "Sanity",
    _METRICS,
    measure,
    why_not_again,
)
