"""How right, and how rightly sure, a classifier is for each group of images: a mean hides whom it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ibd.errors import ConfigError, DataError
from ibd.metrics.functional.bins import calibration_error
from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.multiple import holm
from ibd.metrics.functional.shares import share_interval

_DRAWS = 10_000
"""Of which images are right, for the p-value."""
_SUSPECT = 0.05
"""A p-value below which a difference between groups is called one."""


@dataclass(frozen=True)
class GroupFigures:
    """What a classifier is worth for the images of one group.

    Attributes:
        name: name of the group.
        images: number of its images.
        right: how many of them are classified rightly.
        accuracy: share of these, with its score interval of 95 %.
        confidence: mean probability of the predicted class; like what follows without the images that have no
            prediction, NaN where none has one.
        surplus: confidence less what is right, image by image, with its bootstrap interval of 95 %: above 0 the
            classifier claims too much for this group.
        ece: expected calibration error in 15 bins (Guo et al. 2017); few images make it larger, so it has no interval.
        p_below: how often so few images of the group, or fewer, are right where the group says nothing; corrected for
            the number of groups (Holm 1979).
    """

    name: str
    images: int
    right: int
    accuracy: Interval
    confidence: float
    surplus: Interval
    ece: float
    p_below: float = 1.0


@dataclass(frozen=True)
class ByGroup:
    """Accuracy and calibration by group, as in Gender Shades (Buolamwini and Gebru 2018).

    Attributes:
        column: name of what the groups are values of.
        groups: the groups, the lowest accuracy first.
        unknown: number of images whose group is not known; they are in no row.
        p_value: how often groups of these sizes differ in accuracy as much or more where the group says nothing.
    """

    column: str
    groups: tuple[GroupFigures, ...]
    unknown: int
    p_value: float

    @property
    def worst(self) -> GroupFigures:
        """The group of the lowest accuracy."""
        return self.groups[0]

    @property
    def spread(self) -> float:
        """Accuracy of the best group less that of the worst."""
        return self.groups[-1].accuracy.mean - self.worst.accuracy.mean

    def figures(self) -> dict[str, float]:
        """Return all as numbers, ``COLUMN=GROUP/NAME`` -> value; an interval is three: NAME, NAME_low, NAME_high."""
        said: dict[str, float] = {}
        for group in self.groups:
            place = f"{self.column}={group.name}"
            for name, interval in (("accuracy", group.accuracy), ("surplus", group.surplus)):
                said |= {f"{place}/{name}": interval.mean}
                said |= {f"{place}/{name}_low": interval.low, f"{place}/{name}_high": interval.high}
            said |= {f"{place}/ece": group.ece, f"{place}/images": float(group.images)}
        return said | {f"{self.column}/spread": self.spread, f"{self.column}/p_value": self.p_value}

    def table(self) -> str:
        """Return the groups as text, the worst first and named below."""
        wide = max(len(self.column), *(len(group.name) for group in self.groups))
        lines = [f"{self.column:<{wide}}  images  accuracy  95 % interval    confidence - accuracy      ece"]
        lines += [
            f"{g.name:<{wide}}  {g.images:>6}  {g.accuracy.mean:>8.3f}  [{g.accuracy.low:.3f}, "
            f"{g.accuracy.high:.3f}]   {g.surplus.mean:>+6.3f} [{g.surplus.low:+.3f}, {g.surplus.high:+.3f}]  "
            f"{g.ece:>6.3f}"
            for g in self.groups
        ]
        if self.unknown:
            lines.append(f"{self.unknown} images of no known {self.column}")
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """Return in a line which group is worst, and whether the groups differ beyond chance."""
        best, worst = self.groups[-1], self.worst
        beyond = "more than by chance" if self.p_value < _SUSPECT else "no more than by chance"
        below = [group.name for group in self.groups if group.p_below < _SUSPECT]
        return (
            f"worst: {worst.name}, {worst.right} of {worst.images} right, {100 * self.spread:.1f} points below "
            f"{best.name}; the groups differ {beyond} (p = {self.p_value:.2g})"
            f"{'; below the others beyond chance: ' * bool(below)}{', '.join(below)}"
        )


def by_group(
    probabilities: Tensor,
    labels: Tensor,
    groups: Sequence[str | None],
    column: str = "group",
    silent: Tensor | None = None,
) -> ByGroup:
    """Return how right, and how rightly sure, a classifier is for each group of images.

    Args:
        probabilities: (N, C) of the classes.
        labels: (N,) true classes.
        groups: group of each of the N images; None where it is not known.
        column: name of what the groups are values of.
        silent: (N,) bool, the images for which there is no prediction: they count as errors, and have no confidence;
            None is none.

    Raises:
        ConfigError: another number of groups than images.
        DataError: fewer than two groups have images.
    """
    if not len(probabilities) == len(labels) == len(groups):
        raise ConfigError(f"{column}: {len(groups)} groups given for {len(labels)} labels of {len(probabilities)}")
    names = sorted({group for group in groups if group is not None})
    if len(names) < 2:
        raise DataError(f"by: '{column}' has {len(names)} groups among these images, 2 are needed")
    stated, chosen = probabilities.double().max(1)
    answered = torch.ones_like(labels, dtype=torch.bool) if silent is None else ~silent.to(labels.device)
    right = (chosen == labels) & answered
    rows = [torch.tensor([group == name for group in groups], device=labels.device) for name in names]
    found = [_figures(name, stated[row], right[row], answered[row]) for name, row in zip(names, rows, strict=True)]
    found.sort(key=lambda group: (group.accuracy.mean, group.name))
    p_value, below = _p_values([group.right for group in found], [group.images for group in found])
    found = [replace(group, p_below=p) for group, p in zip(found, holm(below), strict=True)]
    return ByGroup(column, tuple(found), sum(group is None for group in groups), p_value)


def _figures(name: str, stated: Tensor, right: Tensor, answered: Tensor) -> GroupFigures:
    count, hits = len(right), int(right.sum())
    sure, true = stated[answered], right[answered]
    ece = calibration_error(sure, true)  # of the predicted class alone
    surplus = mean_interval(sure - true.double())
    return GroupFigures(name, count, hits, share_interval(hits, count), float(sure.mean()), surplus, ece)


def _p_values(right: Sequence[int], images: Sequence[int]) -> tuple[float, list[float]]:
    """Return the p-values of Pearson's test of equal shares, and of each group being below the others.

    They come from drawing which images are right.

    As many images are right in every draw as in fact: of a random few of a small group the usual chi-square
    distribution would not hold.
    """
    sizes, total = np.array(images), sum(right)
    share = total / sizes.sum()
    if share in (0.0, 1.0):
        return 1.0, [1.0] * len(right)
    drawn = np.random.default_rng(0).multivariate_hypergeometric(sizes, total, size=_DRAWS)
    statistic = ((drawn - share * sizes) ** 2 / sizes).sum(1)
    own = ((np.array(right) - share * sizes) ** 2 / sizes).sum()
    fewer = (drawn <= np.array(right)).sum(0)
    return float((1 + (statistic >= own - 1e-9).sum()) / (1 + _DRAWS)), ((1 + fewer) / (1 + _DRAWS)).tolist()
