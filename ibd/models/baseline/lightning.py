"""Training of the plain CNN."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.errors import ConfigError
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, DataSpec, Output


class Baseline(InterpretableModule):
    """A plain CNN with a linear layer on the pooled features.

    Args:
        spec: class names and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        loss: "cross_entropy"; or "binary", a cross-entropy for each class against all others, summed: what is learned
            then is evidence for a class, and not what is said against the others (Boehle et al. 2022). The bias starts
            at the log odds of a class among C, log(1 / (C - 1)). The probabilities of a prediction are the softmax of
            the logits all the same.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    network: BaselineNetwork
    needs_images = None

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        loss: Literal["cross_entropy", "binary"] = "cross_entropy",
        label_smoothing: float = 0.0,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"model.label_smoothing: {label_smoothing} given, a share from 0 to 1 is needed")
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        super().__init__(spec, BaselineNetwork(build_backbone(backbone), spec.class_names), optimizer)
        self.loss, self.label_smoothing = loss, label_smoothing
        if loss == "binary":
            nn.init.constant_(self.network.head.bias, -math.log(max(len(spec.class_names) - 1, 1)))
        self.save_plain(backbone=backbone, loss=loss, label_smoothing=label_smoothing, optimizer=optimizer)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, or the sum of those of each class."""
        smoothing = self.label_smoothing if self.training else 0.0
        if self.loss == "cross_entropy":
            return {"loss": F.cross_entropy(output.logits, batch.label, label_smoothing=smoothing)}
        classes = output.logits.shape[1]
        truth = F.one_hot(batch.label, classes).to(output.logits.dtype) * (1 - smoothing) + smoothing / classes
        summed = F.binary_cross_entropy_with_logits(output.logits, truth, reduction="sum")
        return {"loss": summed / len(batch)}
