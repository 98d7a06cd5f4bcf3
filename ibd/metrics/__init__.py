"""Metrics: torchmetrics classes over pure functions. They know nothing of our models."""

from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC, auroc_per_concept

__all__ = ["ConceptAUROC", "ConceptAccuracy", "auroc_per_concept"]
