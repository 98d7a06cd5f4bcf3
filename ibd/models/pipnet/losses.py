"""What makes channels prototypes (Nauta et al. 2023, section 3): two views that agree, use of all channels, the class.

All are computed in float32, which the presences that they read are in.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import sum_over_processes


def align_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return ``-mean log(<p1, p2> + 1e-12)`` over images and positions, each view in turn held fixed, and their mean.

    It is 0 where both views have the same single prototype at every position.

    Args:
        first: (B, P, h, w) distribution over prototypes at each position of one view.
        second: assignments of the other view.
    """
    one = torch.log((first * second.detach()).sum(1) + 1e-12)
    other = torch.log((first.detach() * second).sum(1) + 1e-12)
    return -(one.mean() + other.mean()) / 2


def tanh_loss(presence: Tensor) -> Tensor:
    """Return ``-mean_d log(tanh(sum_batch g_d) + 1e-8)``: large where a prototype is present in no image of the batch.

    Without it the alignment is best where all positions of all images have the same prototype. The batch is that of all
    processes together: a prototype need not be present in the share of each.

    Args:
        presence: (B, P) in [0, 1], of one view.
    """
    return -torch.log(torch.tanh(sum_over_processes(presence.sum(0))) + 1e-8).mean()


def class_loss(evidence: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-likelihood of the labels, the log-odds of a class being ``log(1 + o^2)``.

    The logarithm keeps the loss from rewarding ever more evidence, so that a few prototypes are enough; the square is
    that of the published code.

    Args:
        evidence: (B, C) o, at least 0.
        labels: (B,) int64.
    """
    return F.cross_entropy(log_odds(evidence), labels)


def log_odds(evidence: Tensor) -> Tensor:
    """Return ``log(1 + o^2)`` of (B, C) evidence; what is below 0, as after an edit, is no evidence."""
    return torch.log1p(evidence.clamp(min=0).square())
