"""Training of the plain CNN."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor
from torch.nn import functional as F

from ibd.backbones import build_backbone
from ibd.config import Block
from ibd.errors import ConfigError
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, DataSpec, Output


class Baseline(InterpretableModule):
    """A plain CNN with a linear layer on the pooled features, trained with cross-entropy.

    Args:
        spec: class names and image size of the data, as a `DataSpec` or its plain values.
        backbone: feature extractor: its name, and its own options.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        optimizer: settings of the optimizer, see `ibd.models.optimizer.OptimizerSettings`.
    """

    def __init__(
        self,
        spec: DataSpec | dict[str, Any],
        backbone: Annotated[dict[str, Any], Block("backbones")],
        label_smoothing: float = 0.0,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"model.label_smoothing: {label_smoothing} given, a share from 0 to 1 is needed")
        spec = DataSpec.from_dict(spec) if isinstance(spec, dict) else spec
        super().__init__(spec, BaselineNetwork(build_backbone(backbone), spec.class_names), optimizer)
        self.label_smoothing = label_smoothing
        self.save_plain(backbone=backbone, label_smoothing=label_smoothing, optimizer=optimizer)

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        smoothing = self.label_smoothing if self.training else 0.0
        return {"loss": F.cross_entropy(output.logits, batch.label, label_smoothing=smoothing)}
