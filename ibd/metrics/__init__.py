"""Metrics: torchmetrics classes over pure functions. They know nothing of our models."""

from ibd.metrics.axes import AxisPurity, ConceptImportance, auc_matrix
from ibd.metrics.compactness import ExplanationSize, explanation_size, head_sparsity, prototype_uniqueness
from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC, auroc_per_concept
from ibd.metrics.filters import LocationInstability, PartInterpretability
from ibd.metrics.maps import MapScore, quantus_metric
from ibd.metrics.parts import (
    CONSISTENCY_HALF,
    PURITY_HALF,
    add_noise,
    chosen_peaks,
    energy_inside,
    part_centers,
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
from ibd.metrics.quantities import QuantityMAE, QuantityR2
from ibd.metrics.whitening import (
    AxisCorrelation,
    ConceptSeparation,
    Whiteness,
    axis_correlation,
    correlation_matrix,
    mean_off_diagonal,
)

__all__ = [
    "CONSISTENCY_HALF",
    "PURITY_HALF",
    "AxisCorrelation",
    "AxisPurity",
    "ConceptAUROC",
    "ConceptAccuracy",
    "ConceptImportance",
    "ConceptSeparation",
    "EnergyPointingGame",
    "ExplanationSize",
    "LocationInstability",
    "MapScore",
    "PartInterpretability",
    "PointingGame",
    "PrototypeConsistency",
    "PrototypePurity",
    "PrototypeStability",
    "QuantityMAE",
    "QuantityR2",
    "Whiteness",
    "add_noise",
    "auc_matrix",
    "auroc_per_concept",
    "axis_correlation",
    "chosen_peaks",
    "correlation_matrix",
    "energy_inside",
    "explanation_size",
    "head_sparsity",
    "mean_off_diagonal",
    "part_centers",
    "part_hits",
    "peak_positions",
    "peaks_inside",
    "prototype_uniqueness",
    "quantus_metric",
]
