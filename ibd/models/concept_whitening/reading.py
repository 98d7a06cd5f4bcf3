"""One pass over images: everything that is measured on axes, and on a baseline's channels beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.data.base import ImageDataModule, Split
from ibd.distributed import progress
from ibd.metrics.axes import ConceptImportance, auc_matrix
from ibd.metrics.whitening import AxisCorrelation, ConceptSeparation
from ibd.models.concept_whitening.baseline_channels import BaselineChannels
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.report import AxisReport
from ibd.models.painting import spatial_mean
from ibd.types import Batch, DataSpec

_log = logging.getLogger(__name__)


def concept_columns(network: ConceptWhiteningNetwork, spec: DataSpec) -> list[int]:
    """Return for each concept that has an axis where the data has it, -1 where it has not."""
    places = {name: place for place, name in enumerate(spec.concept_names)}
    return [places.get(name, -1) for name in network.concept_names]


def annotated(concepts: Tensor, columns: list[int]) -> Tensor:
    """Return (N, K) annotations of the concepts that have an axis, NaN where the data has none."""
    return F.pad(concepts, (0, 1), value=torch.nan)[:, columns]


def batches(data: ImageDataModule, split: Split, title: str) -> Iterator[Batch]:
    """Yield the images of a split without padding."""
    for batch in progress(data.loader(split), title):
        kept = batch.select(batch.index >= 0)
        if len(kept):
            yield kept


class AxisReading:
    """Everything that is gathered from the images of a split.

    Args:
        model: model whose axes are read.
        channels: channels of a baseline to read beside it.
    """

    def __init__(self, model: ConceptWhitening, channels: BaselineChannels | None) -> None:
        self.network, self.channels = model.network, channels
        self.device = next(model.parameters()).device
        self.place = torch.device("cpu") if self.device.type == "mps" else self.device  # which has no float64
        count, axes = len(self.network.concept_names), len(self.network.unit_names)
        kinds = ("axes",) if channels is None else ("axes", "channels")
        self.correlation = {kind: AxisCorrelation(axes).to(self.place) for kind in kinds}
        self.separation = {kind: ConceptSeparation(count, axes).to(self.place) for kind in kinds}
        self.importance = ConceptImportance(count).to(self.place)
        self.right = dict.fromkeys(kinds, 0)
        self.scores: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
        self.depth: dict[str, list[Tensor]] = {name: [] for name in self.network.layer_names[:-1]}
        self.concepts: list[Tensor] = []
        self.index: list[Tensor] = []

    def update(self, batch: Batch, columns: list[int]) -> None:
        """Read a batch."""
        network, image, label = self.network, batch.image.to(self.device), batch.label.to(self.device)
        concepts = annotated(batch.concepts, columns)
        units = network.encode(image)
        self._add("axes", units.maps, units.scores, concepts)
        self.index.append(batch.index.cpu())
        self.concepts.append(concepts.cpu())
        if self.depth:
            maps = network.depth_maps(image)
            for name, values in self.depth.items():
                values.append(network.pool(maps[name][:, : len(columns)]).float().cpu())
        without = network.without(units, range(len(columns)))
        logits = network.decode(units)
        self.right["axes"] += int((logits.argmax(1) == label).sum())
        self.importance.update(logits.to(self.place), without.to(self.place), label.to(self.place))
        if self.channels is not None:
            logits, channels = self.channels.read(image)
            self._add("channels", channels, network.pool(channels.to(self.device)), concepts)
            self.right["channels"] += int((logits.argmax(1).cpu() == label.cpu()).sum())

    def _add(self, kind: str, maps: Tensor, scores: Tensor, concepts: Tensor) -> None:
        maps = maps.to(self.place)
        self.correlation[kind].update(maps)
        self.separation[kind].update(spatial_mean(maps), concepts.to(self.place))
        self.scores[kind].append(scores.float().cpu())

    def report(self, split: Split, chosen: Tensor | None, chosen_on: Split) -> AxisReport:
        """Return the report; `chosen` is the (K, U) AUC of the baseline's channels on `chosen_on`."""
        network, concepts, count = self.network, torch.cat(self.concepts), len(torch.cat(self.index))
        scores = torch.cat(self.scores["axes"])
        auc = auc_matrix(scores, concepts)
        own = auc.diagonal()
        importance = {name: value.cpu() for name, value in self.importance.compute().items()}
        white = self.correlation["axes"].whiteness()
        figures = {"accuracy": self.right["axes"] / count, "axis_purity": float(own.nanmean())}
        figures |= {"whiteness_diagonal": float(white.diagonal), "whiteness_off_diagonal": float(white.off_diagonal)}
        figures |= {name: float(value.mean()) for name, value in importance.items()}
        for kind, ending in zip(self.right, ("", "_baseline"), strict=False):
            figures[f"accuracy{ending}"] = self.right[kind] / count
            figures[f"correlation{ending}"] = float(self.correlation[kind].compute())
            figures[f"separation{ending}"] = float(self.separation[kind].compute())
        optional: dict[str, Any] = {}
        if self.channels is not None:
            optional["baseline_correlation"] = self.correlation["channels"].correlation().cpu()
        if chosen is not None:
            optional |= self._best_channels(chosen, auc_matrix(torch.cat(self.scores["channels"]), concepts))
            optional["chosen_on"] = chosen_on
            figures["axis_purity_best_channel"] = float(optional["best_channel"].nanmean())
            figures["axis_purity_best_channel_optimistic"] = float(optional["best_channel_optimistic"].nanmean())
            lost = (optional["best_channel"].isnan() & ~own.isnan()).nonzero().flatten().tolist()
            if lost:
                names = ", ".join(network.concept_names[k] for k in lost)
                text = "axis_purity_best_channel leaves out %s: always or never present in the %s images"
                _log.warning(text, names, chosen_on)
        depth = {name: auc_matrix(torch.cat(values), concepts).diagonal() for name, values in self.depth.items()}
        return AxisReport(
            figures=figures,
            split=split,
            concept_names=list(network.concept_names),
            axis_names=list(network.unit_names),
            auc=auc,
            correlation=self.correlation["axes"].correlation().cpu(),
            separation=self.separation["axes"].matrix().cpu(),
            importance=importance,
            trajectory={**depth, network.layer_names[-1]: own},
            scores=scores,
            index=torch.cat(self.index),
            **optional,
        )

    @staticmethod
    def _best_channels(chosen: Tensor, measured: Tensor) -> dict[str, Tensor]:
        """Return the best channels by the AUC they were chosen with, and what they are measured to be worth."""
        best = chosen.nan_to_num(-1.0).argmax(1)
        unknown = chosen.isnan().all(1)
        return {
            "best_channel": measured.gather(1, best.unsqueeze(1)).squeeze(1).masked_fill(unknown, torch.nan),
            "best_channel_index": best.masked_fill(unknown, -1),
            "best_channel_optimistic": measured.amax(1),
        }
