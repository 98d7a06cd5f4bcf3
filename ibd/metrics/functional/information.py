"""How much more a predicted concept tells than it should: leakage in terms of information (Parisini et al. 2025).

Both scores compare predicted concepts with the annotated ones, over a data set. Mutual information is that of the
counts after each predicted concept was cut into `bins` of equal frequency (the paper estimates it from nearest
neighbors). Counts of few samples overstate it, and more so for many bins than for the two values of an annotation, so
that a concept without leakage would score above 0: what a random order of the samples gives in the mean is subtracted
from both sides.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.metrics.functional.checks import check_same, double, ratio
from ibd.metrics.functional.ranks import average_ranks

BINS, SHUFFLES = 8, 20


def concept_task_leakage(soft: Tensor, concepts: Tensor, labels: Tensor, shuffles: int = SHUFFLES) -> Tensor:
    """How much more each predicted concept tells of the class than the true one: CTL, in [0, 1]; - lower is better.

    CTL_i = max(0, I(c^_i; y) / H(y) - I(c_i; y) / H(y)) (Parisini et al. 2025); 0 for predictions that are right and
    hard. The score of a model is the mean over concepts.

    Args:
        soft: (N, K) predicted concepts, probabilities or logits: only their order counts.
        concepts: (N, K), held where above 0.5; NaN, unknown, and 0.5, undecided, are left out on both sides.
        labels: (N,) classes.
        shuffles: random orders of the samples that the bias is taken from; 0 leaves it in.

    Returns:
        (K,) float64; NaN where all samples are of one class.
    """
    predicted, true, y = _codes(soft, concepts, labels)
    orders = _orders(len(y), shuffles)
    gain = _information(predicted, y, orders) - _information(true, y, orders)
    entropy = _entropy(_joint(true, y).sum(1))  # of the labels of the samples where concept i is known
    return ratio(gain, entropy).squeeze(1).clamp(min=0)


def interconcept_leakage(soft: Tensor, concepts: Tensor, shuffles: int = SHUFFLES) -> Tensor:
    """How much more predicted concepts tell of each other than the true ones: ICL, in [0, 1]; - lower is better.

    ICL_ij = max(0, I(c^_i; c^_j) / sqrt(H(c^_i) H(c^_j)) - I(c_i; c_j) / sqrt(H(c_i) H(c_j))) (Parisini et al. 2025).
    The score of a model is the mean over pairs i != j (`ibd.metrics.mean_off_diagonal`).

    Args:
        soft: (N, K), as for `concept_task_leakage`.
        concepts: (N, K).
        shuffles: number of random orders, as of `mutual_information`.

    Returns:
        (K, K) float64, symmetric; NaN on the diagonal, and where a concept does not vary.
    """
    predicted, true, _ = _codes(soft, concepts, torch.zeros(len(soft), dtype=torch.int64))
    orders = _orders(len(soft), shuffles)
    sides = []
    for codes in (predicted, true):
        joint = _joint(codes, codes)
        scale = (_entropy(joint.sum(2)) * _entropy(joint.sum(1))).sqrt()
        shared = _information(codes, codes, orders)
        sides.append(ratio((shared + shared.T) / 2, scale))  # what is subtracted was not symmetric
    leakage = (sides[0] - sides[1]).clamp(min=0)
    return leakage.masked_fill(torch.eye(len(leakage), dtype=torch.bool, device=leakage.device), torch.nan)


def _codes(soft: Tensor, concepts: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return one-hot codes (N, K, `BINS`), (N, K, 2) and (N, 1, C), float64; all 0 where unknown."""
    check_same("predicted concepts", soft, "concepts", concepts)
    unknown = concepts.isnan() | (concepts == 0.5) | soft.isnan()
    ranks = average_ranks(soft.detach().where(~unknown, torch.inf).T).T  # unknown last
    known = (~unknown).sum(0).to(ranks.device)
    place = ((ranks - 0.5) / known.clamp(min=1) * BINS).clamp(0, BINS - 1).long()
    left = (~unknown).to(ranks.device).unsqueeze(2)
    true = (concepts > 0.5).long().to(ranks.device)
    _, y = torch.unique(labels.to(ranks.device), return_inverse=True)
    return (
        double(F.one_hot(place, BINS) * left),
        double(F.one_hot(true, 2) * left),
        double(F.one_hot(y)).unsqueeze(1),
    )


def _orders(count: int, shuffles: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator) for _ in range(shuffles)]


def _joint(a: Tensor, b: Tensor) -> Tensor:
    """Return (K, s, t, J): how often the values of each pair of variables (N, K, s) and (N, J, t) come together."""
    counts = a.flatten(1).T @ b.flatten(1)
    return counts.view(*a.shape[1:], *b.shape[1:]).movedim(3, 2)


def _information(a: Tensor, b: Tensor, orders: list[Tensor]) -> Tensor:
    """Return (K, J): mutual information in nats, less what the given orders of the samples have of it in the mean."""
    information = _plain_information(a, b)
    for order in orders:
        information = information - _plain_information(a, b[order.to(b.device)]) / len(orders)
    return information.clamp(min=0)  # there is no information below none, or what says nothing would leak


def _plain_information(a: Tensor, b: Tensor) -> Tensor:
    joint = _joint(a, b)
    return _entropy(joint.sum(2)) + _entropy(joint.sum(1)) - _entropy(joint.flatten(1, 2))


def _entropy(counts: Tensor) -> Tensor:
    """Return (K, J) in nats of (K, values, J) counts; 0 where there are none."""
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    entropy: Tensor = torch.special.entr(share).sum(1)
    return entropy
