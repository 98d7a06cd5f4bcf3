"""Training of PIP-Net (Nauta et al. 2023): prototypes without labels, the classifier, both."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric, MetricCollection

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.distributed import progress
from ibd.errors import ConfigError, check_range
from ibd.models.base import evaluating
from ibd.models.phases import PhasedModule
from ibd.models.pipnet.losses import align_loss, class_loss, tanh_loss
from ibd.models.pipnet.network import PIPNetwork
from ibd.models.pipnet.phases import Classifier, Joint, Pretrain, Train
from ibd.models.pipnet.views import two_views
from ibd.models.values import Factors
from ibd.types import Batch, DataSpec, Output, stack_samples


class PIPNet(PhasedModule):
    """PIP-Net: prototypes that two views of an image agree on, and a sparse scoring sheet for the class.

    Args:
        spec: classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        prototypes: number of prototypes, by a 1x1 convolution after the backbone; null takes the backbone's channels.
        threshold: presence below which a prototype counts as absent, outside of training.
        bias: whether each class has evidence of its own, at least 0; the model then never abstains.
        finer: number of the last stages of the backbone that halve the resolution which keep it.
        sparsity: amount that every training step with labels takes off all connections, none of which falls below 0
            (published: 1e-3, and as much again in each batch of an evaluation).
        color: difference of brightness, contrast and saturation between the two views.
        shift: largest shift of each view in pixels; less than a cell of the feature map.
        pretrain: the epochs without labels.
        train: the epochs with labels.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: PIPNetwork
    needs_images = "PIP-Net learns from two views of each image"

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        prototypes: int | None = None,
        threshold: float = 0.1,
        bias: bool = False,
        finer: int = 0,
        sparsity: float = 1e-3,
        color: float = 0.3,
        shift: int = 2,
        pretrain: Annotated[dict[str, Any] | None, Block("pretrain", filled=True)] = None,
        train: Annotated[dict[str, Any] | None, Block("train", filled=True)] = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        check_range("model.sparsity", sparsity, least=0)
        check_range("model.shift", shift, least=0)
        if not 0 <= color <= 1:
            raise ConfigError(f"model.color: {color} given, from 0 to 1 is needed")
        options: dict[str, Any] = {"prototypes": prototypes, "threshold": threshold, "bias": bias, "finer": finer}
        super().__init__(spec, PIPNetwork(build_backbone(backbone), spec, **options), optimizer)
        self.sparsity, self.color, self.shift = sparsity, color, shift
        self.pretraining, train_phase = Pretrain(**(pretrain or {})), Train(**(train or {}))
        self.classifier, self.joint = Classifier(train_phase), Joint(train_phase)
        groups = self._groups()
        learning = [p for g, factor in self.pretraining.rates.items() if factor for p in groups[g] if p.requires_grad]
        if self.pretraining.epochs and not learning:
            needed = "model.prototypes is" if self.frozen else "a rate for the backbone is"
            raise ConfigError(f"model.pretrain.rates: {needed} needed if there is no add-on layer")
        self.begin_phases()
        self.save_plain(
            backbone=backbone,
            **options,
            sparsity=sparsity,
            color=color,
            shift=shift,
            pretrain=pretrain,
            train=train,
            optimizer=optimizer,
        )

    def _groups(self) -> dict[str, list[nn.Parameter]]:
        network = self.network
        return {
            "backbone": list(network.backbone.parameters()),
            "add_on": list(network.add_on.parameters()),
            "head": list(network.head.parameters()),
        }

    def _phases(self) -> tuple[Pretrain, Classifier, Joint]:
        return self.pretraining, self.classifier, self.joint

    def has_learned(self, epoch: int) -> bool:
        """Return whether the epoch is one with labels: before, the classifier is as it began."""
        return epoch >= self.pretraining.epochs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of two views of a batch."""
        return super().training_step(two_views(batch, self.color, self.shift), batch_idx)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then make the connections sparser: here, where only training comes, and never in an evaluation."""
        super().optimizer_step(*args, **kwargs)
        phase, _ = self._phase(self.trainer.current_epoch)
        if phase.rates.get("head"):
            self.network.shrink(self.sparsity)

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each loss in the current epoch."""
        epoch = self.trainer.current_epoch
        phase, within = self._phase(epoch)
        assert isinstance(phase, Pretrain | Classifier | Joint)
        return phase.weights(within)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms and what is minimized; outside of training, where there is one view, the class alone.

        A term of weight 0 stays in the sum: several processes need a gradient for every parameter.
        """
        terms = {"class_loss": class_loss(output.logits, batch.label)}
        if not self.training:
            return {"loss": terms["class_loss"], **terms}
        first, second = output.units.scores.chunk(2)
        terms["align"] = align_loss(*output.units.maps.chunk(2))
        terms["tanh"] = (tanh_loss(first) + tanh_loss(second)) / 2
        weights = self.loss_weights()
        loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        return {"loss": loss, **terms}

    def build_metrics(self) -> dict[str, MetricCollection]:
        """Return accuracies, and how many prototypes an explanation has."""
        return {**super().build_metrics(), "use": MetricCollection({"use": PrototypeUse()})}

    def metric_inputs(self, output: Output, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the inputs of each kind of metric; an image without a prediction counts as an error."""
        network = self.network
        abstains = network.abstains(output.logits)
        wrong = (batch.label + 1) % len(network.class_names)
        predicted = torch.where(abstains, wrong, output.logits.argmax(1))
        counts = network.present(output.units.scores) & (network.weight().detach() > 0).any(0)
        return {"class": (predicted, batch.label), "use": (counts.sum(1), abstains)}

    def _log_metrics(self, split: str) -> None:
        if split != "train":
            self.log(f"{split}/sparsity", self.network.zeros())
        super()._log_metrics(split)

    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Switch off the prototypes that are present in no training image."""
        network, dataset = self.network, data.dataset("train")
        self.use_fast_layout()
        ever = torch.zeros_like(network.mask)
        loader = DataLoader(dataset, data.batch_size, num_workers=data.num_workers, collate_fn=stack_samples)
        with evaluating(self), torch.no_grad():
            for batch in progress(loader, "looking for prototypes"):
                image = batch.image.to(network.head.weight.device, network.head.weight.dtype)
                ever |= (self(image).units.scores > 0).any(0)
        network.mask.copy_(ever)
        used = (network.weight() > 0).any(0)
        return {"prototypes/present": float(ever.sum()), "prototypes/used": float(used.sum())}

    def reweight(self, factors: Factors) -> None:
        """Multiply what prototypes count, for good: ``{"prototype 17": 0}`` switches one off, 1 restores it."""
        self.network.reweight(factors)


class PrototypeUse(Metric):
    """How many prototypes the prediction of an image rests on, and the share of images without any prediction."""

    is_differentiable = False
    full_state_update = False
    present: Tensor
    abstained: Tensor
    images: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("present", "abstained", "images"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, present: Tensor, abstains: Tensor) -> None:
        """Count the images of a batch.

        Args:
            present: (B,) number of prototypes that are present and count for some class.
            abstains: (B,) bool.
        """
        self.present += present.sum()
        self.abstained += abstains.sum()
        self.images += len(present)

    def compute(self) -> dict[str, Tensor]:
        """Return the means: `local_size`, and `abstention` in [0, 1]."""
        return {"local_size": self.present / self.images, "abstention": self.abstained / self.images}
