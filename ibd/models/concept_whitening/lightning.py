"""Training of concept-whitening networks: weights by gradient descent, axes by rotation (Chen et al. 2020)."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.data.coverage import untaught
from ibd.data.dataset import ImageDataset
from ibd.distributed import progress
from ibd.errors import ConfigError, did_you_mean
from ibd.metrics.concepts import ConceptAUROC
from ibd.models.base import evaluating
from ibd.models.concept_whitening.activation import Activation
from ibd.models.concept_whitening.alignment import Alignment, align
from ibd.models.concept_whitening.examples import ConceptExamples, ConceptImages, folder_concepts
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.recalibration import recalibrate
from ibd.models.concept_whitening.whitening import Whitening
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, DataSpec, Output

_log = logging.getLogger(__name__)


class ConceptWhitening(InterpretableModule):
    """A CNN with a whitened layer whose first axes mean the concepts.

    Args:
        spec: concepts, classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        layers: batch normalizations to replace, by name or pattern such as "layer4.*.bn1"; null takes that of the last
            block.
        concepts: names of the concepts that get an axis; null takes all of the data but quantities, which no image
            shows more than another, or all of `concept_folder`.
        concept_folder: folder with a folder of example images for each concept; null takes the training images by
            their annotations.
        activation: pooling of an axis's map: "mean", "max", "positive_mean" or "pool_max" (published).
        alignment: settings for turning the axes towards the concepts.
        whitening: settings for whitening the features.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: ConceptWhiteningNetwork

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        layers: list[str] | None = None,
        concepts: list[str] | None = None,
        concept_folder: str | None = None,
        activation: Activation = "pool_max",
        alignment: Annotated[dict[str, Any] | None, Block("alignment", filled=True)] = None,
        whitening: Annotated[dict[str, Any] | None, Block("whitening", filled=True)] = None,
        label_smoothing: float = 0.0,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"model.label_smoothing: {label_smoothing} given, a share from 0 to 1 is needed")
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        if concepts is None:
            concepts = (
                folder_concepts(concept_folder)
                if concept_folder
                else [name for name in spec.concept_names if name not in spec.quantities]
            )
        _check_concepts(concepts, None if concept_folder else spec)
        if backbone.get("frozen"):
            raise ConfigError(
                "model.backbone.frozen: concept whitening learns in layers inside of the backbone, which cannot stay "
                "as it is"
            )
        settings = Whitening(**(whitening or {}))
        network = ConceptWhiteningNetwork(
            build_backbone(backbone), spec.class_names, concepts, layers, activation, settings
        )
        super().__init__(spec, network, optimizer)
        self.alignment, self.concept_folder = Alignment(**(alignment or {})), concept_folder
        self.label_smoothing = label_smoothing
        if settings.eps == 0 and settings.shrinkage == 0:
            self.nan_advice = (
                "model.whitening.eps and model.whitening.shrinkage are both 0: features cannot be whitened if one "
                "is constant or follows from others; leave both options out, or set model.whitening.eps=1e-5"
            )
        self._examples: ConceptExamples | None = None
        self._aligned = 0
        self._told = False
        self.save_plain(
            backbone=backbone,
            layers=network.layer_names,
            concepts=concepts,
            concept_folder=concept_folder,
            activation=activation,
            alignment=alignment,
            whitening=whitening,
            label_smoothing=label_smoothing,
            optimizer=optimizer,
        )

    @property
    def annotated(self) -> dict[int, int]:
        """Axis -> column of the data's concepts, for the concepts that the data annotates."""
        names = self.spec.concept_names
        return {axis: names.index(name) for axis, name in enumerate(self.network.concept_names) if name in names}

    def build_metrics(self) -> dict[str, MetricCollection]:
        """Return the class metrics, and how well each concept's axis ranks the images by its concept."""
        purity = {"axes": MetricCollection({"axis_purity": ConceptAUROC()})} if self.annotated else {}
        return super().build_metrics() | purity

    def metric_inputs(self, output: Output, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (predictions, targets) for the class and the axis metrics."""
        inputs = super().metric_inputs(output, batch)
        if pairs := self.annotated:
            inputs["axes"] = output.units.scores[:, list(pairs)], batch.concepts[:, list(pairs.values())]
        return inputs

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy; the concepts are no part of the loss."""
        smoothing = self.label_smoothing if self.training else 0.0
        return {"loss": F.cross_entropy(output.logits, batch.label, label_smoothing=smoothing)}

    def check_data(self, data: ImageDataModule) -> None:
        """Find the concept examples, and look at those that are no training images.

        Raises:
            DataError: a folder or an image is missing or damaged, or no concept teaches anything.
        """
        if self.alignment.every:
            dataset, _ = self._find_examples(data)
            if isinstance(dataset, ConceptImages):
                dataset.check()

    def _find_examples(self, data: ImageDataModule) -> tuple[ImageDataset, list[int]]:
        """Return the images that show the concepts, and which of their concepts belong to the axes."""
        names = self.network.concept_names
        if self.concept_folder:
            return ConceptImages(self.concept_folder, names, self.spec), list(range(len(names)))
        dataset, columns = data.dataset("train"), list(self.annotated.values())
        said = untaught(dataset.concepts[:, columns], names, unknown_differs=True)
        if said and not self._told:
            self._told = True
            _log.warning("%s: their axes mean nothing", said)
        return dataset, columns

    def setup(self, stage: str) -> None:
        """Find the concept examples.

        Raises:
            ConfigError: there is no data module to take them from.
            DataError: as for `check_data`.
        """
        if stage != "fit" or not self.alignment.every:
            return
        trainer = self.trainer
        data: ImageDataModule | None = trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise ConfigError("model.alignment needs trainer.fit(model, datamodule=...)")
        self._examples = ConceptExamples(
            *self._find_examples(data),
            self.alignment.images,
            data.batch_size,
            data.num_workers,
            data.seed,
            trainer.global_rank,
            trainer.world_size,
        )

    def on_train_start(self) -> None:
        """Begin, or go on where a resumed training was: the pass of its last step is done."""
        self._aligned = self.trainer.global_step

    def on_train_end(self) -> None:
        """Tell where the training was too short for the axes to be turned."""
        if self._examples is not None and not any(bool(layer.pull.any()) for layer in self.network.whitened.values()):
            _log.warning(
                "the training had fewer steps than model.alignment.every (%d): no axis was turned, and none means its "
                "concept",
                self.alignment.every,
            )

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Every few steps, pass over concept examples and turn the axes."""
        every, step = self.alignment.every, self.trainer.global_step
        if self._examples is None or step == self._aligned or step % every:
            return
        self._aligned = step
        reached = align(self.network, self._examples.read(step // every - 1), self.alignment)
        self.log("train/axis_activation", reached.nanmean(), on_step=False, on_epoch=True, batch_size=1)

    @torch.no_grad()
    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Take the statistics of the whitened layers over all training images; store the range of every axis.

        A pass over the un-augmented training images for each whitened layer, one more, and one over the validation
        images.

        Returns:
            The accuracy on the validation images with these statistics, and how well the axes tell the concepts.
        """
        self.use_fast_layout()
        scores = recalibrate(self.network, data)
        low, high = np.percentile(scores.numpy(), [5, 95], axis=0)  # torch.quantile refuses large sets
        self.network.low.copy_(torch.from_numpy(low))
        self.network.high.copy_(torch.from_numpy(high))
        return self._score(data)

    def _score(self, data: ImageDataModule) -> dict[str, float]:
        """Return the validation metrics of the model as it is."""
        kinds = {kind: metrics.to(self.device) for kind, metrics in self.build_metrics().items()}
        with evaluating(self):
            for batch in progress(data.loader("val"), "scoring"):
                batch = batch.select(batch.index >= 0).to(self.device)
                for kind, inputs in self.metric_inputs(self(batch.image), batch).items():
                    kinds[kind].update(*inputs)
        return {
            f"finished/{name}": float(value) for metric in kinds.values() for name, value in metric.compute().items()
        }


def _check_concepts(concepts: list[str], spec: DataSpec | None) -> None:
    """Check the names of the concepts; `spec` is that of the data, where its annotations say what shows them."""
    for name in concepts:
        if concepts.count(name) > 1:
            raise ConfigError(f"model.concepts: '{name}' is given twice")
        if spec is not None and name not in spec.concept_names:
            known = did_you_mean(name, spec.concept_names) or " This data has no concepts (no concepts.csv?)."
            raise ConfigError(f"model.concepts: the data has no concept '{name}'.{known}")
        if spec is not None and name in spec.quantities:
            raise ConfigError(
                f"model.concepts: '{name}' is a quantity: an axis is turned to images that show a concept"
            )
