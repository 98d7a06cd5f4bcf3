"""What the features of a post-hoc bottleneck say beyond its concepts, and how far scores go."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.explain.elastic_net import accuracy, elastic_net_path

RIDGES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
"""Penalties of a rest, of which the validation images choose."""


def fit_rest(
    train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], logits: Tensor, val_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the features say for each class beyond the concepts, whose head stays as it is.

    The residual of Yuksekgonul et al. 2023, section 2.3: a linear classifier whose logits are added, with a ridge of
    which the validation images choose the penalty.

    Args:
        train: (N, D) features and (N,) classes of the training images.
        val: the same of the validation images.
        logits: (N, C) of the training images without it.
        val_logits: the same of the validation images.

    Returns:
        (C, D) weights and (C,) bias.
    """
    path = elastic_net_path(*train, logits.shape[1], share=0.0, penalties=RIDGES, tolerance=1e-3, offset=logits)
    best = min(path, key=lambda point: accuracy(point, *val, val_logits.double())[1])
    return best.weight, best.bias


def spread(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the deviation, the 5th and the 95th percentile of (N, U) scores, (U,) each."""
    import numpy as np

    low, high = np.percentile(scores.numpy(), [5, 95], axis=0)  # torch.quantile refuses large sets
    return scores.std(0, correction=0), torch.from_numpy(low), torch.from_numpy(high)
