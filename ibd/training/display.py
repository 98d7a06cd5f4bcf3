"""What a person sees of a training: a bar, a line for each epoch, pictures of its predictions."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from tqdm.auto import tqdm

from ibd import registry
from ibd.data.base import ImageDataModule
from ibd.explain.explanation_figures import explanations_figure
from ibd.explain.figures import prediction_figure
from ibd.explain.targets import Target
from ibd.models.lightning import InterpretableModule
from ibd.models.prediction import Prediction
from ibd.types import Batch, stack_samples


class ValidationFigures(Callback):
    """Draw a few fixed validation images with their units and maps, into ``figures/`` and to W&B.

    Args:
        folder: where the pictures go.
        every: epochs between figures; the last epoch always has one.
        count: how many images, of as many classes as possible.
        explainers: names of what else to ask about the predicted classes.
    """

    def __init__(self, folder: Path, every: int, count: int, explainers: Sequence[str] = ()) -> None:
        self.folder, self.every, self.count, self.explainers = folder, every, count, explainers

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, on the first process only and without any collective."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = (trainer.current_epoch + 1) % self.every == 0 or last
        if trainer.sanity_checking or not due or not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, InterpretableModule) or not isinstance(data, ImageDataModule):
            return
        dataset = data.dataset("val")
        batch = stack_samples([dataset[index] for index in first_of_each_class(dataset.labels, self.count)])
        prediction = pl_module.predict(batch.image)
        figure = prediction_figure(prediction, batch.image, batch.label, batch.concepts)
        self._keep(trainer, figure, "validation", "validation/predictions")
        if self.explainers:
            self._keep(
                trainer, self._explained(pl_module, batch, prediction), "explanations", "validation/explanations"
            )
        loggers: list[Any] = trainer.loggers
        for logger in loggers:
            if hasattr(logger, "log_table"):
                truth = [data.spec.class_names[label] for label in batch.label.tolist()]
                top = prediction.probabilities.max(1).values.tolist()
                rests = [prediction.table(i, top=5) for i in range(len(prediction))]
                rows = [list(row) for row in zip(truth, prediction.classes, top, rests, strict=True)]
                logger.log_table("validation/table", ["class", "predicted", "probability", "rests on"], rows)

    def _explained(self, module: InterpretableModule, batch: Batch, prediction: Prediction) -> Figure:
        """Return the picture of the explanations; the module is left as it is in training."""
        images = batch.image.to(module.device)
        asked = [registry.resolve("explainers", name)() for name in self.explainers]
        found = [explainer(module, images, Target.cls(prediction.labels)) for explainer in asked]
        titles = [f"{name} (predicted)" for name in prediction.classes]
        return explanations_figure(batch.image, found, titles)

    def _keep(self, trainer: pl.Trainer, figure: Figure, name: str, key: str) -> None:
        """Write a figure of this epoch, and log it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}_epoch_{trainer.current_epoch:03d}.png"
        figure.savefig(path, dpi=100)
        loggers: list[Any] = trainer.loggers
        for logger in loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(key, [str(path)])


def first_of_each_class(labels: torch.Tensor, count: int) -> list[int]:
    """Return up to `count` indices: the first image of each class, then the second, and so on."""
    seen: dict[int, int] = {}
    rank = []
    for index, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        rank.append((seen[label], index))
    return [index for _, index in sorted(rank)[:count]]


def summary(model: InterpretableModule, data: ImageDataModule) -> str:
    """Return in a line what is trained on what."""
    network, spec = model.network, data.spec
    parameters = sum(p.numel() for p in network.parameters())
    units = f"{len(network.unit_names)} {network.unit_plural}, {len(spec.class_names)} classes"
    images = ", ".join(f"{len(data.dataset(split))} {split}" for split in ("train", "val"))
    size = " x ".join(map(str, spec.image_size))
    return f"{type(model).__name__}: {parameters / 1e6:.2f} M parameters, {units}; {images} images at {size}"


class EpochLines(Callback):
    """Say in one line what is trained, and how each epoch went: what stays on the screen, and all a log file gets."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what is trained, once every option was found right."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.is_global_zero and isinstance(pl_module, InterpretableModule) and isinstance(data, ImageDataModule):
            tqdm.write(summary(pl_module, data), file=sys.stderr)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the line, above the progress bar where there is one."""
        metrics = trainer.callback_metrics  # summed up over all processes
        if not trainer.is_global_zero:
            return
        shown = ("train/loss", "val/loss", "val/accuracy", "val/concept_auroc", "val/axis_purity")
        figures = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in shown if name in metrics)
        total = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        seconds = time.monotonic() - self.started
        tqdm.write(f"epoch {trainer.current_epoch + 1}{total}  {figures}  ({seconds:.1f} s)", file=sys.stderr)


class Bar(TQDMProgressBar):
    """Lightning's bar without the version number of the run, and only on a screen.

    In a file it would be a line for each refresh.
    """

    def __init__(self) -> None:
        super().__init__(leave=False, refresh_rate=5 if sys.stdout.isatty() else 0)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands beside the bar."""
        shown = super().get_metrics(trainer, pl_module)
        return {key: value for key, value in shown.items() if key in ("loss", "val/accuracy", "val/concept_auroc")}
