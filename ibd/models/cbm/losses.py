"""The losses of Koh et al. 2020, with unknown concepts left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import sum_over_processes, world_size
from ibd.models.cbm.groups import complete, with_none

Imbalance = Literal["none", "concept", "pos_weight"]


def imbalance_ratio(concepts: Tensor) -> Tensor:
    """Return ``r_j = n0_j / n1_j`` over known annotations, (K,), of (N, K) concepts.

    It is ``N / n1 - 1`` of the published code. A soft annotation c counts as c presences and 1 - c absences, which is
    what it is worth in the loss. A concept that is never (or always) present is weighted 1.
    """
    positive = concepts.nansum(0)
    negative = (~concepts.isnan()).sum(0) - positive
    return torch.where((positive > 0) & (negative > 0), negative / positive.where(positive > 0, 1.0), 1.0)


def concept_loss(
    logits: Tensor,
    concepts: Tensor,
    ratio: Tensor,
    imbalance: Imbalance = "none",
    softmax_groups: Sequence[Sequence[int]] = (),
    together: bool = False,
    numbers: Tensor | None = None,
) -> Tensor:
    """Return the binary cross-entropy summed over concepts, averaged over images (equation 2 of Koh et al. 2020).

    Of quantities it is the squared error of the standardized value.

    In float32 also under autocast. The sum over known (image, concept) pairs is scaled by K / (known pairs), so that
    it is the published sum where everything is known.

    Args:
        logits: (B, K).
        concepts: (B, K) in [0, 1], or standardized; NaN where unknown.
        ratio: (K,) ``n0 / n1`` of each concept in the training set.
        imbalance: "none"; "concept" weighs both classes of concept j by r_j, as the published code does (it turns up
            rare concepts, it does not balance their classes); "pos_weight" weighs the positives by r_j, which does.
        softmax_groups: indices of the concepts of groups with a softmax: there the loss is the cross-entropy over the
            group's concepts and "none of them", without weights. A 1 makes the group known; else a row with an
            unknown member is left out.
        together: whether to count the known pairs over all processes, so that their averaged gradient is that of one
            process. Every process must then call this.
        numbers: (K,) bool: which concepts are quantities; logits and concepts of these are standardized values.

    Returns:
        A scalar; 0 where nothing is known.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target, known = complete(concepts.to(logits.dtype), ~concepts.isnan(), softmax_groups)
        weight = ratio.to(logits.dtype) if imbalance == "concept" else None
        pos_weight = ratio.to(logits.dtype) if imbalance == "pos_weight" else None
        entry = F.binary_cross_entropy_with_logits(
            logits, target, weight=weight, pos_weight=pos_weight, reduction="none"
        )
        if numbers is not None:
            entry = torch.where(numbers, (logits - target).square(), entry)
        for group in softmax_groups:
            index = torch.tensor(group, device=logits.device)
            shared = _group_cross_entropy(logits[:, index], target[:, index]) / len(group)
            entry = entry.index_copy(1, index, shared.expand(-1, len(group)))
            known[:, index] = known[:, index].all(1, keepdim=True)
        scale = logits.shape[1] / _count(known, together)
        return (entry * known).sum() * scale


def _group_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the (B, 1) cross-entropy of a group's (B, G) concepts and "none of them".

    Soft targets that add up to more than 1 are scaled down to it, as `group_truth_logits` does.
    """
    target = target / target.sum(1, keepdim=True).clamp(min=1)
    none = (1 - target.sum(1, keepdim=True)).clamp(min=0)
    return -(torch.cat([target, none], 1) * with_none(logits).log_softmax(1)).sum(1, keepdim=True)


def _count(known: Tensor, together: bool) -> Tensor:
    """Return the number of known pairs, at least 1; `together`, the mean over processes."""
    count = known.sum().float()
    return sum_over_processes(count).clamp(min=1) / world_size() if together else count.clamp(min=1)


def joint_loss(task: Tensor, concept: Tensor, concept_weight: float, count: int, normalize: bool) -> Tensor:
    """Return ``task + w * concept``, divided by ``1 + w * K`` where normalized (train.py of Koh et al. 2020).

    Args:
        task: cross-entropy of the classes.
        concept: loss from `concept_loss`: a sum over concepts.
        concept_weight: lambda, the weight of one concept's loss.
        count: number of concepts K.
        normalize: whether to divide by the sum of the weights.
    """
    total = task + concept_weight * concept
    return total / (1 + concept_weight * count) if normalize else total


def cross_correlation(concepts: Tensor, residual: Tensor) -> Tensor:
    """Return the mean squared correlation between each concept and each residual unit over a batch, in [0, 1].

    The cross-covariance penalty of Cheung et al. 2014 ("Discovering hidden factors of variation in deep networks"), of
    values brought to variance 1: a penalty on covariances alone is met by making the residual small. It is one of the
    ways in which Zabounidis et al. 2023 keep concepts out of a residual; what no line tells it does not see. In float32
    also under autocast, over the images of this process.

    Args:
        concepts: (B, K) probabilities, which no gradient should reach: the residual is to give way, not they.
        residual: (B, R) scores.

    Returns:
        A scalar; what does not vary in the batch counts 0. Of B independent images it is 1 / (B - 1) on average.
    """
    with torch.autocast(residual.device.type, enabled=False):
        first, second = (_standardized(x.to(torch.promote_types(x.dtype, torch.float32))) for x in (concepts, residual))
        return (first.t() @ second / len(residual)).square().mean()


def _standardized(values: Tensor) -> Tensor:
    """Return the columns of (B, N) values with mean 0 and variance 1 over the batch; 0 where they do not vary."""
    centered = values - values.mean(0)
    return centered / centered.square().mean(0).clamp(min=1e-12).sqrt()
