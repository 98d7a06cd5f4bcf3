"""Training of concept embedding models: everything jointly, with random corrections (Espinosa Zarlenga et al. 2022)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.errors import ConfigError, check_range, check_weights
from ibd.models.cbm.losses import Imbalance
from ibd.models.cbm.training import ConceptModule
from ibd.models.cem.network import ConceptEmbeddingNetwork
from ibd.types import Batch, DataSpec, Output, Units


class ConceptEmbedding(ConceptModule):
    """A concept embedding model: a concept passes a vector to the classes, which its probability chooses.

    Args:
        spec: concepts, classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        embedding_size: m, the length of each concept's two vectors.
        intervention_rate: probability with which a concept of a training image is replaced by its truth before the
            classes are named, drawn for each concept of each image; 0 to 1.
        concept_weight: alpha, the weight of the mean loss of the concepts beside the class loss.
        imbalance: "concept" weighs concept j by n0/n1 as published; "pos_weight" weighs its positives only; "none".
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: ConceptEmbeddingNetwork

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        embedding_size: int = 16,
        intervention_rate: float = 0.25,
        concept_weight: float = 1.0,
        imbalance: Imbalance = "concept",
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        check_range("model.embedding_size", embedding_size, least=1)
        vectors = embedding_size * len(spec.concept_names)
        check_weights("model.embedding_size", embedding_size, vectors * len(spec.class_names))
        if not 0 <= intervention_rate <= 1:
            raise ConfigError(f"model.intervention_rate: {intervention_rate} given, a share from 0 to 1 is needed")
        check_range("model.concept_weight", concept_weight, least=0)
        super().__init__(spec, ConceptEmbeddingNetwork(build_backbone(backbone), spec, embedding_size), optimizer)
        self.intervention_rate, self.concept_weight = intervention_rate, concept_weight
        self.keep_ratio(imbalance)
        self.save_plain(
            backbone=backbone,
            embedding_size=embedding_size,
            intervention_rate=intervention_rate,
            concept_weight=concept_weight,
            imbalance=imbalance,
            optimizer=optimizer,
        )

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the class loss, the concept loss, and what is minimized.

        In training, the class loss is that of the classes after random corrections; the concept loss, and the metrics,
        are of what was predicted.
        """
        concept = self.concept_loss(output, batch) / self.network.concept_count
        logits = output.logits
        if self.training and self.intervention_rate:
            logits = self.network.decode(self.corrected(output.units, batch.concepts))
        task = F.cross_entropy(logits, batch.label)
        return {"loss": task + self.concept_weight * concept, "class_loss": task, "concept_loss": concept}

    def corrected(self, units: Units, concepts: Tensor) -> Units:
        """Return units in which each known concept of each image is replaced by its truth with a probability (RandInt).

        Args:
            units: units of B images.
            concepts: (B, K) in [0, 1], NaN where unknown: these are never replaced.
        """
        chosen = torch.rand_like(concepts) < self.intervention_rate
        scores = self.network.truth_logits(units.scores, concepts.to(units.scores.dtype), chosen & ~concepts.isnan())
        return Units(scores, units.maps, units.state)
