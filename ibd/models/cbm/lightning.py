"""Training of concept bottleneck models: independent, sequential or joint (Koh et al. 2020)."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.data.coverage import silent_concepts, untaught
from ibd.errors import ConfigError, check_range, check_weights
from ibd.metrics.concepts import ConceptAccuracy, ConceptAUROC
from ibd.metrics.quantities import quantity_metrics
from ibd.models.base import evaluating
from ibd.models.cbm.finish import fit_head, read_split, typical_error
from ibd.models.cbm.losses import Imbalance, concept_loss, imbalance_ratio, joint_loss
from ibd.models.cbm.network import Bottleneck, ConceptBottleneckNetwork
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, DataSpec, Output

_log = logging.getLogger(__name__)

Regime = Literal["independent", "sequential", "joint"]


class ConceptBottleneck(InterpretableModule):
    """A concept bottleneck model: concepts from the image, the class from the concepts alone.

    Args:
        spec: concepts, classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        regime: "joint" trains everything together; "sequential" trains the concepts, then the head on what they
            predict; "independent" trains the head on the true concepts.
        bottleneck: form of the concepts that the head reads: their "probabilities", "logits", their positive
            part, the "evidence", or "hard" zeros and ones.
        head: "linear" (its contributions add up to the logit exactly) or "mlp".
        hidden_units: width of the hidden layer of an "mlp" head.
        concept_weight: lambda, the weight of each concept's loss beside the class loss ("joint" only).
        normalize_loss: whether to divide the joint loss by 1 + lambda K, as the published code does.
        imbalance: "concept" weighs concept j by n0/n1 as published; "pos_weight" weighs its positives only; "none".
        softmax_groups: exclusive concept groups to be predicted by a softmax over the group and "none of them".
        head_epochs: passes over the training set when the head is fitted by itself (not "joint").
        head_lr: learning rate of that fit.
        head_weight_decay: weight decay of that fit.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: ConceptBottleneckNetwork
    needs_images = None
    ratio: Tensor

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        regime: Regime = "joint",
        bottleneck: Bottleneck = "probabilities",
        head: Literal["linear", "mlp"] = "linear",
        hidden_units: int = 128,
        concept_weight: float = 0.01,
        normalize_loss: bool = True,
        imbalance: Imbalance = "concept",
        softmax_groups: list[str] | None = None,
        head_epochs: int = 200,
        head_lr: float = 0.01,
        head_weight_decay: float = 5e-5,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        if regime == "independent" and bottleneck in ("logits", "evidence"):
            raise ConfigError(
                f"model.bottleneck: '{bottleneck}' does not go with model.regime 'independent', whose head learns from "
                "true zeros and ones: 'probabilities' or 'hard' is needed"
            )
        check_range("model.concept_weight", concept_weight, least=0)
        check_range("model.hidden_units", hidden_units, least=1)
        check_weights("model.hidden_units", hidden_units, hidden_units * len(spec.concept_names + spec.class_names))
        check_range("model.head_epochs", head_epochs, least=1)
        check_range("model.head_weight_decay", head_weight_decay, least=0)
        check_range("model.head_lr", head_lr, above=0)
        options: dict[str, Any] = {
            "bottleneck": bottleneck,
            "head": head,
            "hidden_units": hidden_units,
            "softmax_groups": list(softmax_groups or []),
        }
        super().__init__(spec, ConceptBottleneckNetwork(build_backbone(backbone), spec, **options), optimizer)
        self.regime, self.concept_weight, self.normalize_loss = regime, concept_weight, normalize_loss
        self.imbalance: Imbalance = imbalance
        self.head_settings: dict[str, Any] = {"epochs": head_epochs, "lr": head_lr, "weight_decay": head_weight_decay}
        self.register_buffer("ratio", torch.ones(len(spec.concept_names)))
        if regime != "joint":  # the concepts are what is trained; the head is fitted afterwards
            # AUROC says nothing of quantities
            self.monitor = ("val/concept_loss", "min") if spec.quantities else ("val/concept_auroc", "max")
        self.save_plain(
            backbone=backbone,
            **options,
            regime=regime,
            concept_weight=concept_weight,
            normalize_loss=normalize_loss,
            imbalance=imbalance,
            head_epochs=head_epochs,
            head_lr=head_lr,
            head_weight_decay=head_weight_decay,
            optimizer=optimizer,
        )

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
            inputs["r2"] = scores, network.measured.standardized(batch.concepts)
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

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the class loss, the concept loss, and what is minimized.

        Outside of "joint" no gradient goes from the class to the concepts: the head learns along on what the concepts
        predict ("sequential") or on the truth ("independent"), so that the accuracy can be watched and an interrupted
        run is of use; `finish` fits it anew on the trained concepts.
        """
        scores, network = output.units.scores, self.network
        target, groups = network.measured.standardized(batch.concepts), network.softmax_groups
        numbers = network.measured.flags if network.quantities else None
        concept = concept_loss(scores, target, self.ratio, self.imbalance, groups, self.training, numbers)
        if self.regime == "joint":
            task = F.cross_entropy(output.logits, batch.label)
            loss = joint_loss(task, concept, self.concept_weight, scores.shape[1], self.normalize_loss)
        else:
            activation = network.activation(scores.detach())
            if self.regime == "independent" and self.training:  # evaluation reads what it would read at test time
                activation = torch.where(target.isnan(), activation, target.to(activation.dtype))
            task = F.cross_entropy(network.classify(activation), batch.label)
            loss = concept / scores.shape[1] + task
        return {"loss": loss, "class_loss": task, "concept_loss": concept / scores.shape[1]}

    @torch.no_grad()
    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Store the training percentiles of the concept logits and the errors of quantities; fit the head.

        One pass over the un-augmented training images; one over the validation images where there are quantities, or
        a head to be fitted: that of "joint" is left as it is.

        Returns:
            The head's accuracy on the validation split, where it was fitted.
        """
        self.use_fast_layout()
        with evaluating(self):
            train = read_split(self, data, "train")
            low, high = np.percentile(train.scores.numpy(), [5, 95], axis=0)  # torch.quantile refuses large sets
            self.network.low.copy_(torch.from_numpy(low))
            self.network.high.copy_(torch.from_numpy(high))
            if self.regime == "joint" and not self.network.quantities:
                return {}
            val = read_split(self, data, "val")
            self.network.error.copy_(typical_error(self.network, val))
            if self.regime == "joint":
                return {}
            return fit_head(self.network, train, val, self.regime, **self.head_settings)
