"""Means over a data set in which each sample counts once, however it was split into batches and processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.base import DetailedMetric
from ibd.metrics.functional.bootstrap import RESAMPLES, Interval, mean_interval
from ibd.metrics.functional.checks import double


class PerSampleMetric(DetailedMetric):
    """The mean over samples of values that were measured for each.

    Ids and values are kept in float64 and put in the order of the ids, each once: samples that a distributed sampler
    repeats count once, and any number of processes gives the same figures to the bit. Undefined values (NaN) are left
    out of the mean and counted.

    Args:
        columns: None for one value a sample; T for T of them, such as the points of a curve.
        **kwargs: of torchmetrics.
    """

    rows: list[Tensor]

    def __init__(self, columns: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = columns
        # Ids and values in one state, so that they stay together when processes are merged. Ids are exact below 2^53.
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, values: Tensor, sample_ids: Tensor) -> None:
        """Add a batch.

        Args:
            values: (B,), or (B, T) with `columns`; NaN where undefined.
            sample_ids: (B,) int64, the same for a sample wherever it comes; negative marks padding, which is left out.

        Raises:
            ConfigError: shapes that do not fit.
        """
        wanted = (len(sample_ids),) if self.columns is None else (len(sample_ids), self.columns)
        if tuple(values.shape) != wanted:
            raise ConfigError(f"values of shape {tuple(values.shape)} given, {wanted} is needed")
        ids = double(sample_ids).unsqueeze(1)
        rows = torch.cat([ids, double(values).view(len(ids), -1).to(ids.device)], 1)
        self.rows.append(rows[sample_ids.to(rows.device) >= 0])

    def compute(self) -> Tensor:
        """Return the mean over samples, float64: a scalar, or (T,); NaN where nothing is defined."""
        return self._values().movedim(0, -1).contiguous().nanmean(-1)

    def sample_ids(self) -> Tensor:
        """Return (n,) int64, every id once, in order; every process must call it."""
        with self._of_all_processes():
            return self._sorted()[:, 0].long()

    def values(self) -> Tensor:
        """Return (n,) or (n, T) float64 in the order of the ids; every process must call it."""
        with self._of_all_processes():
            return self._values()

    def n(self) -> Tensor:
        """Return how many samples are defined, int64: a scalar, or (T,); every process must call it."""
        return (~self.values().isnan()).sum(0)

    def n_nan(self) -> Tensor:
        """Return how many samples are undefined, int64: a scalar, or (T,); every process must call it."""
        return self.values().isnan().sum(0)

    def interval(self, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval | list[Interval]:
        """Return the bootstrap interval of the mean, or one for each column; every process must call it."""
        values = self.values()
        if self.columns is None:
            return mean_interval(values, level, resamples, seed)
        return [mean_interval(column, level, resamples, seed) for column in values.unbind(1)]

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Collect the rows of all processes (torchmetrics calls this); one that has none takes part with none."""
        if not self.rows:
            width = 1 + (self.columns or 1)
            self.rows = [torch.zeros(0, width, dtype=torch.float64, device=self.device)]
        super().sync(*args, **kwargs)

    def _values(self) -> Tensor:
        values = self._sorted()[:, 1:]
        return values.squeeze(1).contiguous() if self.columns is None else values

    def _sorted(self) -> Tensor:
        """Return (n, 1 + T) rows in the order of the ids, each id once; of several the lowest, one that is defined."""
        kept: list[Tensor] | Tensor = self.rows
        if isinstance(kept, list):
            kept = torch.cat(kept) if kept else torch.zeros(0, 1 + (self.columns or 1), dtype=torch.float64)
        kept = kept[kept[:, 1].argsort(stable=True)]  # which process had it first must not matter
        ids, order = kept[:, 0].sort(stable=True)
        first = torch.ones_like(ids, dtype=torch.bool)
        first[1:] = ids[1:] != ids[:-1]
        return kept[order[first]]
