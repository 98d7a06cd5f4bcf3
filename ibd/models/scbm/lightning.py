"""Training of stochastic concept bottlenecks (Vandenhirtz et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.backbones.precision import full_precision
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, check_range
from ibd.models.cbm.lightning import ConceptBottleneck, Regime
from ibd.models.cbm.losses import joint_loss
from ibd.models.cbm.network import Bottleneck, Head
from ibd.models.scbm.losses import class_likelihood, concept_likelihood, draw, hard_concepts, precision_penalty
from ibd.models.scbm.network import Kind, Placement, StochasticConceptBottleneckNetwork
from ibd.types import Batch, DataSpec, Output

ClassLoss = Literal["samples", "expected"]


class StochasticConceptBottleneck(ConceptBottleneck):
    """A concept bottleneck whose concepts depend on each other: correcting one of them moves the others.

    Args:
        spec: concepts, classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        regime: "joint" trains everything together; "sequential" trains the concepts, then the head on what they
            predict; "independent" trains the head on the true concepts.
        bottleneck: form of the concepts that the head reads: their "probabilities", "logits", the positive
            part, the "evidence", or "hard" zeros and ones.
        head: "linear" (its contributions add up to the logit exactly); "sparse", linear with few concepts, which in any
            regime is fitted by itself in the end; or "mlp".
        hidden_units: width of the hidden layer of an "mlp" head.
        covariance: one covariance for all images ("global"), or one predicted for each ("amortized").
        rank: number of columns that concepts share; null for full rank.
        placement: where corrected logits go, from which the others move: the most probable place ("posterior"), the
            bound of the "confidence" region (as published), or the training "percentile".
        level: level of the confidence region.
        class_loss: whether a "joint" training reads hard "samples" of the concepts, as published, or what is
            "expected", as prediction does.
        samples: number of samples of the concepts of each image, in training.
        precision_weight: weight of the penalty on the precision between concepts.
        concept_weight: lambda, the weight of each concept's loss beside the class loss ("joint" only).
        normalize_loss: whether to divide the joint loss by 1 + lambda K.
        head_epochs: passes over the training set when the head is fitted by itself (not "joint").
        head_lr: learning rate of that fit.
        head_weight_decay: weight decay of that fit.
        share: share of the absolute values in the penalty of a "sparse" head, above 0 to 1.
        effective_concepts: concepts a class that a "sparse" head uses on average; null leaves it to the validation
            images.
        fitted_on: what the covariance was fitted on after the training of a plain bottleneck; null where it was trained
            along.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: StochasticConceptBottleneckNetwork

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        regime: Regime = "joint",
        bottleneck: Bottleneck = "probabilities",
        head: Head = "linear",
        hidden_units: int = 128,
        covariance: Kind = "global",
        rank: int | None = None,
        placement: Placement = "posterior",
        level: float = 0.99,
        class_loss: ClassLoss = "samples",
        samples: int = 100,
        precision_weight: float = 1.0,
        concept_weight: float = 1.0,
        normalize_loss: bool = True,
        head_epochs: int = 200,
        head_lr: float = 0.01,
        head_weight_decay: float = 5e-5,
        share: float = 0.99,
        effective_concepts: float | None = None,
        fitted_on: str | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        shared: dict[str, Any] = {
            "regime": regime,
            "bottleneck": bottleneck,
            "head": head,
            "hidden_units": hidden_units,
            "concept_weight": concept_weight,
            "normalize_loss": normalize_loss,
            "head_epochs": head_epochs,
            "head_lr": head_lr,
            "head_weight_decay": head_weight_decay,
            "share": share,
            "effective_concepts": effective_concepts,
            "optimizer": optimizer,
        }
        own: dict[str, Any] = {"covariance": covariance, "rank": rank, "placement": placement, "level": level}
        super().__init__(spec, backbone, imbalance="none", **shared)
        check_range("model.samples", samples, least=1)
        check_range("model.precision_weight", precision_weight, least=0)
        if regime == "joint" and class_loss == "samples" and bottleneck in ("logits", "evidence") and not fitted_on:
            raise ConfigError(
                f"model.bottleneck: '{bottleneck}' does not go with model.class_loss 'samples', which are zeros and "
                "ones: 'expected' is needed, or the bottleneck 'probabilities' or 'hard'"
            )
        network: dict[str, Any] = {"bottleneck": bottleneck, "head": head, "hidden_units": hidden_units}
        backbone_built = self.network.backbone  # of the plain network, whose place the stochastic one takes
        self.network = StochasticConceptBottleneckNetwork(backbone_built, self.spec, **network, **own)
        self.class_loss, self.samples, self.precision_weight = class_loss, samples, precision_weight
        self.fitted_on = fitted_on
        self.save_plain(
            backbone=backbone,
            **shared,
            **own,
            class_loss=class_loss,
            samples=samples,
            precision_weight=precision_weight,
            fitted_on=fitted_on,
        )

    def check_data(self, data: ImageDataModule) -> None:
        """Name the concepts that teach nothing.

        Raises:
            DataError: none of them is present in some training images and absent from others.
            ConfigError: the config is that of a covariance that was fitted after a training.
        """
        if self.fitted_on:
            raise ConfigError(
                "model.fitted_on: this covariance was fitted on a trained bottleneck, by `ibd covariance RUN`; to "
                "train one along, set model.fitted_on=null"
            )
        super().check_data(data)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the class loss, the concept loss, the penalty on the precision, and what is minimized.

        Outside of "joint" no gradient goes from the class to the concepts, as in a plain bottleneck. Evaluation draws
        the same samples each time, and scores the class that is predicted.
        """
        scores, count = output.units.scores, output.units.scores.shape[1]
        with full_precision(scores):
            factor = self.network.factor(output.units)
            logits = draw(scores, factor, self.samples, None if self.training else self._same(scores.device))
            concept = concept_likelihood(logits, batch.concepts, together=self.training)
            penalty = precision_penalty(factor)
            if self.regime != "joint":
                task = self.head_loss(scores, batch)
                loss = (concept + self.precision_weight * penalty) / count + task
            else:
                task = self._class_loss(output, logits, batch.label)
                loss = joint_loss(
                    task + self.precision_weight * penalty, concept, self.concept_weight, count, self.normalize_loss
                )
        return {"loss": loss, "class_loss": task, "concept_loss": concept / count, "precision_penalty": penalty}

    def _class_loss(self, output: Output, logits: Tensor, labels: Tensor) -> Tensor:
        if self.training and self.class_loss == "samples":
            return class_likelihood(self.network.classify(hard_concepts(logits)), labels)
        return F.cross_entropy(output.logits, labels)

    def _same(self, device: torch.device) -> torch.Generator:
        """Return a source of draws that begins anew, so that two evaluations say the same."""
        return torch.Generator(device).manual_seed(0)
