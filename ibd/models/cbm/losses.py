"""The losses of Koh et al. 2020, with unknown concepts left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import sum_over_processes, world_size

Imbalance = Literal["none", "concept", "pos_weight"]


def imbalance_ratio(concepts: Tensor) -> Tensor:
    """Return ``r_j = n0_j / n1_j`` over known annotations, (K,), of (N, K) concepts.

    It is ``N / n1 - 1`` of the published code. A concept that is never (or always) present is weighted 1.
    """
    known = ~concepts.isnan()
    positive = ((concepts > 0.5) & known).sum(0).float()
    negative = known.sum(0) - positive
    return torch.where((positive > 0) & (negative > 0), negative / positive.clamp(min=1), 1.0)


def concept_loss(
    logits: Tensor,
    concepts: Tensor,
    ratio: Tensor,
    imbalance: Imbalance = "none",
    softmax_groups: Sequence[Sequence[int]] = (),
) -> Tensor:
    """Return the binary cross-entropy summed over concepts, averaged over images (equation 2 of Koh et al. 2020).

    In float32 also under autocast. The sum over known (image, concept) pairs is scaled by K / (known pairs), so that
    it is the published sum where everything is known; the count is taken over all processes, so that their averaged
    gradient is that of one process.

    Args:
        logits: (B, K).
        concepts: (B, K) in [0, 1], NaN where unknown.
        ratio: (K,) ``n0 / n1`` of each concept in the training set.
        imbalance: "none"; "concept" weighs both classes of concept j by r_j, as the published code does (it turns up
            rare concepts, it does not balance their classes); "pos_weight" weighs the positives by r_j, which does.
        softmax_groups: indices of the concepts of groups with a softmax: there the loss is the cross-entropy, and a
            row that names no member is left out.

    Returns:
        A scalar; 0 where nothing is known.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        known = ~concepts.isnan()
        target = concepts.nan_to_num(0.0)
        weight = ratio if imbalance == "concept" else None
        pos_weight = ratio if imbalance == "pos_weight" else None
        entry = F.binary_cross_entropy_with_logits(
            logits, target, weight=weight, pos_weight=pos_weight, reduction="none"
        )
        for group in softmax_groups:
            index = torch.tensor(group, device=logits.device)
            share = -target[:, index] * logits[:, index].log_softmax(1)
            entry = entry.index_copy(1, index, share)
            named = known[:, index].all(1, keepdim=True) & (target[:, index].sum(1, keepdim=True) > 0)
            known = known.index_copy(1, index, named.expand(-1, len(group)))
        count = sum_over_processes(known.sum().float()).clamp(min=1)
        # The processes' gradients are averaged, hence the world size.
        return (entry * known).sum() * (logits.shape[1] * world_size() / count)


def joint_loss(task: Tensor, concept: Tensor, concept_weight: float, count: int, normalize: bool) -> Tensor:
    """Return ``task + w * concept``, divided by ``1 + w * K`` where normalised (train.py of Koh et al. 2020).

    Args:
        task: cross-entropy of the classes.
        concept: what `concept_loss` returned: a sum over concepts.
        concept_weight: lambda, the weight of one concept's loss.
        count: K.
        normalize: divide by the sum of the weights.
    """
    total = task + concept_weight * concept
    return total / (1 + concept_weight * count) if normalize else total
