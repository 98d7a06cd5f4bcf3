"""The last layer as what it is once the prototypes are fixed: a convex problem on similarities that are read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.explain.elastic_net import GROWTH, bregman, curvature, soften


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
    problem = _Problem(x, labels, target, start, l1 * (~own).to(x.dtype), kept, ridge)
    size = 1 / (curvature(x) + ridge)
    weight, before, ratio = start, start, 0.0
    logits = logits_before = x @ start.t()
    momentum, steps, converged = 1.0, 0, False
    for done in progress(range(max_steps), "fitting the last layer"):
        steps = done + 1
        ahead, logits_ahead = weight + ratio * (weight - before), logits + ratio * (logits - logits_before)
        step = problem.step(ahead, logits_ahead, size)
        uphill = float(((ahead - step.weight) * (step.weight - weight)).sum()) > 0
        grown = (1 + (1 + 4 * momentum * momentum / GROWTH) ** 0.5) / 2
        ratio, momentum = (0.0, 1.0) if uphill else ((momentum - 1) / grown, grown)
        change = float((step.weight - weight).abs().max())
        before, weight, logits_before, logits = weight, step.weight, logits, step.logits
        if ridge:
            converged = problem.gap(step) <= tolerance
        else:
            converged = change <= tolerance * step.size * float(weight.abs().max())
        if converged:
            break
        size = step.size * GROWTH
    others = weight[~own & kept]
    report = LastLayerReport(
        steps,
        converged,
        problem.objective(logits, weight),
        float((others == 0).float().mean()) if len(others) else 0.0,
    )
    return weight.to(initial.dtype), report


class _Step(NamedTuple):
    """A proximal step: the (C, P) weights and (N, C) logits after it, what it was made by, and its length."""

    weight: Tensor
    logits: Tensor
    p: Tensor
    pull: Tensor
    size: float


class _Problem(NamedTuple):
    """What is minimized: see `fit_last_layer`."""

    x: Tensor
    """(N, P) similarities of the kept prototypes; 0 of others."""
    labels: Tensor
    """(N,)."""
    target: Tensor
    """(N, C) the same, one-hot."""
    start: Tensor
    """(C, P) W0."""
    shrink: Tensor
    """(C, P) weights of the absolute values."""
    kept: Tensor
    """(P,) bool."""
    ridge: float
    """Weight of the distance to W0."""

    def step(self, ahead: Tensor, logits: Tensor, size: float) -> _Step:
        """Return a proximal step, as long as the curvature on the way allows.

        Args:
            ahead: (C, P) weights that it starts from.
            logits: (N, C) logits of these.
            size: its length at most.
        """
        p = logits.softmax(1)
        pull = (p - self.target).t() @ self.x / len(self.x)
        slope = pull + self.ridge * (ahead - self.start)
        while True:
            weight = soften(ahead - size * slope, size * self.shrink) * self.kept
            after = self.x @ weight.t()
            distance = float((weight - ahead).square().sum())
            bent = 2 * bregman(logits, after, p) + self.ridge * distance
            if bent * size <= distance * 1.0001 or distance == 0:
                return _Step(weight, after, p, pull, size)
            size /= 2

    def objective(self, logits: Tensor, weight: Tensor) -> float:
        """Return what is minimized."""
        fit = F.cross_entropy(logits, self.labels)
        return float(fit + (self.shrink * weight.abs()).sum() + self.ridge / 2 * (weight - self.start).square().sum())

    def gap(self, step: _Step) -> float:
        """Return how far the objective is above the minimum at most, by the dual problem; needs a ridge."""
        return float(self.objective(step.logits, step.weight) - self._dual(step.p, -step.pull))

    def _dual(self, p: Tensor, slope: Tensor) -> float:
        """Return a value that no weights can go below: that of the dual problem, at some class probabilities.

        ``-mean(sum p log p) - max_W(<slope, W> - |shrink W|_1 - ridge / 2 |W - W0|^2)``, whose maximum has a closed
        form.

        Args:
            p: (N, C) probabilities.
            slope: (C, P): ``(Y - p)' x / N``.
        """
        best = soften(self.start + slope / self.ridge, self.shrink / self.ridge)
        distance = (best - self.start).square()
        conjugate = (slope * best - self.shrink * best.abs() - self.ridge / 2 * distance).sum()
        return float(torch.special.entr(p).sum(1).mean() - conjugate)
