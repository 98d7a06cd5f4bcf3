"""What a person sees of a training: a bar, a line for each epoch, pictures of its predictions."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback, Checkpoint, TQDMProgressBar
from tqdm.auto import tqdm

from ibd import registry
from ibd.data.base import ImageDataModule
from ibd.explain.explanation_figures import explanations_figure
from ibd.explain.figures import prediction_figure
from ibd.explain.targets import Target
from ibd.metrics.functional.shares import share_interval
from ibd.models.lightning import InterpretableModule
from ibd.models.prediction import Prediction
from ibd.printing import shown
from ibd.types import Batch, stack_samples


class ValidationFigures(Callback):
    """Draw a few fixed validation images with their units and maps, into ``figures/`` and to W&B.

    Args:
        folder: folder for the pictures.
        every: epochs between figures; the last epoch always has one.
        count: number of images, of as many classes as possible.
        explainers: names of explainers that are asked about the predicted classes too.
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
        explanations = [explainer(module, images, Target.cls(prediction.labels)) for explainer in asked]
        titles = [f"{name} (predicted)" for name in prediction.classes]
        return explanations_figure(batch.image, explanations, titles)

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
    unnamed = int((~network.named_units()).sum()) if network.truth_values else 0
    units = f"{len(network.unit_names) - unnamed} {network.unit_plural}"
    units += f" and {unnamed} units without a name" if unnamed else ""
    units += f", {len(spec.class_names)} classes"
    images = ", ".join(f"{len(data.dataset(split))} {split}" for split in ("train", "val"))
    size = " x ".join(map(str, spec.image_size))
    return f"{type(model).__name__}: {parameters / 1e6:.2f} M parameters, {units}; {images} images at {size}"


def tell(line: str) -> None:
    """Write a line for the person who trains, above the progress bar where there is one."""
    tqdm.write(shown(line), file=sys.stderr)


_WIDE = 0.1
"""How far the interval of an accuracy (95 %, `share_interval`, at one half) may reach to either side before validation
images are called too few to pick an epoch by: 92 or fewer are. Epochs of a training that goes well differ by a few
hundredths; that all are judged by the same images makes the choice surer than this, but hardly three times so.
"""


def accuracy_reach(images: int) -> float:
    """Return how far the interval of an accuracy reaches to either side, at the worst, which is at one half.

    Args:
        images: number of images that it is measured on; of none it is one half.
    """
    if not images:
        return 0.5
    interval = share_interval(images // 2, images)
    return (interval.high - interval.low) / 2


def doubts(data: ImageDataModule) -> list[str]:
    """Return, in a line each, why the validation images of a data set may pick the wrong epoch."""
    labels = data.dataset("val").labels
    messages = []
    if (reach := accuracy_reach(len(labels))) > _WIDE:
        messages.append(
            f"only {len(labels)} validation images: an accuracy of them has an interval of +-{100 * reach:.0f} points, "
            "so the choice of the best epoch is partly chance (`ibd repeat CONFIG --folds 5` says how much)"
        )
    seen = set(labels.tolist())
    unseen = [name for label, name in enumerate(data.spec.class_names) if label not in seen]
    if unseen:
        more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
        named = ", ".join(f"'{name}'" for name in unseen[:3])
        messages.append(f"no validation image is of class {named}{more}: no validation figure says anything about that")
    return messages


_HEADLINE = (
    "head/val_accuracy",
    "finished/accuracy",
    "val/accuracy",
    "val/concept_auroc",
    "finished/axis_purity",
    "val/loss",
    "val/balanced_accuracy",
)
"""What a model is judged by first, in this order; the accuracy of a finished model comes before that of its epoch."""


def headline(figures: Mapping[str, float], monitor: str) -> dict[str, float]:
    """Return the three of many figures that a person wants first, that of `monitor` among them."""
    names = [name for name in dict.fromkeys((monitor, *_HEADLINE)) if not math.isnan(figures.get(name, math.nan))]
    return {name: figures[name] for name in names[:3]}


class EpochLines(Checkpoint):
    """Say in one line what is trained, and how each epoch went: what stays on the screen, and all a log file gets.

    A ``Checkpoint`` for its place alone: Lightning calls these last, and what a line tells of is on disk by then.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what is trained, once every option was found right, and what to doubt."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.is_global_zero and isinstance(pl_module, InterpretableModule) and isinstance(data, ImageDataModule):
            for line in [summary(pl_module, data), *(doubts(data) if trainer.limit_val_batches else [])]:
                tell(line)

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
        tell(f"epoch {trainer.current_epoch + 1}{total}  {figures}  ({seconds:.1f} s)")


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
