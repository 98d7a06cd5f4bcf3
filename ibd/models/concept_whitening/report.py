"""What `ibd.models.concept_whitening.evaluation` found, and how it is written down."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ibd.models.concept_whitening.top_images import TopImage

_HEADS = {
    "auc": "AUC of its axis",
    "best_channel": "AUC of the baseline's channel",
    "best_channel_index": "channel",
    "best_channel_optimistic": "AUC of the best channel in hindsight",
    "accuracy_drop": "accuracy lost without its axis",
    "loss_increase": "loss gained without its axis",
}


@dataclass(frozen=True)
class AxisReport:
    """What the axes of a network are worth, on one split. K concepts, U axes, N images; NaN is unknown.

    Attributes:
        figures: name -> number; see `ibd.evaluate_axes`.
        split: the images measured on.
        concept_names: the K concepts, axis k standing for concept k.
        axis_names: axis names of all U axes.
        auc: (K, U) float64, AUC of every axis for every concept.
        correlation: (U, U) float64, correlation of the axes over all pixels.
        separation: (K, K) float64, see `ibd.metrics.ConceptSeparation`.
        importance: "accuracy_drop" and "loss_increase", (K,) float64 each, without the concept's axis.
        trajectory: whitened layer, in the order of execution -> (K,) float64, the AUC of each concept's axis there.
        scores: (N, U) pooled activations.
        index: (N,) the images' positions in the split.
        baseline_correlation: (U, U) correlation of the baseline's channels; None without a baseline, as all that
            follows.
        best_channel: (K,) AUC of one channel of the baseline, that which was best on another split.
        best_channel_index: (K,) int64, index of that channel; -1 where it cannot be told.
        best_channel_optimistic: (K,) the highest AUC of a channel, chosen on the very images that it is measured on.
        chosen_on: the split that the channels were chosen on.
    """

    figures: dict[str, float]
    split: str
    concept_names: list[str]
    axis_names: list[str]
    auc: Tensor
    correlation: Tensor
    separation: Tensor
    importance: dict[str, Tensor]
    trajectory: dict[str, Tensor]
    scores: Tensor = field(repr=False)
    index: Tensor = field(repr=False)
    baseline_correlation: Tensor | None = None
    best_channel: Tensor | None = None
    best_channel_index: Tensor | None = None
    best_channel_optimistic: Tensor | None = None
    chosen_on: str | None = None

    def per_concept(self) -> dict[str, Tensor]:
        """Return what there is for each concept, name -> (K,)."""
        columns = {
            "auc": self.auc.diagonal(),
            "best_channel": self.best_channel,
            "best_channel_index": self.best_channel_index,
            "best_channel_optimistic": self.best_channel_optimistic,
            **self.importance,
        }
        return {name: value for name, value in columns.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, and what there is for each concept, as plain values; None where unknown."""
        columns = {name: value.tolist() for name, value in self.per_concept().items()}
        return {
            "split": self.split,
            "chosen_on": self.chosen_on,
            "figures": {name: _known(value) for name, value in self.figures.items()},
            "concepts": {
                concept: {name: _known(values[k]) for name, values in columns.items()}
                for k, concept in enumerate(self.concept_names)
            },
            "trajectory": {
                layer: dict(zip(self.concept_names, map(_known, value.tolist()), strict=True))
                for layer, value in self.trajectory.items()
            },
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``axes.json``, ``concepts.csv`` (a row for each concept) and ``auc.csv`` (concepts by axes).

        Args:
            folder: folder that exists.

        Returns:
            The files.
        """
        summary, concepts, auc = (Path(folder) / name for name in ("axes.json", "concepts.csv", "auc.csv"))
        summary.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")
        columns = self.per_concept()
        table = zip(self.concept_names, *(value.tolist() for value in columns.values()), strict=True)
        _write(concepts, ["concept", *(_HEADS[name] for name in columns)], table)
        rows = ([name, *row] for name, row in zip(self.concept_names, self.auc.tolist(), strict=True))
        _write(auc, ["concept", *self.axis_names], rows)
        return [summary, concepts, auc]


def save_top_images(images: Iterable[TopImage], path: str | Path) -> int:
    """Write images as a table with a head; return how many."""
    rows = [astuple(image) for image in images]
    _write(Path(path), [field.name for field in fields(TopImage)], rows)
    return len(rows)


def _write(path: Path, head: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table; a number that is unknown is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            cells = (_known(cell) for cell in row)
            writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value
