"""What the training of every model with labeled concepts shares: metrics, weights of rare concepts, checks."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from ibd.data.base import ImageDataModule
from ibd.data.coverage import silent_concepts, untaught
from ibd.errors import ConfigError
from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.losses import Imbalance, concept_loss, imbalance_ratio
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, Output

_log = logging.getLogger(__name__)


class ConceptModule(InterpretableModule):
    """A `ConceptNetwork` with the loss and the metrics of its concepts; a subclass says how they go with the class.

    Attributes:
        imbalance: which concepts the loss counts more, see `ibd.models.cbm.losses.concept_loss`.
        ratio: (K,) ``n0 / n1`` of each concept in the training set.
    """

    network: ConceptNetwork
    needs_images = None
    imbalance: Imbalance
    ratio: Tensor

    def keep_ratio(self, imbalance: Imbalance) -> None:
        """Make room for the ratio, which `setup` counts."""
        self.imbalance = imbalance
        self.register_buffer("ratio", torch.ones(self.network.concept_count))

    def build_metrics(self) -> dict[str, MetricCollection]:
        """Return the class metrics, and the accuracy and AUROC of the concepts."""
        accuracy = MetricCollection({"concept_accuracy": ConceptAccuracy()})
        ranking = MetricCollection({"concept_auroc": ConceptAUROC()})
        return {**super().build_metrics(), "concept": accuracy, "ranking": ranking}

    def metric_inputs(self, output: Output, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (predictions, targets) for the class and the concept metrics."""
        network, scores = self.network, output.units.scores
        return {
            **super().metric_inputs(output, batch),
            "concept": (network.probabilities(scores), batch.concepts),
            "ranking": (network.log_odds(scores), batch.concepts),
        }

    def check_data(self, data: ImageDataModule) -> None:
        """Name the concepts that teach nothing.

        Raises:
            DataError: none of them is present in some training images and absent from others.
        """
        names = self.spec.concept_names
        if said := untaught(data.dataset("train").concepts, names):
            _log.warning(said)
        if sum(map(len, silent_concepts(data.dataset("val").concepts, names))) == len(names):
            _log.warning("no concept differs between the validation images: val/concept_auroc is not a number")

    def setup(self, stage: str) -> None:
        """Count how often each concept holds in the training set."""
        if stage == "fit" and self.imbalance != "none":
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if data is None:
                raise ConfigError(f"model.imbalance: '{self.imbalance}' needs trainer.fit(model, datamodule=...)")
            self.ratio = imbalance_ratio(data.dataset("train").concepts).to(self.device)

    def concept_loss(self, output: Output, batch: Batch) -> Tensor:
        """Return the loss of the concepts, summed over them, see `ibd.models.cbm.losses.concept_loss`."""
        network = self.network
        logits = output.units.scores[:, : network.concept_count]
        return concept_loss(
            logits, batch.concepts, self.ratio, self.imbalance, network.softmax_groups, together=self.training
        )
