"""The last layer as what it is once the prototypes are fixed: a convex problem on similarities that are read once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm


@dataclass(frozen=True)
class LastLayerReport:
    """How the solver ended.

    Attributes:
        steps: how many it took.
        converged: whether the last one changed no weight by more than the tolerance.
        objective: the value reached.
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
    """Minimise cross-entropy + l1 * |W off the own classes|_1 + ridge / 2 * |W - W0|^2 over W.

    The first two terms are those of Chen et al. 2019, section 2.2, who take 20 epochs of Adam through the network; with
    separable similarities they have no minimum, and what their schedule does is to stay near W0, which the third term
    says. Solved by FISTA (Beck and Teboulle 2009) with the adaptive restart of O'Donoghue and Candes 2015: the
    proximal step makes connections exactly 0. Deterministic.

    Args:
        scores: (N, P) similarities of the training images.
        labels: (N,) classes.
        initial: (C, P) W0, where it also starts.
        own: (C, P) bool: connections of a prototype to its own class, which are not made sparse.
        kept: (P,) bool; pruned prototypes get 0.
        l1: weight of the absolute values.
        ridge: weight of the distance to W0.
        tolerance: stop once a step changes no weight by more than this, times the largest.
        max_steps: stop at the latest then.

    Returns:
        (C, P) W like `initial`, and how the solver ended.
    """
    x = scores.to(torch.promote_types(scores.dtype, torch.float32)) * kept
    start = initial.to(x.dtype) * kept
    target = F.one_hot(labels, len(initial)).to(x.dtype)
    step = 1 / (_curvature(x) + ridge)
    shrink = step * l1 * (~own).to(x.dtype)
    weight, ahead, momentum = start.clone(), start.clone(), 1.0
    steps, converged = 0, False
    for done in tqdm(range(max_steps), desc="fitting the last layer", leave=False, delay=2, disable=None):
        steps = done + 1
        slope = ((x @ ahead.t()).softmax(1) - target).t() @ x / len(x) + ridge * (ahead - start)
        moved = ahead - step * slope
        following = (moved.sign() * (moved.abs() - shrink).clamp(min=0)) * kept
        change = following - weight
        if float(((ahead - following) * change).sum()) > 0:  # momentum points uphill
            momentum, ahead = 1.0, following.clone()
        else:
            grown = (1 + (1 + 4 * momentum * momentum) ** 0.5) / 2
            ahead, momentum = following + (momentum - 1) / grown * change, grown
        weight = following
        converged = float(change.abs().max()) <= tolerance * float(weight.abs().max().clamp(min=1e-12))
        if converged:
            break
    others = weight[~own & kept]
    report = LastLayerReport(
        steps,
        converged,
        float(objective(x, labels, weight, start, own, l1, ridge)),
        float((others == 0).float().mean()) if len(others) else 0.0,
    )
    return weight.to(initial.dtype), report


def objective(
    scores: Tensor, labels: Tensor, weight: Tensor, initial: Tensor, own: Tensor, l1: float, ridge: float
) -> Tensor:
    """Return what `fit_last_layer` minimises, a scalar."""
    fit = F.cross_entropy(scores @ weight.t(), labels)
    return fit + l1 * weight[~own].abs().sum() + ridge / 2 * (weight - initial).square().sum()


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
