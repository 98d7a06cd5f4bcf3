"""The last layer as what it is once the prototypes are fixed: a convex problem on similarities that are read once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import progress

_GROWTH = 1.1
"""Factor by which the length of the steps grows after each."""


@dataclass(frozen=True)
class LastLayerReport:
    """How the solver ended.

    Attributes:
        steps: number of steps that it took.
        converged: whether it stopped by the tolerance.
        objective: value of the objective that was reached.
        sparsity: share of the connections to other classes that are exactly 0.
    """

    steps: int
    converged: bool
    objective: float
    sparsity: float


def fit_last_layer(
    scores: Tensor,
    labels: Tensor,
    initial: Tensor,
    own: Tensor,
    kept: Tensor,
    l1: float = 1e-4,
    ridge: float = 1e-3,
    tolerance: float = 1e-4,
    max_steps: int = 2000,
) -> tuple[Tensor, LastLayerReport]:
    """Minimize cross-entropy + l1 * |W off the own classes|_1 + ridge / 2 * |W - W0|^2 over W.

    The first two terms are those of Chen et al. 2019, section 2.2, who take 20 epochs of Adam through the network; with
    separable similarities they have no minimum, and what their schedule does is to stay near W0, which the third term
    says. Solved by FISTA (Beck and Teboulle 2009), whose proximal step makes connections exactly 0, with the restart of
    O'Donoghue and Candes 2015 and with steps as long as the curvature on the way allows (Scheinberg et al. 2014), which
    is far less than its bound. Deterministic.

    Args:
        scores: (N, P) similarities of the training images.
        labels: (N,) classes.
        initial: (C, P) W0, where it also starts.
        own: (C, P) bool: connections of a prototype to its own class, which are not made sparse.
        kept: (P,) bool; pruned prototypes get 0.
        l1: weight of the absolute values.
        ridge: weight of the distance to W0.
        tolerance: largest distance of the objective from its minimum at which to stop, proven by the duality gap.
            Without a ridge, which has none: once no weight moves by more than this share of the largest, at unit step.
        max_steps: largest number of steps.

    Returns:
        (C, P) W like `initial`, and how the solver ended.
    """
    x = scores.to(torch.promote_types(scores.dtype, torch.float32)) * kept
    start = initial.to(x.dtype) * kept
    target = F.one_hot(labels, len(initial)).to(x.dtype)
    shrink = l1 * (~own).to(x.dtype)
    size = 1 / (_curvature(x) + ridge)
    weight, before, ratio = start, start, 0.0
    logits = logits_before = x @ start.t()
    momentum, steps, converged = 1.0, 0, False
    for done in progress(range(max_steps), "fitting the last layer"):
        steps = done + 1
        ahead, logits_ahead = weight + ratio * (weight - before), logits + ratio * (logits - logits_before)
        p = logits_ahead.softmax(1)
        pull = (p - target).t() @ x / len(x)
        slope = pull + ridge * (ahead - start)
        while True:
            following = _soften(ahead - size * slope, size * shrink) * kept
            logits_following = x @ following.t()
            distance = float((following - ahead).square().sum())
            bent = 2 * _bregman(logits_ahead, logits_following, p) + ridge * distance
            if bent * size <= distance * 1.0001 or distance == 0:
                break
            size /= 2
        uphill = float(((ahead - following) * (following - weight)).sum()) > 0
        grown = (1 + (1 + 4 * momentum * momentum / _GROWTH) ** 0.5) / 2
        ratio, momentum = (0.0, 1.0) if uphill else ((momentum - 1) / grown, grown)
        change = float((following - weight).abs().max())
        before, weight, logits_before, logits = weight, following, logits, logits_following
        if ridge:
            reached = _objective(logits, labels, weight, start, shrink, ridge)
            converged = float(reached - _dual(p, -pull, start, shrink, ridge)) <= tolerance
        else:
            converged = change <= tolerance * size * float(weight.abs().max())
        if converged:
            break
        size *= _GROWTH
    others = weight[~own & kept]
    report = LastLayerReport(
        steps,
        converged,
        float(_objective(logits, labels, weight, start, shrink, ridge)),
        float((others == 0).float().mean()) if len(others) else 0.0,
    )
    return weight.to(initial.dtype), report


def _soften(weight: Tensor, by: Tensor) -> Tensor:
    """Return the values nearer to 0, and exactly 0 where they were near."""
    return weight.sign() * (weight.abs() - by).clamp(min=0)


def _objective(logits: Tensor, labels: Tensor, weight: Tensor, start: Tensor, shrink: Tensor, ridge: float) -> Tensor:
    """Return what is minimized, a scalar."""
    fit = F.cross_entropy(logits, labels)
    return fit + (shrink * weight.abs()).sum() + ridge / 2 * (weight - start).square().sum()


def _dual(p: Tensor, slope: Tensor, start: Tensor, shrink: Tensor, ridge: float) -> Tensor:
    """Return a value that no weights can go below: that of the dual problem, at some class probabilities.

    ``-mean(sum p log p) - max_W(<slope, W> - |shrink W|_1 - ridge / 2 |W - W0|^2)``, whose maximum has a closed form.

    Args:
        p: (N, C) probabilities.
        slope: (C, P): ``(Y - p)' x / N``.
        start: (C, P) W0.
        shrink: (C, P).
        ridge: weight of the distance to W0, more than 0.
    """
    best = _soften(start + slope / ridge, shrink / ridge)
    conjugate = (slope * best - shrink * best.abs() - ridge / 2 * (best - start).square()).sum()
    entropy: Tensor = torch.special.entr(p).sum(1).mean()
    return entropy - conjugate


def _bregman(one: Tensor, other: Tensor, p: Tensor) -> float:
    """Return by how much the mean cross-entropy at `other` logits is above its tangent at `one`; exact for small steps.

    Args:
        one: (N, C).
        other: (N, C).
        p: softmax of `one`.
    """
    change = other - one
    change = change - (p * change).sum(1, keepdim=True)
    small = change.abs() < 1e-2
    above = torch.where(small, change.square() * (0.5 + change / 6), torch.expm1(change) - change)
    return float(torch.log1p((p * above).sum(1)).mean())


def _curvature(x: Tensor) -> float:
    """Return a bound on the curvature of the mean cross-entropy: half the largest eigenvalue of x'x / N.

    By power iteration, which nears it from below; hence the margin.
    """
    vector = torch.ones(x.shape[1], dtype=x.dtype, device=x.device)
    largest = 0.0
    for _ in range(30):
        vector = x.t() @ (x @ vector)
        norm = float(vector.norm())
        if norm == 0:
            return 1e-12
        vector, largest = vector / norm, norm
    return 0.5 * 1.05 * largest / len(x)
