"""Objects pasted on scenes (BAM, Yang and Kim 2019): what a network was trained to need, and what it was not."""

from __future__ import annotations

from ibd.comparison.asked import Asked
from ibd.comparison.groups.again import explainer_of, why_not_again
from ibd.comparison.groups.record import SIGNED, UNIT, Group, Measured, Metric
from ibd.comparison.groups.values import scores
from ibd.comparison.probes.explaining import maps_of
from ibd.metrics.functional.pasted import input_dependence_rate, input_independence_rate, model_contrast


def measure(asked: Asked) -> Measured:
    """Return what an explanation gives to the object by two networks, and by one with and without the object."""
    pair, explain = asked.case.pasted, explainer_of(asked)
    assert pair is not None
    found = {}
    if pair.scenes is not None:
        pasted, bare, patched = (
            maps_of(explain, pair.scenes, images, pair.scene_classes)
            for images in (pair.images, pair.bare, pair.patched)
        )
        found["input_dependence_rate"] = input_dependence_rate(pasted, bare, pair.mask, pair.depends)
        found["input_independence_rate"] = input_independence_rate(bare, patched, pair.mask, pair.insignificant)
        if pair.objects is not None:
            own = maps_of(explain, pair.objects, pair.images, pair.object_classes)
            found["model_contrast"] = model_contrast(own, pasted, pair.mask, pair.both)
    return Measured(scores(found))


_METRICS = (
    Metric("model_contrast", "Contrast", "How much more the object gets where it decides than where the scene does.",
           SIGNED, True, "Yang and Kim 2019", "map model explainer contrast", model_contrast, 0.0),
    Metric("input_dependence_rate", "Input dependence",
           "Share of images whose object gets less than the scene behind it, where the scene decides.",
           UNIT, True, "Yang and Kim 2019", "map model explainer scene_model", input_dependence_rate, 0.5),
    Metric("input_independence_rate", "Input independence",
           "Share of images whose map stays the same under a patch by which the prediction does.",
           UNIT, True, "Yang and Kim 2019", "map model explainer scene_model", input_independence_rate),
)  # fmt: skip

BIM = Group("bim", "Sanity", _METRICS, measure, why_not_again, by_default=False)
