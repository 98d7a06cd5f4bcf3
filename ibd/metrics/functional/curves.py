"""Faithfulness from tables of predictions: what the model says while an image is taken away, or put together.

A table is (B, n + 1): the explained value (a probability, a log-odds, or 1 where the prediction is right) after each
step, with (n + 1,) fractions of the image that were removed (or put in) by then. Every function gives (B,) float64, NaN
where the table holds a NaN. All of them read the few tables that are there; none asks the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_same, double


def curve_area(table: Tensor, fractions: Tensor | Sequence[float]) -> Tensor:
    """Area under each curve by the trapezoid rule, over the width of the fractions: the mean height of the curve.

    Args:
        table: (B, n + 1).
        fractions: (n + 1,), increasing; they need not reach from 0 to 1 (those of ROAD do not).

    Raises:
        ConfigError: another number of fractions, fewer than two, or fractions that do not increase.
    """
    values = double(table)
    x = torch.as_tensor(fractions, dtype=torch.float64, device=values.device)
    if values.dim() != 2 or x.shape != values.shape[1:] or len(x) < 2:
        raise ConfigError(f"fractions of shape {tuple(x.shape)} given beside a table of {tuple(values.shape)}")
    steps = x.diff()
    if not bool((steps > 0).all()):
        raise ConfigError("the fractions of a curve must increase")
    return ((values[:, 1:] + values[:, :-1]) / 2 * steps).sum(1) / (x[-1] - x[0])


def deletion_auc(table: Tensor, fractions: Tensor | Sequence[float]) -> Tensor:
    """Area under the explained value while the highest pixels are removed; - lower is better.

    Deletion (Petsiuk et al. 2018, RISE), and pixel flipping (Bach et al. 2015) where a step is a pixel. In the range of
    the explained value.

    Args:
        table: (B, n + 1), the highest pixels removed first.
        fractions: (n + 1,) removed, from 0 to 1, both included.

    Raises:
        ConfigError: the fractions do not reach from 0 to 1.
    """
    return _whole_area(table, fractions)


def insertion_auc(table: Tensor, fractions: Tensor | Sequence[float]) -> Tensor:
    """Area under the explained value while the highest pixels are put in; + higher is better.

    Insertion (Petsiuk et al. 2018, RISE). In the range of the explained value.

    Args:
        table: (B, n + 1), the highest pixels put into the baseline first.
        fractions: (n + 1,) put in, from 0 to 1, both included.

    Raises:
        ConfigError: the fractions do not reach from 0 to 1.
    """
    return _whole_area(table, fractions)


def selectivity(table: Tensor, fractions: Tensor | Sequence[float]) -> Tensor:
    """Area under the explained value while regions are removed, the highest sum first; - lower is better.

    Explanation selectivity (Montavon et al. 2018): deletion by regions, until nothing is left. In the range of the
    explained value.

    Args:
        table: (B, n + 1).
        fractions: (n + 1,) of regions removed, from 0 to 1, both included.

    Raises:
        ConfigError: the fractions do not reach from 0 to 1.
    """
    return _whole_area(table, fractions)


def aopc(table: Tensor) -> Tensor:
    """Area over the perturbation curve: the mean fall of the explained value (Samek et al. 2017).

    1 / (L + 1) sum_{k=0..L} (f(x_0) - f(x_k)). + higher is better where the most relevant regions go first (MoRF);
    - lower is better where they go last (LeRF). Step 0 counts, as published.

    Args:
        table: (B, L + 1), step 0 the image as it is.
    """
    values = double(table)
    return (values[:, :1] - values).mean(1)


def abpc(morf: Tensor, lerf: Tensor) -> Tensor:
    """Area between the perturbation curves, AOPC of MoRF minus AOPC of LeRF; + higher is better; 0 by chance.

    Schulz et al. 2020. Both orders leave the distribution of images alike, so what comes from that cancels.

    Args:
        morf: (B, L + 1), the most relevant regions removed first.
        lerf: (B, L + 1), the least relevant first.
    """
    check_same("a table", lerf, "one", morf)
    return aopc(morf) - aopc(lerf)


def road(morf: Tensor, fractions: Tensor | Sequence[float], lerf: Tensor | None = None) -> Tensor:
    """Remove and debias (Rong et al. 2022): the mean over fractions of right predictions after imputation.

    In [0, 1], - lower is better; with `lerf` (area of LeRF - area of MoRF) / 2, in [-0.5, 0.5], + higher is better and
    0 by chance. The mean over images is the area under the curve of accuracy.

    Args:
        morf: (B, n) 1 where the prediction is right with that share of the highest pixels imputed, or its probability.
        fractions: (n,), such as 0.01, 0.03, ..., 0.99; 0 and 1 need not be there.
        lerf: (B, n) with the lowest imputed.
    """
    area = curve_area(morf, fractions)
    return area if lerf is None else (curve_area(lerf, fractions) - area) / 2


def ablation_gain(ordered: Tensor, random: Tensor, fractions: Tensor | Sequence[float]) -> Tensor:
    """How much faster predictions fall when units are ablated by relevance than at random; + higher is better.

    Area under the curve of the random order (or of the reversed one) minus that of the order by relevance; 0 by chance.
    The mean over images of right predictions is the difference between areas under curves of accuracy.

    Args:
        ordered: (B, n + 1), the most relevant units set to their mean first.
        random: (B, n + 1), in another order; the mean over several.
        fractions: (n + 1,) of units ablated.
    """
    check_same("a table", random, "one", ordered)
    return curve_area(random, fractions) - curve_area(ordered, fractions)


def _whole_area(table: Tensor, fractions: Tensor | Sequence[float]) -> Tensor:
    ends = [float(fractions[i]) for i in (0, -1)] if len(fractions) else []
    if ends != [0.0, 1.0]:
        raise ConfigError(f"fractions from {ends} given, both ends, 0 and 1, are needed")
    return curve_area(table, fractions)
