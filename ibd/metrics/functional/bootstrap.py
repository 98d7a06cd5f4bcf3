"""How sure a mean over images is: seeded bootstrap intervals (Efron 1979), and scores between a null and an oracle.

Values that are undefined (NaN) are left out and counted. The same values in the same order give the same interval to
the bit. What holds for other trainings too is in `random_effects`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import double, ratio

LEVEL, RESAMPLES = 0.95, 2000
_DRAWN = 2**22  # numbers drawn at a time


@dataclass(frozen=True)
class Interval:
    """A mean and how sure it is.

    Attributes:
        mean: mean over the values that are defined; NaN where none is.
        low: the lower end; NaN with fewer than two values.
        high: the upper end.
        n: number of values that count.
        n_nan: number of values that are undefined.
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


def mean_interval(values: Tensor) -> Interval:
    """Return the mean of (N,) values and its percentile bootstrap interval of 95 % over samples.

    Args:
        values: (N,), NaN where undefined.

    Raises:
        ConfigError: values of another shape.
    """
    if values.dim() != 1:
        raise ConfigError(f"values of shape {tuple(values.shape)} given, 1 dimension needed")
    value = double(values).cpu()
    known = value[~value.isnan()]
    count = len(known)
    counts = (count, len(value) - count)
    mean = float(known.mean()) if count else float("nan")
    if count < 2:
        return Interval(mean, float("nan"), float("nan"), *counts)
    generator = torch.Generator().manual_seed(0)
    chunks = torch.split(torch.arange(RESAMPLES), max(1, _DRAWN // count))
    means = [known[torch.randint(count, (len(chunk), count), generator=generator)].mean(1) for chunk in chunks]
    return Interval(mean, *_ends(torch.cat(means)), *counts)


def normalized_score(score: Tensor | float, null: Tensor | float, oracle: Tensor | float) -> Tensor:
    """Return (score - null) / (oracle - null): 0 for chance, 1 for the truth, whichever direction is better.

    Args:
        score: score of an explainer, a mean; any shape.
        null: score of noise, under the same metric.
        oracle: score of the truth painted on the image.

    Returns:
        float64; NaN where null and oracle are equal: the metric tells nothing there.
    """
    s, low, high = (torch.as_tensor(value, dtype=torch.float64) for value in (score, null, oracle))
    return ratio(s - low, high - low)


def _ends(means: Tensor) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
