"""How sure a mean over images is: seeded bootstrap intervals (Efron 1979), and scores between a null and an oracle.

Values that are undefined (NaN) are left out and counted. The same values in the same order give the same interval to
the bit; `ibd.metrics.per_sample` puts them in order. What holds for other trainings too is in `random_effects`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_same, double, ratio

RESAMPLES = 2000
_DRAWN = 2**22  # numbers drawn at a time


@dataclass(frozen=True)
class Interval:
    """A mean and how sure it is.

    Attributes:
        mean: over the values that are defined; NaN where none is.
        low: the lower end; NaN with fewer than two values.
        high: the upper end.
        n: values that count.
        n_nan: values that are undefined.
    """

    mean: float
    low: float
    high: float
    n: int
    n_nan: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside: of a paired difference, whether one of the two is better."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Tensor, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of (N,) values and its percentile bootstrap interval over samples.

    Args:
        values: (N,), NaN where undefined.
        level: of the interval, in (0, 1).
        resamples: how many times N values are drawn with replacement.
        seed: of the draws.

    Raises:
        ConfigError: a level outside (0, 1), no resample, or values of another shape.
    """
    value = _checked(values, level, resamples)
    known = value[~value.isnan()]
    count = len(known)
    counts = (count, len(value) - count)
    mean = float(known.mean()) if count else float("nan")
    if count < 2:
        return Interval(mean, float("nan"), float("nan"), *counts)
    generator = torch.Generator().manual_seed(seed)
    chunks = torch.split(torch.arange(resamples), max(1, _DRAWN // count))
    means = [known[torch.randint(count, (len(chunk), count), generator=generator)].mean(1) for chunk in chunks]
    return Interval(mean, *_ends(torch.cat(means), level), *counts)


def paired_interval(a: Tensor, b: Tensor, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return the mean of a - b over the samples where both are defined, and its interval.

    Args:
        a: (N,), of the same samples in the same order as `b`.
        b: (N,).
        level: see `mean_interval`.
        resamples: see `mean_interval`.
        seed: see `mean_interval`.
    """
    check_same("values", a, "values", b)
    return mean_interval(double(a) - double(b), level, resamples, seed)


def normalised_score(score: Tensor | float, null: Tensor | float, oracle: Tensor | float) -> Tensor:
    """Return (score - null) / (oracle - null): 0 for chance, 1 for the truth, whichever direction is better.

    Args:
        score: of an explainer, a mean; any shape.
        null: of noise, under the same metric.
        oracle: of the truth painted on the image.

    Returns:
        float64; NaN where null and oracle are equal: the metric tells nothing there.
    """
    s, low, high = (torch.as_tensor(each, dtype=torch.float64) for each in (score, null, oracle))
    return ratio(s - low, high - low)


def _checked(values: Tensor, level: float, resamples: int) -> Tensor:
    if values.dim() != 1:
        raise ConfigError(f"values of shape {tuple(values.shape)} given, 1 dimension needed")
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(f"an interval of level {level} from {resamples} resamples: (0, 1) and at least 1 are needed")
    return double(values).cpu()


def _ends(means: Tensor, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
