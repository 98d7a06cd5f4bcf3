"""How sure a mean over trainings and images is: intervals and tests that hold for other trainings and other images.

A score is ``mean + training + image + rest``, all three random: every training is asked about the same images. The
variance of each part is estimated from sums of squares (Henderson 1953, method I: unbiased also where values are
missing; with none missing these are the mean squares of a two-way analysis of variance), and the interval is that of
Student's t. Its degrees of freedom weigh ``trainings - 1`` and ``images - 1`` by their shares of the variance::

    1 / df = share of trainings / (trainings - 1) + share of images / (images - 1)

That is Cochran's (1964) answer to two variances of unlike certainty, to first order, and more careful than the one of
Satterthwaite (1946), which squares the shares: three trainings that happen to be alike must not pass for many.
``python -m benchmarks.coverage`` compares the coverage of both, and of the bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.checks import double
from ibd.metrics.functional.student import t_probability, t_quantile

_SINGULAR = 1e-9  # what a design cannot tell apart is shared between the parts; their sum is the same


@dataclass(frozen=True)
class TwoLevel:
    """K means over trainings and images, and how sure they are.

    Attributes:
        mean: (K,) over the values that are defined, each counting the same; NaN where none is.
        error: (K,) standard error; NaN with fewer than two values.
        df: (K,) degrees of freedom, at least 1; NaN like `error`.
        n: (K,) values that count.
        n_nan: (K,) values that are undefined.
        images: (K,) images with a value of some training.
        trainings: (K,) trainings with a value of some image.
    """

    mean: Tensor
    error: Tensor
    df: Tensor
    n: Tensor
    n_nan: Tensor
    images: Tensor
    trainings: Tensor

    def intervals(self, level: float = 0.95) -> list[Interval]:
        """Return the K intervals of a level in (0, 1)."""
        half = t_quantile(level, self.df) * self.error
        columns = (self.mean, self.mean - half, self.mean + half, self.n, self.n_nan)
        return [Interval(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def p_values(self) -> list[float]:
        """Return the two-sided p-value of each mean being 0: below 0.05 where the 95 % interval excludes 0.

        Values that are all the same, and not 0, have 0; all 0 have 1; NaN where there is no error.
        """
        t = torch.where(self.mean == 0, 0.0, self.mean / self.error)
        probabilities: list[float] = t_probability(t.where(~self.error.isnan(), torch.nan), self.df).tolist()
        return probabilities


def two_level(values: Tensor) -> TwoLevel:
    """Return K means over trainings and images, with their errors.

    With one training the error is that of images alone, and says nothing of other trainings.

    Args:
        values: (K, M, N) of M trainings asked about the same N images, NaN where undefined.

    Raises:
        ConfigError: values of another shape.
    """
    if values.dim() != 3:
        raise ConfigError(f"values of shape {tuple(values.shape)} given, (figures, models, images) is needed")
    value = double(values).cpu()
    known = (~value.isnan()).double()
    n = known.sum((1, 2))
    mean = value.nan_to_num(0.0).sum((1, 2)) / n  # 0 / 0 is NaN, as it must be
    centered = (value - mean[:, None, None]).nan_to_num(0.0)
    weight = [known.sum(dim) / n[:, None] for dim in (2, 1)]  # what a training, and an image, is of the mean
    sizes = [(row_weight > 0).sum(1) for row_weight in weight]
    df = [_effective(row_weight) - 1 for row_weight in weight]
    training, rest = _variances(centered, known, weight)
    error = (training + rest).sqrt().where(n > 1, torch.nan)
    inverse = (training / df[0].clamp(min=1) + rest / df[1].clamp(min=1)) / (training + rest)
    certain = (training + rest) == 0  # values that are all the same
    freedom = torch.where(certain, df[1].clamp(min=1), 1 / inverse).clamp(min=1).where(n > 1, torch.nan)
    counts = (n.long(), (known.numel() // max(1, len(known)) - n).long())
    return TwoLevel(mean, error, freedom, *counts, images=sizes[1], trainings=sizes[0])


def two_level_interval(values: Tensor, level: float = 0.95) -> Interval:
    """Return the mean over trainings and images, with an interval that holds for others of both.

    Args:
        values: (M, N) of M trainings by N images, NaN where undefined.
        level: level of the interval, in (0, 1).

    Raises:
        ConfigError: values of another shape, or a level outside (0, 1).
    """
    if values.dim() != 2:
        raise ConfigError(f"values of shape {tuple(values.shape)} given, 2 dimension(s) needed")
    return two_level_intervals(values.unsqueeze(0), level)[0]


def two_level_intervals(values: Tensor, level: float = 0.95) -> list[Interval]:
    """Return what `two_level_interval` says of each of K figures at once: (K, M, N)."""
    if not 0 < level < 1:
        raise ConfigError(f"an interval of level {level}: between 0 and 1 is needed")
    return two_level(values).intervals(level)


def _effective(weight: Tensor) -> Tensor:
    """Return how many of equal weight would vary a mean as much as these do: their number where weights are equal."""
    return weight.square().sum(1).reciprocal()


def _variances(centered: Tensor, known: Tensor, weight: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the variance of the mean: what trainings show of it, and the rest, which only images show.

    Each training's own mean holds chance of the rest, so that what trainings show includes their share of it.
    """
    training, image, rest = _parts(centered, known).clamp(min=0).unbind(1)
    n = known.sum((1, 2))
    of_trainings, of_images = training * weight[0].square().sum(1), image * weight[1].square().sum(1)
    one_training, one_image = ((row_weight > 0).sum(1) <= 1 for row_weight in weight)
    shown = torch.where(one_training, 0.0, of_trainings + rest / n)
    total = of_trainings + of_images + rest / n
    shown = torch.where(one_image & ~one_training, total, shown)
    return shown, (total - shown).clamp(min=0)


def _parts(centered: Tensor, known: Tensor) -> Tensor:
    """Return (K, 3) variances of trainings, images and the rest: sums of squares set equal to what is expected."""
    n, per_training, per_image = known.sum((1, 2)), known.sum(2), known.sum(1)
    models, images = (per_training > 0).sum(1).double(), (per_image > 0).sum(1).double()
    a, b = per_training.square().sum(1) / n, per_image.square().sum(1) / n
    by_training = (centered.sum(2).square() / per_training.clamp(min=1)).sum(1)
    by_image = (centered.sum(1).square() / per_image.clamp(min=1)).sum(1)
    sums = torch.stack([by_training, by_image, centered.square().sum((1, 2)) - by_training - by_image], 1)
    expected = torch.stack(
        [
            torch.stack([n - a, models - b, models - 1], 1),
            torch.stack([images - a, n - b, images - 1], 1),
            torch.stack([a - images, b - models, n - models - images + 1], 1),
        ],
        1,
    )
    usable = (n > 1)[:, None]
    solve = torch.linalg.pinv((expected / n[:, None, None]).where(usable[..., None], 0.0), rtol=_SINGULAR)
    parts: Tensor = (solve @ (sums / n[:, None]).where(usable, 0.0).unsqueeze(2)).squeeze(2)
    return parts
