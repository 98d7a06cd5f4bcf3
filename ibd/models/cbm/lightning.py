"""Training of concept bottleneck models: independent, sequential or joint (Koh et al. 2020)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, check_range, check_weights
from ibd.metrics.classes import AccuracyByHead
from ibd.models.base import evaluating
from ibd.models.cbm.finish import fit_head, fit_sparse_head, read_split, typical_error
from ibd.models.cbm.losses import Imbalance, cross_correlation, joint_loss
from ibd.models.cbm.network import Bottleneck, ConceptBottleneckNetwork, Head
from ibd.models.cbm.training import ConceptModule
from ibd.types import Batch, DataSpec, Output

Regime = Literal["independent", "sequential", "joint"]


class ConceptBottleneck(ConceptModule):
    """A concept bottleneck model: concepts from the image, the class from the concepts alone.

    Args:
        spec: concepts, classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        regime: "joint" trains everything together; "sequential" trains the concepts, then the head on what they
            predict; "independent" trains the head on the true concepts.
        bottleneck: form of the concepts that the head reads: their "probabilities", "logits", their positive
            part, the "evidence", or "hard" zeros and ones.
        head: "linear" (its contributions add up to the logit exactly); "sparse", linear with few concepts, which in any
            regime is fitted by itself in the end; or "mlp".
        hidden_units: width of the hidden layer of an "mlp" head.
        concept_weight: lambda, the weight of each concept's loss beside the class loss ("joint" only).
        normalize_loss: whether to divide the joint loss by 1 + lambda K, as the published code does.
        imbalance: "concept" weighs concept j by n0/n1 as published; "pos_weight" weighs its positives only; "none".
        softmax_groups: exclusive concept groups to be predicted by a softmax over the group and "none of them".
        residual: number of units that nobody named and that the head reads beside the concepts ("joint" only): what
            passes the concepts by, which `ibd test` measures.
        residual_penalty: weight of the mean squared correlation between residual units and concepts within a batch,
            beside the class loss; it keeps what a line can tell of the concepts out of the residual.
        head_epochs: passes over the training set when the head is fitted by itself (not "joint").
        head_lr: learning rate of that fit.
        head_weight_decay: weight decay of that fit.
        share: share of the absolute values in the penalty of a "sparse" head, above 0 to 1.
        effective_concepts: concepts a class that a "sparse" head uses on average; null leaves it to the validation
            images.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: ConceptBottleneckNetwork

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        regime: Regime = "joint",
        bottleneck: Bottleneck = "probabilities",
        head: Head = "linear",
        hidden_units: int = 128,
        concept_weight: float = 0.01,
        normalize_loss: bool = True,
        imbalance: Imbalance = "concept",
        softmax_groups: list[str] | None = None,
        residual: int = 0,
        residual_penalty: float = 0.0,
        head_epochs: int = 200,
        head_lr: float = 0.01,
        head_weight_decay: float = 5e-5,
        share: float = 0.99,
        effective_concepts: float | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        if regime == "independent" and bottleneck in ("logits", "evidence"):
            raise ConfigError(
                f"model.bottleneck: '{bottleneck}' does not go with model.regime 'independent', whose head learns from "
                "true zeros and ones: 'probabilities' or 'hard' is needed"
            )
        if residual and regime != "joint":
            raise ConfigError(
                f"model.residual: it is learned from the classes, which model.regime '{regime}' keeps out of the "
                "backbone: 'joint' is needed"
            )
        check_range("model.residual", residual, least=0)
        check_range("model.residual_penalty", residual_penalty, least=0)
        if residual_penalty and not residual:
            raise ConfigError(f"model.residual_penalty: {residual_penalty:g} given, but model.residual is 0")
        check_range("model.concept_weight", concept_weight, least=0)
        check_range("model.hidden_units", hidden_units, least=1)
        check_weights("model.hidden_units", hidden_units, hidden_units * len(spec.concept_names + spec.class_names))
        check_weights("model.residual", residual, residual * len(spec.class_names))
        check_range("model.head_epochs", head_epochs, least=1)
        check_range("model.head_weight_decay", head_weight_decay, least=0)
        check_range("model.head_lr", head_lr, above=0)
        check_sparse(head, residual, share, effective_concepts, len(spec.concept_names))
        options: dict[str, Any] = {
            "bottleneck": bottleneck,
            "head": head,
            "hidden_units": hidden_units,
            "softmax_groups": list(softmax_groups or []),
            "residual": residual,
        }
        super().__init__(spec, ConceptBottleneckNetwork(build_backbone(backbone), spec, **options), optimizer)
        self.regime, self.concept_weight, self.normalize_loss = regime, concept_weight, normalize_loss
        self.residual_penalty = residual_penalty
        self.keep_ratio(imbalance)
        self.sparse_settings: dict[str, Any] = {"share": share, "effective": effective_concepts}
        if self.network.few is not None and self.network.few.budgets:  # of a test alone: they are fitted in the end
            names = [f"nec{n}" for n in self.network.few.budgets]
            self.metrics["test_few"] = MetricCollection({"few": AccuracyByHead(names, "anec")}, prefix="test/")
        self.head_settings: dict[str, Any] = {"epochs": head_epochs, "lr": head_lr, "weight_decay": head_weight_decay}
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
            residual_penalty=residual_penalty,
            head_epochs=head_epochs,
            head_lr=head_lr,
            head_weight_decay=head_weight_decay,
            share=share,
            effective_concepts=effective_concepts,
            optimizer=optimizer,
        )

    def _update_metrics(self, output: Output, batch: Batch, split: str) -> None:
        super()._update_metrics(output, batch, split)
        few = self.network.few
        if split == "test" and few is not None and few.fitted:
            logits = few(self.network.head_input(output.units.detach()))
            self.metrics["test_few"].update(logits, batch.label)  # type: ignore[operator]

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the class loss, the concept loss, and what is minimized.

        Outside of "joint" no gradient goes from the class to the concepts: the head learns along on what the concepts
        predict ("sequential") or on the truth ("independent"), so that the accuracy can be watched and an interrupted
        run is of use; `finish` fits it anew on the trained concepts.
        """
        network, scores, count = self.network, output.units.scores, self.network.concept_count
        concept = self.concept_loss(output, batch)
        terms = {}
        if self.regime == "joint":
            task = F.cross_entropy(output.logits, batch.label)
            beside = task
            if self.residual_penalty:
                named = network.measured.numbers(scores[:, :count], network.probabilities(scores)).detach()
                terms["residual_correlation"] = cross_correlation(named, scores[:, count:])
                beside = task + self.residual_penalty * terms["residual_correlation"]
            loss = joint_loss(beside, concept, self.concept_weight, count, self.normalize_loss)
        else:
            task = self.head_loss(scores, batch)
            loss = concept / count + task
        return {"loss": loss, "class_loss": task, "concept_loss": concept / count, **terms}

    def head_loss(self, scores: Tensor, batch: Batch) -> Tensor:
        """Return the class loss of the head alone, on concepts that it sends no gradient to."""
        activation = self.network.activation(scores.detach())
        if self.regime == "independent" and self.training:  # evaluation reads what it would read at test time
            target = self.network.measured.standardized(batch.concepts)
            activation = torch.where(target.isnan(), activation, target.to(activation.dtype))
        return F.cross_entropy(self.network.classify(activation), batch.label)

    @torch.no_grad()
    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Store the training percentiles of the concept logits and the errors of quantities; fit the head.

        One pass over the un-augmented training images; one over the validation images where there are quantities, or
        a head to be fitted: that of "joint" is left as it is, unless it is to be sparse.

        Returns:
            The head's accuracy on the validation split, where it was fitted.
        """
        self.use_fast_layout()
        with evaluating(self):
            train = read_split(self, data, "train")
            low, high = np.percentile(train.scores.numpy(), [5, 95], axis=0)  # torch.quantile refuses large sets
            self.network.low.copy_(torch.from_numpy(low))
            self.network.high.copy_(torch.from_numpy(high))
            if self.regime == "joint" and not self.network.quantities and self.network.few is None:
                return {}
            val = read_split(self, data, "val")
            self.network.error.copy_(typical_error(self.network, val))
            if self.network.few is not None:
                return fit_sparse_head(self.network, train, val, self.regime, **self.sparse_settings)
            if self.regime == "joint":
                return {}
            return fit_head(self.network, train, val, self.regime, **self.head_settings)


def check_sparse(head: Head, residual: int, share: float, effective: float | None, concepts: int) -> None:
    """Check the options of a sparse head.

    Raises:
        ConfigError: one is out of range, or does not go with the others.
    """
    check_range("model.share", share, above=0)
    if share > 1:
        raise ConfigError(f"model.share: {share} given, at most 1 is needed")
    if head == "sparse" and residual:
        raise ConfigError("model.residual: it does not go with model.head 'sparse', which counts concepts with names")
    if effective is None:
        return
    check_range("model.effective_concepts", effective, above=0)
    if head != "sparse":
        raise ConfigError(f"model.effective_concepts: {effective:g} given: it is of model.head 'sparse', not '{head}'")
    if effective > concepts:
        raise ConfigError(f"model.effective_concepts: {effective:g} given, there are {concepts} concepts")
