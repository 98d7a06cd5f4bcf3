"""What no heatmap shows of an interpretable model: do its units mean what their names say, and do they say it all?

Concepts are probabilities; the images with a part replaced, or a concept changed, are drawn anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.bootstrap import LEVEL, mean_interval
from ibd.metrics.functional.checks import check_same, double, ratio


def concept_changes(before: Tensor, changed: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return how far each group of concepts moves when a part of the image is replaced.

    The largest absolute change of a probability of the group. Its mean over images is the matrix that
    `concept_locality` reads.

    Args:
        before: (B, K) concept probabilities.
        changed: (B, P, K) of the images with part p replaced; NaN where that was not done.
        groups: Q lists of concepts; group q = p < P is that of part p.

    Returns:
        (B, P, Q) float64 in [0, 1].
    """
    if changed.dim() != 3 or changed.shape[::2] != before.shape:
        raise ConfigError(f"changed concepts of shape {tuple(changed.shape)} given beside {tuple(before.shape)}")
    if not all(len(group) for group in groups):
        raise ConfigError("a group of concepts is empty")
    moved = (double(changed) - double(before).unsqueeze(1)).abs()
    return torch.stack([moved[:, :, list(group)].amax(2) for group in groups], 2)


def concept_locality(matrix: Tensor) -> Tensor:
    """Whether concepts answer to their own part, in [0, 1]; + higher is better; 0.5 where another one moves as much.

    L_pp / (L_pp + max_{q != p} L_pq) for each part p (after Raman et al. 2025, by drawing the image anew).

    Args:
        matrix: (P, Q), Q >= P >= 1, the mean over images of `concept_changes`.

    Returns:
        (P,) float64; NaN where nothing moves, or there is no other group.
    """
    value = double(matrix)
    parts = len(value)
    if value.dim() != 2 or value.shape[1] < parts:
        raise ConfigError(f"a matrix of shape {tuple(value.shape)} given, (parts, at least as many groups) is needed")
    own = value.diagonal()
    if value.shape[1] < 2:
        return own * torch.nan
    others = value.masked_fill(torch.eye(*value.shape, dtype=torch.bool, device=value.device), -torch.inf).amax(1)
    return ratio(own, own + others)


def same_prediction(bottleneck: Tensor, pixels: Tensor) -> Tensor:
    """Whether setting a concept in the bottleneck and changing the image predict one class, 0 or 1; + higher is better.

    Args:
        bottleneck: (B, C) logits or probabilities with the concept set.
        pixels: (B, C) of the image drawn with the concept changed.

    Returns:
        (B,) float64; NaN where one of them holds a NaN.
    """
    check_same("predictions", bottleneck, "predictions", pixels)
    same = (bottleneck.argmax(1) == pixels.argmax(1)).double()
    return same.where(~(bottleneck.isnan() | pixels.isnan()).any(1), torch.nan)


def intervention_consistency(bottleneck: Tensor, pixels: Tensor) -> Tensor:
    """How alike the probabilities are after both interventions, 1 - total variation, in [0, 1]; + higher is better.

    1 - sum_c abs(p_c - q_c) / 2.

    Args:
        bottleneck: (B, C) class probabilities with the concept set in the bottleneck.
        pixels: (B, C) class probabilities of the image drawn with the concept changed.

    Returns:
        (B,) float64.
    """
    check_same("predictions", bottleneck, "predictions", pixels)
    return 1 - (double(bottleneck) - double(pixels)).abs().sum(1) / 2


def leakage_gap(soft: Tensor, hard: Tensor, labels: Tensor) -> Tensor:
    """What the predictions lose when concepts are rounded to 0 and 1, -1, 0 or 1; - lower is better.

    [right with soft concepts] - [right with hard ones]: its mean is the difference of the accuracies (after Havasi et
    al. 2022).

    Args:
        soft: (B, C) logits.
        hard: (B, C) logits from the rounded concepts.
        labels: (B,) true classes.

    Returns:
        (B,) float64.
    """
    check_same("logits", hard, "logits", soft)
    return (soft.argmax(1) == labels).double() - (hard.argmax(1) == labels).double()


def unit_completeness(bias: Tensor, contributions: Tensor, value: Tensor) -> Tensor:
    """How far the contributions of the units are from the explained value, in [0, inf); - lower is better, 0 exact.

    abs(bias + sum_u contributions_u - v), in units of v (completeness, Sundararajan et al. 2017, of units).

    Args:
        bias: (B,) or a scalar.
        contributions: (B, U), signed.
        value: (B,).

    Returns:
        (B,) float64.
    """
    return (double(bias) + double(contributions).sum(1) - double(value)).abs()


@dataclass(frozen=True)
class Verdict:
    """Whether an explanation depends on what was made random.

    Attributes:
        similarity: mean similarity over images.
        upper: the upper end of its interval.
        band: the highest similarity that unrelated explanations reach (quantile of the null).
        passed: whether `upper` is below `band`.
    """

    similarity: float
    upper: float
    band: float
    passed: bool


def randomization_verdict(similarity: Tensor, null: Tensor) -> Verdict:
    """Return whether an explanation of a randomized model is as unlike the original as unrelated ones are.

    Pass or fail, no score: explanations that are mostly noise pass (Binder et al. 2023; Adebayo et al. 2018). It is
    passed if the upper end of the bootstrap interval of the mean similarity lies below the upper end of the central
    interval of the null, both of 95 %.

    Args:
        similarity: (B,) between the explanation of the model and that of the randomized one, such as Spearman's of
            absolute values; NaN is left out.
        null: (N,) the same between two independent random models.

    Raises:
        ConfigError: fewer than two values on one of the sides.
    """
    interval = mean_interval(similarity)
    known = double(null)
    known = known[~known.isnan()]
    if interval.n < 2 or len(known) < 2:
        raise ConfigError(f"a verdict from {interval.n} images and {len(known)} of the null: 2 are needed of each")
    band = float(torch.quantile(known, (1 + LEVEL) / 2))
    return Verdict(interval.mean, interval.high, band, interval.high < band)
