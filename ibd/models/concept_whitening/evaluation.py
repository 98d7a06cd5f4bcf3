"""What the axes of a whitened latent space are worth, beside the channels of the same network without whitening."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.errors import ConfigError, DataError, did_you_mean
from ibd.io import load_model, load_run
from ibd.metrics.axes import auc_matrix
from ibd.models.base import evaluating
from ibd.models.baseline.lightning import Baseline
from ibd.models.concept_whitening.baseline_channels import BaselineChannels
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.reading import AxisReading, annotated, batches, concept_columns
from ibd.models.concept_whitening.report import AxisReport
from ibd.models.concept_whitening.top_images import TopImage, require_axes
from ibd.models.lightning import InterpretableModule
from ibd.types import RunLike

_log = logging.getLogger(__name__)


@torch.no_grad()
def evaluate_axes(
    model: RunLike | InterpretableModule,
    data: ImageDataModule | None = None,
    split: Split = "test",
    baseline: RunLike | InterpretableModule | None = None,
) -> AxisReport:
    """Return how well axes stand for their concepts, how independent they are, and what rests on them.

    One pass over the images; a second through the backbone where several layers are whitened; and for each concept one
    pass through what comes after the axes. A baseline is read once on `split` and once where its channels are chosen.

    Args:
        model: a ``ConceptWhitening``, or a run (folder, checkpoint, or what ``ibd.fit`` returned).
        data: data of the model; may be left out where `model` is a run.
        split: the images to measure on.
        baseline: a model, or a run, with the same backbone but batch normalization where the other is whitened.

    Returns:
        A report whose figures are "accuracy", "correlation", "whiteness_diagonal" and "whiteness_off_diagonal" (see
        `ibd.metrics.AxisCorrelation`), "accuracy_drop" and "loss_increase" (the mean over the concepts of what removing
        their axis does), with annotated concepts "axis_purity" and "separation". With a baseline also
        "accuracy_baseline", "correlation_baseline", and with annotated concepts "separation_baseline",
        "axis_purity_best_channel" (for each concept the AUC of the channel that was best on the validation split, or on
        the training split where `split` is that) and "axis_purity_best_channel_optimistic" (the best channel on the
        images that it is measured on, as published). What is left out is said in one line.

    Raises:
        UnsupportedError: the model has no axes that stand for concepts.
        ConfigError: an unknown split, no data, or a baseline that cannot be compared with.
        DataError: there is no image.
    """
    _check_split(split)
    if not isinstance(model, nn.Module):
        model, run = load_run(model)
        data = run if data is None else data
    module = require_axes(model)
    if data is None:
        raise ConfigError("evaluate_axes needs the data beside the model (or a run in place of both)")
    channels = None if baseline is None else BaselineChannels(_baseline(baseline), module, data.spec)
    columns = concept_columns(module.network, data.spec)
    missing = _why_unannotated(module.network, data, split, columns)
    with evaluating(module), nullcontext() if channels is None else evaluating(channels.module):
        reading = AxisReading(module, channels)
        for batch in batches(data, split, "measuring axes"):
            reading.update(batch, columns)
        chosen_on: Split = "train" if split == "val" else "val"
        chosen = None
        if channels is not None and not missing:
            chosen = _channel_auc(channels, module.network, data, chosen_on, columns)
    if not len(reading.index):
        raise DataError(f"there are no {split} images")
    report = reading.report(split, chosen, chosen_on)
    if not missing:
        return report
    _log.warning("axis_purity and separation are left out: %s", missing)
    for name in [name for name in report.figures if name.startswith(("axis_purity", "separation"))]:
        del report.figures[name]
    return report


def top_images(
    model: InterpretableModule,
    data: ImageDataModule,
    split: Split = "test",
    k: int = 8,
    axes: list[int] | None = None,
    report: AxisReport | None = None,
) -> list[TopImage]:
    """Return the k images of a split that activate each axis most, the most activating first; ties by position.

    Args:
        model: a ``ConceptWhitening``.
        data: data whose un-augmented images are read.
        split: split of the data.
        k: number of images of each axis.
        axes: indices of axes; those of the concepts if None.
        report: report of the same model, data and split, which saves a pass over the images.

    Raises:
        UnsupportedError: the model has no axes that stand for concepts.
        ConfigError: an unknown split, an axis that there is not, or a report on another split.
    """
    _check_split(split)
    module = require_axes(model)
    if report is not None and report.split != split:
        raise ConfigError(f"top_images: the report covers the {report.split} images, not the {split} images")
    network, dataset = module.network, data.dataset(split)
    columns = concept_columns(network, data.spec)
    chosen = list(range(len(columns))) if axes is None else [network.unit_index(axis) for axis in axes]
    scores, index = _scores(module, data, split) if report is None else (report.scores, report.index)
    order = scores[:, chosen].sort(dim=0, descending=True, stable=True).indices[:k].t()
    truth = annotated(dataset.concepts, columns)
    return [
        TopImage(
            axis=axis,
            name=network.unit_names[axis],
            rank=rank,
            index=image,
            sample=dataset.sample_id(image),
            score=float(scores[row, axis]),
            class_name=data.spec.class_names[int(dataset.labels[image])],
            annotated=float(truth[image, axis]) if axis < len(columns) else torch.nan,
        )
        for axis, rows in zip(chosen, order.tolist(), strict=True)
        for rank, row in enumerate(rows)
        for image in [int(index[row])]
    ]


def _baseline(baseline: RunLike | InterpretableModule) -> Baseline:
    network = baseline if isinstance(baseline, nn.Module) else load_model(baseline)
    if not isinstance(network, Baseline):
        raise ConfigError(
            f"the baseline is a {type(network).__name__}: a run of model.name=baseline is needed, with the same "
            "backbone as the whitened network"
        )
    return network


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"unknown split '{split}'.{did_you_mean(split, SPLITS)}")


def _why_unannotated(network: ConceptWhiteningNetwork, data: ImageDataModule, split: Split, columns: list[int]) -> str:
    """Return why no concept of an axis is annotated, "" if one is; say which are not, if some are."""
    absent = [name for name, column in zip(network.concept_names, columns, strict=True) if column < 0]
    if not data.spec.concept_names:
        return f"the data has no annotated concepts ({type(data).__name__} is not given any)"
    if len(absent) == len(columns):
        return "the data does not know the concepts of the axes: " + ", ".join(absent[:5])
    if absent:
        _log.warning("%d of %d axes are not measured: the data has no '%s'", len(absent), len(columns), absent[0])
    if bool(annotated(data.dataset(split).concepts, columns).isnan().all()):
        return f"no {split} image has a known concept"
    return ""


@torch.no_grad()
def _scores(model: ConceptWhitening, data: ImageDataModule, split: Split) -> tuple[Tensor, Tensor]:
    """Return (N, U) activations and (N,) positions of the images of a split."""
    device = next(model.parameters()).device
    scores, index = [torch.zeros(0, len(model.network.unit_names))], [torch.zeros(0, dtype=torch.int64)]
    with evaluating(model):
        for batch in batches(data, split, "reading axes"):
            scores.append(model.network.encode(batch.image.to(device)).scores.float().cpu())
            index.append(batch.index.cpu())
    return torch.cat(scores), torch.cat(index)


def _channel_auc(
    channels: BaselineChannels,
    network: ConceptWhiteningNetwork,
    data: ImageDataModule,
    split: Split,
    columns: list[int],
) -> Tensor:
    """Return the (K, U) AUC of every channel of the baseline for every concept."""
    scores, concepts = [], []
    for batch in batches(data, split, "choosing channels"):
        scores.append(network.pool(channels.read(batch.image)[1]).float().cpu())
        concepts.append(annotated(batch.concepts, columns))
    if not scores:
        return torch.full((len(columns), len(network.unit_names)), torch.nan, dtype=torch.float64)
    return auc_matrix(torch.cat(scores), torch.cat(concepts))
