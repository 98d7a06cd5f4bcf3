"""When a training ends before its last epoch."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor

from ibd.backbones import faded
from ibd.models.lightning import InterpretableModule


def loss_beside(monitor: str) -> str:
    """Return the name of the loss that decides between equal values of a metric: of the same split."""
    return f"{monitor.partition('/')[0]}/loss"


def figure(trainer: pl.Trainer, name: str) -> float:
    """Return a logged metric of this epoch; NaN where there is none."""
    return float(trainer.callback_metrics.get(name, math.nan))


def counts(trainer: pl.Trainer) -> bool:
    """Return whether the model of this epoch may be the best.

    What it says about classes has been learned, and no conversion of its backbone is under way.
    """
    module = trainer.lightning_module
    if not isinstance(module, InterpretableModule):
        return True
    return module.has_learned(trainer.current_epoch) and faded(module.network.backbone) == 1


class StopEarly(EarlyStopping):
    """Early stopping that a resumed run keeps to: it stays stopped, and its patience is that of the config.

    An equal score with a smaller loss is an improvement, unless ``min_delta`` says what is one.
    """

    stopped = False
    loss = math.nan

    def _run_early_stopping_check(self, trainer: pl.Trainer) -> None:
        """Wait where the metric is not a number in this epoch, or where the classes are not learned yet."""
        if not counts(trainer) or math.isnan(float(trainer.callback_metrics.get(self.monitor, 0.0))):
            return
        loss = figure(trainer, loss_beside(self.monitor))
        if self.min_delta == 0 and loss < self.loss and self._equals(trainer.callback_metrics.get(self.monitor)):
            self.wait_count = 0
        else:
            super()._run_early_stopping_check(trainer)
        if self.wait_count == 0:
            self.loss = loss

    def _equals(self, current: object) -> bool:
        return isinstance(current, Tensor) and bool(torch.eq(current.cpu(), self.best_score.cpu()))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {**super().state_dict(), "loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over everything but the patience."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.loss = state_dict.get("loss", math.nan)
        self.stopped = self.wait_count >= max(self.patience, 1)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once where the run had stopped."""
        if self.stopped:
            trainer.should_stop = True
