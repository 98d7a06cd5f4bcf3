"""How long a training is: where it ends before all was trained, that is said, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from ibd.backbones import faded
from ibd.errors import ConfigError
from ibd.models.lightning import InterpretableModule
from ibd.models.phases import PhasedModule
from ibd.training.display import tell
from ibd.training.keeping import KeepRun
from ibd.training.stopping import StopEarly


class TellLength(Callback):
    """Say in one line what of a training is left out, before it where that is known, else after it.

    Args:
        keep: keeper of checkpoints, which knows whether an epoch was the best one.
    """

    def __init__(self, keep: KeepRun) -> None:
        self.keep = keep

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what ``trainer.max_epochs`` cuts off the phases of the model."""
        planned = trainer.max_epochs or 0
        if not trainer.is_global_zero or not isinstance(pl_module, InterpretableModule):
            return
        if 0 < planned < (pl_module.epochs or 0):
            tell(f"trainer.max_epochs={planned} cuts the training short{_left_out(pl_module, planned)}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say why the training ended before its last epoch, and where no epoch could be the best one."""
        if not trainer.is_global_zero or not isinstance(pl_module, InterpretableModule):
            return
        trained = trainer.current_epoch
        if 0 < trained < (trainer.max_epochs or 0):
            tell(f"{_reason(trainer)} ended the training after epoch {trained}{_left_out(pl_module, trained)}")
        if math.isnan(self.keep.best) and (self.keep.folder / "last.ckpt").exists():
            tell(f"no epoch is the best one, so the last one is used: {self._why(trainer, pl_module)}")

    def _why(self, trainer: pl.Trainer, module: InterpretableModule) -> str:
        name = self.keep.monitor
        if not module.has_learned(max(0, trainer.current_epoch - 1)):
            return "no label was used in any of them"
        if (fade := faded(module.network.backbone)) < 1:
            return f"the conversion of its backbone is not over ({fade:.0%}; model.backbone.fade)"
        if not trainer.limit_val_batches and name.startswith("val/"):
            return f"without validation (trainer.limit_val_batches=0) there is no {name}"
        advice = module.monitor_advice if name == module.monitor[0] else ""
        return f"{name} was never a number; {advice or 'checkpoint.monitor can name another metric'}"


def check_length(model: InterpretableModule, options: Mapping[str, Any]) -> None:
    """Check how long a training is to be.

    Args:
        model: model whose phases may say it.
        options: options of the trainer, without those that are null.

    Raises:
        ConfigError: nothing would be trained, or more than the phases have, or at least more than at most.
    """
    if isinstance(model, PhasedModule) and model.epochs == 0:
        keys = " and ".join(model.phase_keys)
        raise ConfigError(f"{keys}: 0 given, so nothing would be trained; at least 1 is needed for one of them")
    most = options.get("max_epochs", model.epochs)
    if model.epochs is not None and not 0 < most <= model.epochs:
        raise ConfigError(
            f"trainer.max_epochs: {most} given, but the phases of the model have {model.epochs} epochs: leave it "
            "out, or cut the training short with fewer"
        )
    for unit, limit in (("epochs", most), ("steps", options.get("max_steps"))):
        least = options.get(f"min_{unit}", 0)
        if limit is not None and -1 != limit < least:
            raise ConfigError(f"trainer.min_{unit}: {least} given, at most {limit}, trainer.max_{unit}, is possible")


def _reason(trainer: pl.Trainer) -> str:
    """Return the option that ended a training."""
    if 0 < trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps={trainer.max_steps}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StopEarly) and callback.wait_count >= max(callback.patience, 1):
            return f"early_stopping.patience={callback.patience} without a better {callback.monitor}"
    return "trainer.max_time or the model itself"


def _left_out(model: InterpretableModule, epochs: int) -> str:
    """Return the epochs that phases do not have, and whether any label is used."""
    missing = model.left_out(epochs)
    blind = "" if model.has_learned(epochs - 1) else "; no label is used, and nothing is learned about the classes"
    return f": without {', '.join(missing)} epochs{blind}" if missing else blind
