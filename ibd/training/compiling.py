"""Steps whose backbone is compiled: operations become one where the compiler can join them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from ibd.backbones import faded
from ibd.errors import ConfigError
from ibd.models.lightning import InterpretableModule

COMPILER = "inductor"
"""Which of torch's compilers: https://docs.pytorch.org/docs/stable/generated/torch.compile.html."""


class CompileSteps(Callback):
    """Let the steps of a training run through a backbone that ``torch.compile`` has compiled, and nothing else.

    What comes between steps (validation, pictures, explanations, a push of prototypes) takes the backbone as it is: a
    compiled one would not call hooks that were set on its layers later.
    """

    def __init__(self) -> None:
        self.compiled: Callable[[Tensor], Tensor] | None = None
        self.ran = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare to compile, which the first step does.

        Raises:
            ConfigError: the backbone becomes another with every step.
        """
        backbone = _backbone_of(pl_module)
        if faded(backbone) < 1:
            raise ConfigError("compile: true given, but a backbone that is converted is another in every step: false")
        compiled = torch.compile(backbone.forward, backend=COMPILER)

        def forward(image: Tensor) -> Tensor:
            self.ran = True
            features: Tensor = compiled(image)
            return features

        self.compiled = forward

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Take what is compiled."""
        if self.compiled is not None:
            _backbone_of(pl_module).forward = self.compiled

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: object, batch_idx: int
    ) -> None:
        """Take the backbone as it is.

        Raises:
            ConfigError: the step did without it, as where concept whitening runs its parts, or features are kept.
        """
        _restore(pl_module)
        if not self.ran:
            raise ConfigError(
                f"compile: true given, but a step of {type(pl_module).__name__} does not run its backbone as a whole: "
                "false"
            )

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the backbone as it is, also where a step has failed."""
        _restore(pl_module)


def _backbone_of(module: pl.LightningModule) -> nn.Module:
    assert isinstance(module, InterpretableModule)
    backbone: nn.Module = module.network.backbone
    return backbone


def _restore(module: pl.LightningModule) -> None:
    vars(_backbone_of(module)).pop("forward", None)
