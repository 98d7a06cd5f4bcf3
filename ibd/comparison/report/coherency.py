"""The metrics themselves: do they agree on single images, see noise and truth, or only how sparse a map is?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.groups import METRICS
from ibd.comparison.report.numbers import number, span
from ibd.comparison.report.tables import REAL, Table, metric_title
from ibd.comparison.results import Comparison
from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.coherency import above_reference, first_of_all, image_coherency

_SPARSE, _NOISE, _ORACLE = "sparseness", "noise", "oracle"


@dataclass(frozen=True)
class CoherencyRow:
    """A metric of explanations, judged; NaN where it is not known.

    Attributes:
        metric: name of the metric.
        title: its title.
        others: mean over images and other metrics of Kendall's tau with these, with the interval over images.
        sparse: the same with the sparseness of the maps alone.
        noise: share of explanations that it puts before noise.
        truth: share of images in which it puts the truth first.
    """

    metric: str
    title: str
    others: Interval
    sparse: float
    noise: float
    truth: float

    @property
    def cells(self) -> list[str]:
        """Return the numbers as text."""
        others = [number(self.others.mean, 2), span(self.others.low, self.others.high, 2)]
        return [*others, *(number(value, 2) for value in (self.sparse, self.noise, self.truth))]


def coherency_rows(comparison: Comparison, table: Table) -> list[CoherencyRow]:
    """Return the metrics of a family that have a direction, and a value for each image; none with fewer than two.

    Several models of a family are averaged image by image. What explains the compared images is asked: reference maps
    and oracle are in no ranking.
    """
    methods = [info.name for info in comparison.explainers if info.kind in REAL]
    scores = {name: _scores(comparison, table, methods, name) for name in comparison.metrics if _ranks(name)}
    scores = {name: values for name, values in scores.items() if int((~values.isnan().all(0)).sum()) >= 3}
    if len(scores) < 2:
        return []
    sparse = _scores(comparison, table, methods, _SPARSE) if _SPARSE in comparison.metrics else None
    return [_row(comparison, table, name, scores, sparse) for name in scores]


def _row(
    comparison: Comparison, table: Table, name: str, scores: dict[str, Tensor], sparse: Tensor | None
) -> CoherencyRow:
    own = scores[name]
    taus = [image_coherency(own, values) for other, values in scores.items() if other != name]
    noise, oracle = (_scores(comparison, table, [row], name)[:, 0] for row in (_NOISE, _ORACLE))
    return CoherencyRow(
        name,
        metric_title(name),
        mean_interval(torch.stack(taus).nanmean(0)),
        float("nan") if sparse is None or name == _SPARSE else float(image_coherency(own, sparse).nanmean()),
        float(above_reference(own, noise).nanmean()),
        float(first_of_all(oracle, own).nanmean()),
    )


def _ranks(name: str) -> bool:
    """Return whether a metric says of each image which explanation is better."""
    known = METRICS.get(name)
    return known is not None and known.per_sample and known.higher_is_better is not None


def _scores(comparison: Comparison, table: Table, methods: list[str], name: str) -> Tensor:
    """Return (N, M) scores, higher is better, the mean over the models of the family; NaN where there is none."""
    images = len(comparison.image_ids)
    sign = 1.0 if METRICS[name].higher_is_better else -1.0
    columns = []
    for method in methods:
        keys = [(model.name, method, name) for model in table.models]
        own = [v for key in keys if (v := comparison.scores.get(key)) is not None and len(v) == images]
        columns.append(sign * np.mean(own, axis=0) if own else np.full(images, np.nan))
    return torch.from_numpy(np.stack(columns, 1)) if columns else torch.zeros(images, 0, dtype=torch.float64)
