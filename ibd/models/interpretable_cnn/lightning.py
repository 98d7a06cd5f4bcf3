"""Training of the interpretable CNN: the class, and for every filter the mutual information with its templates."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.data.base import ImageDataModule
from ibd.distributed import progress, sum_over_processes
from ibd.errors import ConfigError, check_range
from ibd.models.base import evaluating
from ibd.models.interpretable_cnn.activity import sums_by_class
from ibd.models.interpretable_cnn.losses import Gradient, check_gradient, filter_loss
from ibd.models.interpretable_cnn.network import InterpretableCNNNetwork
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, DataSpec, Output, stack_samples

_KEPT = 0.9
"""Share of a filter's mean activation that a batch leaves as it is (as in the published code)."""


class InterpretableCNN(InterpretableModule):
    """A CNN whose filters each stand for one part of the objects of one class, without any label of parts.

    Args:
        spec: classes and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        filters: number of filters, by a 3x3 convolution after the backbone; null takes the backbone's last channels.
        beta: how steeply a template falls: its positive part reaches 1 / beta of a side of the map from the peak.
        tau: how large the templates are, times 1 / cells.
        filter_weight: weight of the filter loss, summed over the filters.
        gradient: of what it has its gradient: "balanced" over the images of a filter's class and the others, as in the
            published code; of the "target" template alone, as in the paper; or the "exact" one of the mutual
            information. The last two are smaller by orders, and need a larger weight.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: InterpretableCNNNetwork
    needs_images = None

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        filters: int | None = None,
        beta: float = 4.0,
        tau: float = 0.5,
        filter_weight: float = 0.002,
        gradient: Gradient = "balanced",
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        check_range("model.tau", tau, above=0)
        check_range("model.filter_weight", filter_weight, least=0)
        check_gradient(gradient)
        super().__init__(spec, InterpretableCNNNetwork(build_backbone(backbone), spec, filters, beta), optimizer)
        if self.frozen and filters is None and filter_weight:
            raise ConfigError("model.filters: a number is needed where the backbone is frozen: no filter would learn")
        self.tau, self.filter_weight, self.gradient = tau, filter_weight, gradient
        self.save_plain(
            backbone=backbone,
            filters=filters,
            beta=beta,
            tau=tau,
            filter_weight=filter_weight,
            gradient=gradient,
            optimizer=optimizer,
        )

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms and what is minimized; outside of training, where filters are not assigned, the class."""
        terms = {"class_loss": F.cross_entropy(output.logits, batch.label)}
        if not self.training:
            return {"loss": terms["class_loss"], **terms}
        network, (maps,) = self.network, output.units.state
        self._watch(maps, batch.label)
        terms["filter_loss"] = filter_loss(maps, network.own(batch.label), self.tau, network.beta, self.gradient)
        return {"loss": terms["class_loss"] + self.filter_weight * terms["filter_loss"], **terms}

    @torch.no_grad()
    def _watch(self, maps: Tensor, labels: Tensor) -> None:
        """Keep the mean activation by class up to date, over the batch of all processes, and the classes of filters."""
        total, images = (sum_over_processes(part) for part in sums_by_class(maps, labels, len(self.spec.class_names)))
        before = self.network.activity
        mean = (total / images.clamp(min=1).unsqueeze(1)).to(before.dtype)
        moved = torch.where(before.isnan(), mean, _KEPT * before + (1 - _KEPT) * mean)
        self.network.assign(torch.where((images > 0).unsqueeze(1), moved, before))

    def on_train_epoch_end(self) -> None:
        """Name the filters by the classes that they have come to stand for."""
        super().on_train_epoch_end()
        self.network.name_filters()

    @torch.no_grad()
    def finish(self, data: ImageDataModule) -> dict[str, float]:
        """Assign the filters by all training images, as the weights now are."""
        network, dataset = self.network, data.dataset("train")
        self.use_fast_layout()
        loader = DataLoader(dataset, data.batch_size, num_workers=data.num_workers, collate_fn=stack_samples)
        total = torch.zeros_like(network.activity)
        images = total.new_zeros(len(total))
        with evaluating(self):
            for batch in progress(loader, "assigning filters"):
                features = network.backbone(batch.image.to(total.device, network.head.weight.dtype))
                maps = network.add_on(features).relu()
                part, count = sums_by_class(maps, batch.label.to(total.device), len(total))
                total, images = total + part, images + count
        network.assign(total / images.unsqueeze(1))
        network.name_filters()
        classes = {*network.category[network.category >= 0].tolist()}
        return {"filters/used": float((network.category >= 0).sum()), "filters/classes": float(len(classes))}
