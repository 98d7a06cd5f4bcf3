"""Dissection: what the units of a model detect. It is measured of the model alone, with its self-consistency."""

from __future__ import annotations

from ibd.comparison.groups.record import POSITIVE, UNIT, FigureOf, Group, Metric
from ibd.metrics.functional.dissection import detectors, weighted_iou
from ibd.metrics.functional.forms import compositional_form

_METRICS = (
    Metric("unique_detectors", "Detectors", "Number of different concepts that units detect by IoU over the data set.",
           POSITIVE, True, "Bau et al. 2017", "unit_maps masks", detectors, per_sample=False),
    Metric("form_iou", "Form IoU", "IoU of a unit with the best logical form of concepts.", UNIT, True,
           "Mu and Andreas 2020", "unit_maps masks", compositional_form, per_sample=False),
    Metric("semantic_coverage", "WAIoU", "Weighted mean of the IoU of responses with concepts.", UNIT, True,
           "Behzadi-Khormouji and Oramas 2023", "unit_maps masks", weighted_iou, per_sample=False),
)  # fmt: skip

_FIGURES = (
    FigureOf(
        "detectors",
        "Share of units that detect some part or concept (IoU above 0.04 where the unit is highest).",
        "unique_detectors",
    ),
    FigureOf("unique_detectors", "Number of different parts and concepts that some unit detects.", "unique_detectors"),
    FigureOf(
        "dissection_iou",
        "Mean over units of the IoU with the concept that they detect best. Maps are coarse, so even good units "
        "are far from 1.",
        "unique_detectors",
    ),
    FigureOf("dissection_own_iou", "Mean IoU of units with the concept that they are named for.", "unique_detectors"),
    FigureOf(
        "dissection_own_best",
        "Share of named units whose own concept, of all concepts, fits their map best. 1: names say where.",
        "unique_detectors",
    ),
    FigureOf(
        "semantic_coverage",
        "Mean over parts and concepts, weighted by area, of the IoU with the unit that fits best.",
        "semantic_coverage",
    ),
    FigureOf(
        "form_iou",
        "Mean IoU of the units that fit best with a logical form of up to three concepts.",
        "form_iou",
    ),
    FigureOf(
        "form_single_iou",
        "The same units with a single concept: if a form fits much better, one name is not enough.",
        "form_iou",
    ),
    FigureOf("form", "IoU of a unit with the logical form that fits it best.", "form_iou"),
)

DISSECTION = Group(
    "dissection",
    "Units",
    _METRICS,
    figures=_FIGURES,
)
