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
from ibd.metrics.quantities import quantity_metrics
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
        """Return the class metrics, the accuracy and AUROC of the concepts, and R2 and mean error of quantities."""
        accuracy = MetricCollection({"concept_accuracy": ConceptAccuracy()})
        ranking = MetricCollection({"concept_auroc": ConceptAUROC()})
        quantities = quantity_metrics({unit: self.spec.concept_names[unit] for unit in self.spec.measured})
        return {**super().build_metrics(), "concept": accuracy, "ranking": ranking, **quantities}

    def metric_inputs(self, output: Output, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (predictions, targets) for the class and the concept metrics."""
        network, scores = self.network, output.units.scores
        truth = network.measured.truth(batch.concepts)
        inputs = {
            **super().metric_inputs(output, batch),
            "concept": (network.probabilities(scores), truth),
            "ranking": (network.log_odds(scores), truth),
        }
        if network.quantities:
            inputs["r2"] = scores[:, : network.concept_count], network.measured.standardized(batch.concepts)
            inputs["mae"] = network.readable(output.units), batch.concepts
        return inputs

    def check_data(self, data: ImageDataModule) -> None:
        """Name the concepts that teach nothing.

        Raises:
            DataError: none of them is present in some training images and absent from others.
        """
        names, measured = self.spec.concept_names, self.spec.measured
        if said := untaught(data.dataset("train").concepts, names, numbers=measured):
            _log.warning(said)
        truth = [name for unit, name in enumerate(names) if unit not in measured]
        silent = silent_concepts(data.dataset("val").concepts, names, measured)
        if truth and {*silent.unknown, *silent.absent, *silent.present} >= {*truth}:
            _log.warning("no concept differs between the validation images: val/concept_auroc is not a number")

    def setup(self, stage: str) -> None:
        """Count how often each concept holds in the training set."""
        if stage == "fit" and self.imbalance != "none":
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if data is None:
                raise ConfigError(f"model.imbalance: '{self.imbalance}' needs trainer.fit(model, datamodule=...)")
            concepts = self.network.measured.truth(data.dataset("train").concepts.to(self.device))
            self.ratio = imbalance_ratio(concepts)

    def concept_loss(self, output: Output, batch: Batch) -> Tensor:
        """Return the loss of the concepts, summed over them, see `ibd.models.cbm.losses.concept_loss`."""
        network = self.network
        logits = output.units.scores[:, : network.concept_count]
        target = network.measured.standardized(batch.concepts)
        numbers = network.measured.flags if network.quantities else None
        return concept_loss(logits, target, self.ratio, self.imbalance, network.softmax_groups, self.training, numbers)
