"""Metrics: torchmetrics classes over pure functions. They know nothing of our models."""

from ibd.metrics.compactness import ExplanationSize, explanation_size, head_sparsity, prototype_uniqueness
from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC, auroc_per_concept
from ibd.metrics.parts import (
    CONSISTENCY_HALF,
    PURITY_HALF,
    add_noise,
    energy_inside,
    part_centres,
    part_hits,
    peak_positions,
    peaks_inside,
)
from ibd.metrics.prototypes import (
    EnergyPointingGame,
    PointingGame,
    PrototypeConsistency,
    PrototypeStability,
)
from ibd.metrics.purity import PrototypePurity

__all__ = [
    "CONSISTENCY_HALF",
    "PURITY_HALF",
    "ConceptAUROC",
    "ConceptAccuracy",
    "EnergyPointingGame",
    "ExplanationSize",
    "PointingGame",
    "PrototypeConsistency",
    "PrototypePurity",
    "PrototypeStability",
    "add_noise",
    "auroc_per_concept",
    "energy_inside",
    "explanation_size",
    "head_sparsity",
    "part_centres",
    "part_hits",
    "peak_positions",
    "peaks_inside",
    "prototype_uniqueness",
]
