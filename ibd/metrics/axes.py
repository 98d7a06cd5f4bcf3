"""How well the axes of a whitened latent space stand for concepts, and how much the classes rest on them.

Axis k is the one that is named for concept k; a network has D >= K axes. A concept that is not annotated (NaN) counts
for nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.utilities import dim_zero_cat

from ibd.metrics.base import DetailedMetric
from ibd.metrics.concepts import auroc_per_concept

_AXES = 64
"""Axes that are ranked at a time, so that memory does not grow with their number."""


def auc_matrix(scores: Tensor, concepts: Tensor) -> Tensor:
    """Return the area under the ROC curve of every axis for every concept.

    The Mann-Whitney form with average ranks for ties (Hanley and McNeil 1982) in float64. Every axis is sorted once:
    the rank sums of all concepts without a gap are one matrix product, and for a concept with unknown annotations the
    known negatives below each known positive are counted along the same order.

    Args:
        scores: (N, U), higher where an axis is more active; no NaN.
        concepts: (N, K), positive where above 0.5, negative below; NaN where unknown.

    Returns:
        (K, U) float64 in [0, 1]; NaN for a concept without a known positive or without a known negative.
    """
    if scores.device.type == "mps":  # has no float64
        scores, concepts = scores.cpu(), concepts.cpu()
    positive, negative = concepts > 0.5, concepts < 0.5  # NaN and 0.5, unknown and undecided, are neither
    pairs = positive.sum(0).double() * negative.sum(0)
    right = [_pairs_in_order(part, positive, negative) for part in torch.split(scores.t(), _AXES)]
    return torch.cat(right, 1) / pairs.where(pairs > 0, torch.nan).unsqueeze(1)


def _pairs_in_order(scores: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return (K, U): of the pairs of a positive and a negative the number in order, a tie counting half.

    Args:
        scores: (U, N) scores.
        positive: (N, K) bool.
        negative: (N, K) bool.
    """
    ordered, order = scores.double().contiguous().sort(1)
    first = torch.searchsorted(ordered, ordered)  # of those that are equal
    behind = torch.searchsorted(ordered, ordered, right=True)
    rank = torch.empty_like(ordered).scatter_(1, order, (first + behind + 1).double() / 2)
    positives = positive.sum(0).double()
    above = positive.t().double() @ rank.t() - (positives * (positives + 1) / 2).unsqueeze(1)
    for k in (~(positive | negative).all(0)).nonzero().flatten().tolist():
        below = F.pad(negative[:, k][order].cumsum(1), (1, 0))
        passed = (below.gather(1, first) + below.gather(1, behind)).double() / 2
        above[k] = (passed * positive[:, k][order]).sum(1)
    return above


class AxisPurity(DetailedMetric):
    """Mean over concepts of the AUC of the concept's own axis (Chen et al. 2020), in [0, 1], 0.5 by chance.

    Higher is better. A concept that is never (or always) present among the known annotations is left out; the result is
    NaN where that leaves none.
    """

    higher_is_better = True
    scores: list[Tensor]
    concepts: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("concepts", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, concepts: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B, U) activations, U >= K; axis k is that of concept k, the others are not looked at.
            concepts: (B, K), NaN where unknown.
        """
        self.scores.append(scores[:, : concepts.shape[1]].detach().float())
        self.concepts.append(concepts)

    def per_concept(self) -> Tensor:
        """Return (K,) float64: the AUC of each concept's axis, NaN without a curve; every process must call it."""
        with self._of_all_processes():
            return self._values()

    def compute(self) -> Tensor:
        """Return the mean over the concepts that have a curve."""
        return self._values().nanmean().float()

    def _values(self) -> Tensor:
        return auroc_per_concept(dim_zero_cat(self.scores), dim_zero_cat(self.concepts))


class ConceptImportance(DetailedMetric):
    """How much worse the classes are told when a concept's axis is removed, for each of K concepts.

    Removed is an axis that is set to its mean, which whitening makes 0, in every position. (Chen et al. 2020 permute it
    over the images of a batch, which is random and depends on the batch.) What removing does alone says nothing of what
    other axes could stand in for.

    Args:
        concepts: number of concepts K.
        **kwargs: arguments of torchmetrics.
    """

    right: Tensor
    right_without: Tensor
    loss: Tensor
    loss_without: Tensor
    count: Tensor

    def __init__(self, concepts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("right_without", torch.zeros(concepts, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("loss_without", torch.zeros(concepts, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, without: Tensor, label: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (B, C) logits.
            without: (B, K, C) logits with the axis of each concept removed.
            label: (B,) true classes.
        """
        truth = label.unsqueeze(1).expand(without.shape[:2])
        self.right += (logits.argmax(1) == label).sum()
        self.right_without += (without.argmax(2) == truth).sum(0)
        self.loss += F.cross_entropy(logits.double(), label, reduction="sum")
        self.loss_without += F.cross_entropy(without.double().movedim(2, 1), truth, reduction="none").sum(0)
        self.count += len(label)

    def compute(self) -> dict[str, Tensor]:
        """Return what removing each axis does.

        Returns:
            "accuracy_drop" and "loss_increase" (mean cross-entropy), (K,) float64 each, both higher for a concept that
            matters more and below 0 where the classes are told better without it; NaN where nothing was seen.
        """
        count = self.count.double().where(self.count > 0, torch.nan)
        return {
            "accuracy_drop": (self.right - self.right_without) / count,
            "loss_increase": (self.loss_without - self.loss) / count,
        }
