"""Training of prototype networks (Chen et al. 2019): warm, joint, projection, last layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.data.coverage import listed, missing_classes
from ibd.errors import CheckpointError, ConfigError, DataError, check_range
from ibd.models.base import evaluating
from ibd.models.inputs import checked
from ibd.models.phases import PhasedModule
from ibd.models.protopnet.add_on import AddOn
from ibd.models.protopnet.collapse import DeadPrototypes, diversity, duplicates
from ibd.models.protopnet.losses import class_distances, cluster_loss, orthogonality_loss, separation_loss
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.phases import Joint, LastLayer, Prune, Push, Warm
from ibd.models.protopnet.projection import project, read_similarities, solve_last_layer
from ibd.models.protopnet.provenance import PRECISIONS, Source
from ibd.models.protopnet.push import projection_distances, sources
from ibd.models.protopnet.scan import current_precision
from ibd.models.protopnet.similarity import Activation, Distance
from ibd.models.values import Factors
from ibd.types import Batch, DataSpec, Output


class ProtoPNet(PhasedModule):
    """A prototype network: the class from how alike patches of the image are to patches of training images.

    Args:
        spec: classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        per_class: prototypes of each class.
        dimension: channels of a prototype.
        extent: cells of the feature map that a prototype covers, along both sides.
        add_on: layers between backbone and prototypes.
        distance: "l2" (squared) or "cosine".
        activation: function that makes a distance a similarity: "log" (published), "linear" or "exponential".
        top_k: number of most similar positions whose mean is the score of a prototype; 1 takes the maximum.
        cluster: weight of the distance to the nearest prototype of the own class.
        separation: weight of the distance to the nearest one of any other class, which is made large.
        orthogonality: weight of the likeness of the prototypes of a class to each other.
        warm: the first epochs, on top of a fixed backbone.
        joint: the epochs in which everything but the last layer learns.
        push: schedule of projecting prototypes on training patches.
        last_layer: settings for fitting the last layer after each projection.
        prune: rule that switches prototypes off after each projection, until they are trained again; null keeps all.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: PrototypeNetwork
    needs_images = None
    monitor = ("val/projected_accuracy", "max")
    monitor_advice = (
        "an epoch is scored only if prototypes are projected after it: let the training finish "
        "(trainer.max_epochs=null), or project earlier (model.push.start)"
    )

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        per_class: int = 10,
        dimension: int = 128,
        extent: int = 1,
        add_on: AddOn = "regular",
        distance: Distance = "l2",
        activation: Activation = "log",
        top_k: int = 1,
        cluster: float = 0.8,
        separation: float = 0.08,
        orthogonality: float = 0.0,
        warm: Annotated[dict[str, Any] | None, Block("warm", filled=True)] = None,
        joint: Annotated[dict[str, Any] | None, Block("joint", filled=True)] = None,
        push: Annotated[dict[str, Any] | None, Block("push", filled=True)] = None,
        last_layer: Annotated[dict[str, Any] | None, Block("last_layer", filled=True)] = None,
        prune: Annotated[dict[str, Any] | None, Block("prune")] = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        for name, weight in (("cluster", cluster), ("separation", separation), ("orthogonality", orthogonality)):
            check_range(f"model.{name}", weight, least=0)
        options: dict[str, Any] = {
            "per_class": per_class,
            "dimension": dimension,
            "extent": extent,
            "add_on": add_on,
            "distance": distance,
            "activation": activation,
            "top_k": top_k,
        }
        network = PrototypeNetwork(build_backbone(backbone), spec, **options)
        super().__init__(spec, network, optimizer)
        self.cluster, self.separation, self.orthogonality = cluster, separation, orthogonality
        self.warm, self.joint, self.push = Warm(**(warm or {})), Joint(**(joint or {})), Push(**(push or {}))
        self.last_layer, self.prune = LastLayer(**(last_layer or {})), None if prune is None else Prune(**prune)
        self.begin_phases()
        self.dead = DeadPrototypes(len(spec.class_names), per_class)
        self.projection_figures: dict[str, float] = {}
        self.save_plain(
            backbone=backbone,
            **options,
            cluster=cluster,
            separation=separation,
            orthogonality=orthogonality,
            warm=warm,
            joint=joint,
            push=push,
            last_layer=last_layer,
            prune=prune,
            optimizer=optimizer,
        )

    def check_data(self, data: ImageDataModule) -> None:
        """Look for training images of every class: its prototypes become patches of them.

        Raises:
            DataError: a class has none.
        """
        if missing := missing_classes(data.dataset("train").labels, self.spec.class_names):
            raise DataError(
                f"there is no training image of class {listed(missing)}, so its prototypes cannot be patches of one"
            )

    def _groups(self) -> dict[str, list[nn.Parameter]]:
        network = self.network
        return {
            "backbone": list(network.backbone.parameters()),
            "add_on": list(network.add_on.parameters()),
            "prototypes": [network.prototypes],
            "head": list(network.head.parameters()),
        }

    # Phases

    def _phases(self) -> tuple[Warm, Joint]:
        return self.warm, self.joint

    def _freezes_statistics(self) -> bool:
        """Return whether batch statistics stay as they are: the backbone is fixed, or prototypes are patches of it."""
        return super()._freezes_statistics() or (self.in_fit and bool(self.network.provenance.ever))

    def setup(self, stage: str) -> None:
        """Check that every class has training images, whose patches its prototypes become.

        Raises:
            DataError: one has none.
            ConfigError: not every epoch is validated, so that a projection could go unscored.
        """
        every = self.trainer.check_val_every_n_epoch
        if stage == "fit" and every not in (None, 1):
            raise ConfigError(
                f"trainer.check_val_every_n_epoch: {every} given, 1 is needed: validation scores each projection"
            )
        data = self.trainer.datamodule if stage == "fit" else None  # type: ignore[attr-defined]
        if data is not None:
            counts = torch.bincount(data.dataset("train").labels, minlength=len(self.spec.class_names))
            if bool((counts == 0).any()):
                name = self.spec.class_names[int((counts == 0).nonzero()[0])]
                raise DataError(f"class '{name}' has no training image, so its prototypes could not be patches of one")

    def on_fit_start(self) -> None:
        """Write down in which precision the model computes, which projections and predictions must share."""
        with self.trainer.precision_plugin.forward_context():
            self.network.provenance.precision.fill_(current_precision(self.device))

    def on_train_epoch_start(self) -> None:
        """Begin an epoch: from here on the prototypes are no patches any more."""
        super().on_train_epoch_start()
        phase, _ = self._phase(self.trainer.current_epoch)
        if any(phase.rates.get(group) for group in ("backbone", "add_on", "prototypes")):
            self.network.provenance.valid.fill_(False)
            self.network.mask.fill_(True)

    # Losses and metrics

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return cross-entropy, cluster and separation terms, and what is minimized (Chen et al. 2019, section 2.2)."""
        network, labels = self.network, batch.label
        active = network.mask.view(-1, network.per_class)
        by_class = class_distances(self._distances(output), active)
        terms = {
            "class_loss": F.cross_entropy(output.logits, labels),
            "cluster": cluster_loss(by_class, labels),
            "separation": separation_loss(by_class, labels),
        }
        if not self.training:
            self.dead.update(by_class.detach(), labels)
        loss = terms["class_loss"] + self.cluster * terms["cluster"] - self.separation * terms["separation"]
        if self.orthogonality:
            terms["orthogonality"] = orthogonality_loss(network.prototypes, active)
            loss = loss + self.orthogonality * terms["orthogonality"]
        return {"loss": loss, **terms}

    def _distances(self, output: Output) -> Tensor:
        """Return the (B, P) smallest distances of an output."""
        return output.units.state[0]

    def forward(self, image: Tensor) -> Output:
        """Return logits and units; after a projection in the precision of that projection."""
        with self._precision(image):
            return super().forward(image.to(self.network.prototypes.dtype))

    def from_features(self, features: Tensor) -> Output:
        """Return logits and units of features; after a projection in the precision of that projection."""
        with self._precision(features):
            return super().from_features(features)

    def _precision(self, tensor: Tensor) -> AbstractContextManager[object]:
        dtype = None if self.network.training else PRECISIONS[int(self.network.provenance.precision)]
        if dtype is None or torch.is_autocast_enabled(tensor.device.type):
            return nullcontext()
        return torch.autocast(tensor.device.type, dtype)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over weights, and with those of a training in bfloat16 throughout the precision it computed in.

        In any other its prototypes would be no patches.
        """
        weights = state_dict.get("network.prototypes")
        if isinstance(weights, Tensor) and weights.dtype in (torch.bfloat16, torch.float16):
            self.to(weights.dtype)
        return super().load_state_dict(state_dict, strict, assign)

    def on_validation_epoch_start(self) -> None:
        """Project at the end of an epoch that is due, so that validation scores the projected model."""
        loop = self.trainer.fit_loop.epoch_loop
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and loop.batch_progress.is_last_batch:
            self._project_if_due()

    def on_train_epoch_end(self) -> None:
        """Project now where there was no validation; log."""
        self._project_if_due()
        self.log_dict(self.projection_figures)
        self.projection_figures = {}  # of this epoch alone: a resumed run knows no others
        super().on_train_epoch_end()

    def _project_if_due(self) -> None:
        trainer = self.trainer
        # Not where the trainer cuts the training short: it may be continued, and `finish` projects what can be undone.
        last = trainer.current_epoch + 1 == self.epochs
        if bool(self.network.provenance.valid) or not (last or self.push.due(trainer.current_epoch)):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        with torch.inference_mode(mode=False), torch.no_grad():
            self.projection_figures = self._project(data)

    def _project(self, data: ImageDataModule) -> dict[str, float]:
        return project(self.network, data, self.push.distinct, self.last_layer, self.prune)

    def _log_metrics(self, split: str) -> None:
        if split == "val":
            network = self.network
            active = network.mask.view(-1, network.per_class)
            accuracy = self.metrics["val_class"].compute()["val/accuracy"]  # type: ignore[operator]
            valid = bool(network.provenance.valid)
            self.log("val/projected_accuracy", accuracy if valid else torch.full_like(accuracy, torch.nan))
            self.log("val/dead_prototypes", self.dead.compute())
            self.log("val/duplicates", duplicates(network.prototypes, active))
            self.log("val/diversity", diversity(network.prototypes, active))
        self.dead.reset()
        super()._log_metrics(split)

    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Project the prototypes, where training was stopped before it had come to that."""
        if bool(self.network.provenance.valid):
            return {}
        self.use_fast_layout()
        return self._project(data)

    # Use

    def verify_projection(self, data: ImageDataModule, tolerance: float = 1e-5) -> Tensor:
        """Return the distance of every prototype to its source patch, computed anew, (P,); NaN for a replaced one.

        Args:
            data: data that the model was trained on.
            tolerance: the largest distance that is right.

        Raises:
            CheckpointError: one is larger, there was no projection, or the training images are others now.
        """
        distances = projection_distances(self.network, data)
        wrong = ~(distances <= tolerance) & (self.network.provenance.index >= 0)
        if bool(wrong.any()):
            worst = int(wrong.nonzero()[0])
            raise CheckpointError(
                f"prototype {worst} is at distance {float(distances[worst]):.3g} from its source "
                f"'{self.network.provenance.names()[worst]}': it is not a training patch"
            )
        return distances

    def sources(self) -> list[Source]:
        """Return where each prototype is from; empty before the first projection."""
        return sources(self.network)

    def sidecar(self) -> dict[str, str]:
        """Return the sources of the prototypes as JSON."""
        return {
            "prototypes.json": json.dumps([source.to_dict() for source in self.sources()], indent=1, allow_nan=False)
        }

    def reweight(self, factors: Factors) -> None:
        """Multiply what prototypes count, for good: ``{"prototype 17": 0}`` switches one off, 1 restores it."""
        self.network.reweight(factors)

    def replace(self, prototype: str | int, image: str | Path | Tensor, row: int, column: int) -> None:
        """Set a prototype to a patch of another image, for good.

        Args:
            prototype: name or index.
            image: a file, or a (3, H, W) tensor in [0, 1] at the training size.
            row: row of the patch in the feature map.
            column: column of the patch.
        """
        pixels = checked(image, self.spec.image_size)[0] if isinstance(image, Tensor) else self.read_images([image])[0]
        weight = next(self.network.parameters())
        dtype = PRECISIONS[int(self.network.provenance.precision)]
        name = "" if isinstance(image, Tensor) else str(image)
        with evaluating(self), torch.autocast(weight.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            self.network.replace(prototype, pixels.to(weight.device, weight.dtype), row, column, name)

    def unprune(self, data: ImageDataModule | None = None) -> None:
        """Switch all pruned prototypes on again.

        Args:
            data: data that the model was trained on: the last layer is solved again, with all of them. Without it their
                connections stay 0.
        """
        self.network.mask.fill_(True)
        if data is not None:
            scores, labels = read_similarities(self.network, data)
            solve_last_layer(self.network, scores, labels, self.last_layer)
