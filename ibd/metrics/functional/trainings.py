"""How sure the mean of a figure over several trainings is, where all that is known of each is the figure itself.

Student's t with trainings less one degrees of freedom, which is what `random_effects` makes of one value a training;
with few trainings a percentile bootstrap is far too narrow (``python -m benchmarks.coverage``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ibd.errors import ConfigError
from ibd.metrics.functional.student import t_quantile


@dataclass(frozen=True)
class OverTrainings:
    """A figure over trainings.

    Attributes:
        mean: mean over the trainings that have the figure; NaN where none has.
        sd: standard deviation between trainings (of a sample: divided by one less than their number); NaN below two.
        low: lower end of the interval of the mean; NaN below two.
        high: upper end.
        n: trainings that have the figure.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int


def over_trainings(values: Sequence[float], level: float = 0.95, overlap: float = 0.0) -> OverTrainings:
    """Return mean, standard deviation and interval of a figure that each training has once.

    Trainings on folds share most of their images, and each fold is tested by one training alone, so that their figures
    vary less than those of trainings on other images would. With ``overlap`` the variance of the mean is
    ``sd^2 (1 / n + overlap)``, the corrected test of Nadeau and Bengio (2003, Inference for the generalization error),
    where `overlap` is the number of tested over that of trained images; no estimate from folds alone is unbiased
    (Bengio and Grandvalet 2004).

    Args:
        values: one a training; NaN where a training has none.
        level: level of the interval, in (0, 1).
        overlap: tested images over trained ones, where trainings are on folds and each tests its own; else 0.

    Raises:
        ConfigError: a level outside (0, 1), or an overlap below 0.
    """
    if not 0 < level < 1:
        raise ConfigError(f"an interval of level {level}: between 0 and 1 is needed")
    if overlap < 0:
        raise ConfigError(f"an overlap of {overlap}: at least 0 is needed")
    known = [value for value in values if not math.isnan(value)]
    n = len(known)
    mean = sum(known) / n if n else math.nan
    if n < 2:
        return OverTrainings(mean, math.nan, math.nan, math.nan, n)
    sd = math.sqrt(sum((value - mean) ** 2 for value in known) / (n - 1))
    half = float(t_quantile(level, torch.tensor(float(n - 1)))) * sd * math.sqrt(1 / n + overlap)
    return OverTrainings(mean, sd, mean - half, mean + half, n)
