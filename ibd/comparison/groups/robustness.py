"""Robustness: whether a map stays when the image hardly changes."""

from __future__ import annotations

import torch

from ibd.comparison.asked import Asked
from ibd.comparison.groups.again import explainer_of, why_not_again
from ibd.comparison.groups.record import POSITIVE, SIGNED, Group, Measured, Metric
from ibd.comparison.groups.values import scores
from ibd.comparison.probes.robustness import SHIFTS, changed_maps
from ibd.metrics.functional.robustness import (
    continuity,
    local_lipschitz,
    max_l1_change,
    max_sensitivity,
    translation_equivariance,
)


def measure(asked: Asked) -> Measured:
    """Return how much an explanation moves where image and prediction hardly do, and whether it goes with a shift."""
    case, count = asked.case, asked.case.probe_images
    maps, module, classes = asked.maps[:count], case.model.module, case.classes[:count]
    noise, moved = case.changed
    noisy = changed_maps(explainer_of(asked), module, classes, noise)
    shifted = changed_maps(explainer_of(asked), module, classes, moved)
    return Measured(
        scores(
            {
                "local_lipschitz": local_lipschitz(maps, noisy, noise.distance, noise.valid),
                "continuity": continuity(maps, noisy, noise.distance, noise.valid),
                "max_l1_change": max_l1_change(
                    maps,
                    torch.cat([noisy, shifted], 1),
                    torch.cat([noise.distance, moved.distance], 1),
                    torch.cat([noise.valid, moved.valid], 1),
                ),
                "max_sensitivity": max_sensitivity(maps, noisy, noise.valid),
                "translation_equivariance": translation_equivariance(maps, shifted, SHIFTS, moved.valid),
            }
        )
    )


_METRICS = (
    Metric("local_lipschitz", "Lipschitz", "Steepest relative change of the map while the prediction stays the same.",
           POSITIVE, False, "Alvarez-Melis and Jaakkola 2018, relative", "map model explainer", local_lipschitz),
    Metric("continuity", "Continuity", "Mean relative change of the map per change of the image.", POSITIVE, False,
           "Montavon et al. 2018, relative", "map model explainer", continuity),
    Metric("max_l1_change", "L1 change", "Strongest relative L1 change of the map by noise and by moving the image.",
           POSITIVE, False, "Montavon et al. 2018, relative", "map model explainer", max_l1_change),
    Metric("max_sensitivity", "Sensitivity", "Largest relative change of the map while the prediction stays the same.",
           POSITIVE, False, "Yeh et al. 2019", "map model explainer", max_sensitivity),
    Metric("translation_equivariance", "Equivariance", "Correlation of the shifted map with the shifted image's map.",
           SIGNED, True, "this project", "map model explainer", translation_equivariance, 0.0),
)  # fmt: skip

ROBUSTNESS = Group(
    "robustness",
    "Robustness",
    _METRICS,
    measure,
    why_not_again,
)
