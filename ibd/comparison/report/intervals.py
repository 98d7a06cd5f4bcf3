"""Bootstrap intervals of many means at once, by the same draws of models and images."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.bootstrap import RESAMPLES, Interval

_LEVEL = 0.95
_DRAWN = 2**22  # numbers held at a time
_COLUMNS = 4096  # sorted at a time
_NAN = float("nan")


def pooled_intervals(values: Tensor, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """Return K means over models and images with 95 % intervals that hold for other trainings and other images.

    What `ibd.metrics.functional.bootstrap.two_level_interval` says of each of the K, up to rounding: a resample draws
    its models and images once for all of them, so that hundreds of figures take a few products of matrices.

    Args:
        values: (K, M, N) of M models by N images, NaN where undefined.
        resamples: how often models and images are drawn.
        seed: of the draws.

    Raises:
        ConfigError: values of another shape.
    """
    if values.dim() != 3:
        raise ConfigError(f"values of shape {tuple(values.shape)} given, (figures, models, images) is needed")
    value = values.detach().double().cpu()
    known = ~value.isnan()
    generator = torch.Generator().manual_seed(seed)
    chunks = torch.split(torch.arange(resamples), max(1, _DRAWN // max(1, sum(value.shape[1:]))))
    drawn = torch.cat([_resampled(value.nan_to_num(0.0), known.double(), len(chunk), generator) for chunk in chunks])
    level = torch.tensor([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], dtype=torch.float64)
    ends = [torch.nanquantile(some, level, dim=0) for some in torch.split(drawn, _COLUMNS, dim=1)]
    counts = [known.sum((1, 2)), (~known).sum((1, 2))]
    columns = [value.flatten(1).nanmean(1), *torch.cat(ends, 1), *counts]
    return [_interval(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _resampled(filled: Tensor, weight: Tensor, resamples: int, generator: torch.Generator) -> Tensor:
    """Return (R, K) means of resamples; NaN where one holds nothing that is defined."""
    figures, models, images = filled.shape
    if not models or not images:
        return filled.new_full((resamples, figures), torch.nan)
    of_models = _times_drawn(resamples, models, generator)
    of_images = _times_drawn(resamples, images, generator)
    sums = [filled.new_zeros(resamples, figures) for _ in range(2)]
    for model in range(models):
        for total, each in zip(sums, (filled, weight), strict=True):
            total += of_models[:, model, None] * (of_images @ each[:, model].T)
    return sums[0] / sums[1].where(sums[1] > 0, torch.nan)


def _interval(mean: float, low: float, high: float, count: int, missing: int) -> Interval:
    """Return them as one; a single value has no interval."""
    return Interval(mean, low, high, count, missing) if count > 1 else Interval(mean, _NAN, _NAN, count, missing)


def _times_drawn(resamples: int, count: int, generator: torch.Generator) -> Tensor:
    """Return (R, count): how often each of `count` was among as many draws with replacement."""
    drawn = torch.randint(count, (resamples, count), generator=generator)
    one = torch.ones(1, 1, dtype=torch.float64).expand_as(drawn)
    return torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, drawn, one)
