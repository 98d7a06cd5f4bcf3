"""What a test adds to its figures: the accuracy without the units that have a name, and with these alone."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from ibd.data.base import ImageDataModule
from ibd.errors import UnsupportedError
from ibd.models.bypass import Typical, reduced_logits, require_names, rounded_logits, typical_units
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, Output


class CountBypass(Callback):
    """Classify the test images again from what is left of their units, in the one pass of a test.

    Args:
        data: data of the model, whose training images say what units are on average.
    """

    def __init__(self, data: ImageDataModule) -> None:
        self.data = data
        self.typical: Typical | None = None
        self.right: dict[str, int] = {}
        self.count = 0

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read training images, where there is anything to measure."""
        if not isinstance(pl_module, InterpretableModule):
            return
        try:
            require_names(pl_module.network)
        except UnsupportedError:
            return
        self.typical = typical_units(pl_module, self.data.dataset("train"))

    def on_test_batch_end(  # Lightning's signature
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count which images are still right."""
        if self.typical is None or not isinstance(outputs, Output):
            return
        label = batch.label[batch.index >= 0]
        self.count += len(label)
        network, units = pl_module.network, outputs.units
        left = {**reduced_logits(network, units, self.typical), "rounded": rounded_logits(network, units)}
        for name, logits in left.items():
            if logits is None:
                continue
            self.right[name] = self.right.get(name, 0) + int((logits.argmax(1) == label).sum())

    def figures(self) -> dict[str, float]:
        """Return the accuracies, by ``test/accuracy_without_named`` and the like."""
        return {f"test/accuracy_{name}": right / self.count for name, right in self.right.items()}
