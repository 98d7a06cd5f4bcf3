"""Dissection: what the units of a model detect. It is measured of the model alone, with its self-consistency."""

from __future__ import annotations

from ibd.comparison.groups.record import POSITIVE, UNIT, Group, Metric
from ibd.metrics.functional.dissection import compositional_form, detectors, weighted_iou

_METRICS = (
    Metric("dissection", "Detectors", "Number of different concepts that units detect by IoU over the data set.",
           POSITIVE, True, "Bau et al. 2017", "unit_maps masks", detectors, per_sample=False),
    Metric("composition", "Form IoU", "IoU of a unit with the best logical form of concepts.", UNIT, True,
           "Mu and Andreas 2020", "unit_maps masks", compositional_form, per_sample=False),
    Metric("semantic_coverage", "WAIoU", "Weighted mean of the IoU of responses with concepts.", UNIT, True,
           "Behzadi-Khormouji and Oramas 2023", "unit_maps masks", weighted_iou, per_sample=False),
)  # fmt: skip

DISSECTION = Group(
    "dissection",
    "Units",
    _METRICS,
)
