"""How well concepts are predicted. What is unknown (NaN), or undecided (0.5), counts for nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def decided(target: Tensor) -> Tensor:
    """Return where concepts, in [0, 1] or NaN, say yes or no (bool): a soft annotation of 0.5 says neither."""
    return ~target.isnan() & (target != 0.5)


def auroc_per_concept(score: Tensor, target: Tensor) -> Tensor:
    """Return the area under the ROC curve of each concept: the chance that a positive outscores a negative.

    The Mann-Whitney form with average ranks for ties (Hanley and McNeil 1982), for all concepts at once in float64.

    Args:
        score: (N, K), higher where the concept is more likely.
        target: (N, K), positive where above 0.5, negative below; NaN where unknown.

    Returns:
        (K,) float64 in [0, 1]; NaN for a concept without a known positive or without a known negative.
    """
    if score.device.type == "mps":  # has no float64
        score, target = score.cpu(), target.cpu()
    known = decided(target)
    positive = (target > 0.5) & known
    # NaN is sorted behind everything, infinities too, so the unknown move nobody's rank.
    value = torch.where(known, score.double(), torch.nan)
    ordered, order = value.sort(0)
    count = torch.arange(1, len(value) + 1, device=value.device, dtype=torch.float64).unsqueeze(1)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    last = torch.ones_like(new)
    last[:-1] = new[1:]
    first_rank = torch.where(new, count, 0.0).cummax(0).values
    last_rank = torch.where(last, count, torch.inf).flip(0).cummin(0).values.flip(0)
    rank = torch.empty_like(ordered).scatter_(0, order, (first_rank + last_rank) / 2)
    positives = positive.sum(0).double()
    negatives = known.sum(0).double() - positives
    above = (rank * positive).sum(0) - positives * (positives + 1) / 2
    return above / (positives * negatives).where(positives * negatives > 0, torch.nan)


class ConceptAUROC(Metric):
    """Mean over concepts of the area under the ROC curve, in [0, 1], 0.5 by chance; higher is better.

    A concept that is never (or always) present among the known annotations has no curve and is left out; the result
    is NaN where that leaves none.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    score: list[Tensor]
    target: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("score", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def update(self, score: Tensor, target: Tensor) -> None:
        """Add (B, K) scores (probabilities or logits) and their (B, K) targets, NaN where unknown."""
        self.score.append(score.detach().float())
        self.target.append(target)

    def compute(self) -> Tensor:
        """Return the mean over the concepts that have a curve."""
        return auroc_per_concept(dim_zero_cat(self.score), dim_zero_cat(self.target)).nanmean().float()


class ConceptAccuracy(Metric):
    """Share of known (image, concept) pairs predicted rightly at probability 0.5, in [0, 1]; higher is better.

    A pair whose soft annotation is 0.5 has no right answer, and is left out.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    right: Tensor
    known: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("known", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, probability: Tensor, target: Tensor) -> None:
        """Add (B, K) probabilities and their (B, K) targets, NaN where unknown."""
        known = decided(target)
        self.right += (((probability > 0.5) == (target > 0.5)) & known).sum()
        self.known += known.sum()

    def compute(self) -> Tensor:
        """Return the share; NaN where nothing is known."""
        return self.right / self.known.where(self.known > 0, torch.nan)
