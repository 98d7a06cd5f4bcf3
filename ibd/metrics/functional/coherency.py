"""Whether metrics of explanations agree, and whether each is sane itself (Vandersmissen and Oramas 2023).

Scores are (N, M) of N images and M methods, higher is better, NaN where undefined. Metrics are asked image by image:
that two of them rank the means of methods alike says little of the explanation of one image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_same, double
from ibd.metrics.functional.ranks import kendall_tau

_FEWEST = 3
"""Methods that a ranking must have."""


def image_coherency(one: Tensor, other: Tensor) -> Tensor:
    """Kendall's tau between the rankings of methods by two metrics, image by image, in [-1, 1]; 0 for unrelated ones.

    Methods of which one of the metrics knows no image are left out; of the others all must be known in an image.

    Args:
        one: (N, M) scores by a metric.
        other: (N, M) by another.

    Returns:
        (N,) float64; NaN with fewer than three methods, where a score is NaN, or a metric ranks none before another.
    """
    first, second = _checked(one), _checked(other)
    check_same("scores", one, "other scores", other)
    known = ~first.isnan().all(0) & ~second.isnan().all(0)
    if int(known.sum()) < _FEWEST:
        return first.new_full((len(first),), torch.nan)
    return kendall_tau(first[:, known], second[:, known])


def above_reference(scores: Tensor, reference: Tensor) -> Tensor:
    """Share of methods that score above a reference map, equal ones half, image by image; 0.5 for what sees no method.

    Args:
        scores: (N, M) of the methods.
        reference: (N,) of the reference, such as noise: a sane metric puts it last.

    Returns:
        (N,) float64 in [0, 1]; NaN where the reference or all methods are undefined.
    """
    values, null = _checked(scores), double(reference).unsqueeze(1)
    above = (values > null).double() + (values == null).double() / 2
    return above.where(~(values - null).isnan() | (values == null), torch.nan).nanmean(1)


def first_of_all(oracle: Tensor, scores: Tensor) -> Tensor:
    """Whether the truth scores as well as every method or better, image by image, 1 or 0; 1 for a sane metric.

    Args:
        oracle: (N,) scores of the truth.
        scores: (N, M) of the methods.

    Returns:
        (N,) float64; NaN where the oracle or all methods are undefined.
    """
    values, truth = _checked(scores), double(oracle)
    best = values.nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(1)
    return (truth >= best).double().where(~truth.isnan() & ~values.isnan().all(1), torch.nan)


def _checked(scores: Tensor) -> Tensor:
    if scores.dim() != 2:
        raise ConfigError(f"scores of shape {tuple(scores.shape)} given, (images, methods) are needed")
    return double(scores)
