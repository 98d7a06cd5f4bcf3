"""One pass of a trained model over a split, and all figures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from ibd.data.base import ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.metrics.functional.by_group import by_group
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.lightning import InterpretableModule
from ibd.models.thresholding import prediction_of
from ibd.models.where_wrong import where_model_wrong
from ibd.training.bypassing import CountBypass
from ibd.training.calibrating import KeepOutputs, figures_of, probabilities_of
from ibd.training.display import Bar
from ibd.training.tested.on_thresholds import on_thresholds
from ibd.training.tested.scored import Scored


def one_pass(model: InterpretableModule, data: ImageDataModule, split: Split) -> tuple[dict[str, float], ReadOutputs]:
    """Return the metrics of a split, by ``SPLIT/NAME``, and what the model has put out for it."""
    bypass, outputs = CountBypass(data), KeepOutputs()
    trainer = pl.Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[Bar(), bypass, outputs],
    )
    data.prepare_data()
    model.use_fast_layout()
    metrics = trainer.test(model, dataloaders=data.loader(split), verbose=False)[0]
    found = {name: float(value) for name, value in metrics.items()} | bypass.figures()
    named = {f"{split}/{name.removeprefix('test/')}": value for name, value in found.items()}
    return named, outputs.read(data, split)


def score(
    model: InterpretableModule,
    dataset: ImageDataset,
    split: Split,
    read: ReadOutputs,
    metrics: Mapping[str, float],
    members: Mapping[str, Sequence[str | None]],
    about: Mapping[str, Any],
) -> Scored:
    """Return all that is said of a model on a split.

    Args:
        model: the model.
        dataset: the images.
        split: name of the split.
        read: what the model has put out for them.
        metrics: metrics of the pass, by name.
        members: column -> the group of each image, None where it is not known.
        about: what else is to be known of the test.
    """
    here = read.to(model.device)
    found = where_model_wrong(model, here)
    probabilities = probabilities_of(model, read)
    groups = [by_group(probabilities, read.labels, who, name, found.silent) for name, who in members.items()]
    figures = dict(metrics)
    figures |= {f"{split}/{name}": value for name, value in figures_of(model, read).items()}
    figures |= {f"{split}/{name}": value for group in groups for name, value in group.figures().items()}
    abstains = prediction_of(model, here).abstains  # as a prediction says: by calibration, and by threshold
    calibrated, thresholds = model.calibration is not None, on_thresholds(model, here, split)
    return Scored(found, dataset, split, abstains, figures, groups, members, calibrated, about, thresholds)
