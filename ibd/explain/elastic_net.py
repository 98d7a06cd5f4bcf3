"""Sparse linear classifiers: multinomial logistic regression under an elastic net, along a path of penalties.

Shapes: N images, K inputs (concepts, units, channels), C classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, check_range

GROWTH = 1.1
"""Factor by which the length of the steps grows after each."""
FINENESS = 2**-0.2
"""Ratio of one penalty of the path to the one before, by default."""


@dataclass(frozen=True)
class SparseHead:
    """One point of a path: ``logits = x @ weight.T + bias`` of the inputs as they were given.

    Attributes:
        penalty: lambda.
        weight: (C, K) float64.
        bias: (C,) float64.
        scale: (K,) standard deviations of the inputs: ``weight * scale`` is what the penalty is on.
        residual: how far the conditions of the optimum are missed at most, as a share of the largest penalty that
            leaves any weight, see `residual`.
        steps: steps that it took from the point before.
    """

    penalty: float
    weight: Tensor
    bias: Tensor
    scale: Tensor
    residual: float
    steps: int

    @property
    def effective(self) -> float:
        """Number of effective concepts: weights that are not 0, a class (Srivastava et al. 2024, section 4.2)."""
        return float((self.weight != 0).sum()) / len(self.weight)

    def logits(self, x: Tensor) -> Tensor:
        """Return the (N, C) logits of (N, K) inputs, in float64."""
        return x.double() @ self.weight.t() + self.bias

    def cut(self, effective: float) -> SparseHead:
        """Return the head with only its largest standardized weights: so many a class on average."""
        most = math.floor(effective * len(self.weight) + 1e-9)
        size = (self.weight * self.scale).abs().flatten()
        keep = torch.zeros_like(size, dtype=torch.bool)
        keep[size.argsort(descending=True, stable=True)[:most]] = True
        weight = torch.where(keep.view_as(self.weight), self.weight, 0.0)
        return SparseHead(self.penalty, weight, self.bias, self.scale, self.residual, self.steps)


def elastic_net_path(
    x: Tensor,
    labels: Tensor,
    classes: int,
    share: float = 0.99,
    penalties: Sequence[float] | None = None,
    smallest: float = 1e-3,
    effective: float | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 2000,
    offset: Tensor | None = None,
) -> list[SparseHead]:
    """Minimize mean cross-entropy + lambda (share |W|_1 + (1 - share) / 2 |W|^2) for falling penalties lambda.

    W is of the inputs at mean 0 and deviation 1; the bias is free. The path of Zou and Hastie 2005 and Friedman et al.
    2010 begins at the least lambda without any weight; each point starts from the one before. Solved in float64 by
    accelerated proximal gradient (Beck and Teboulle 2009), whose steps make weights exactly 0, with restarts
    (O'Donoghue and Candes 2015) and steps as long as the curvature on the way allows (Scheinberg et al. 2014). It stops
    when the conditions of the optimum hold within `tolerance`. Deterministic; its memory is that of two copies of x.

    Args:
        x: (N, K) inputs.
        labels: (N,) classes, 0 to C - 1.
        classes: C.
        share: share of the absolute values in the penalty, 0 to 1: 0 is a ridge, for which `penalties` must be given.
        penalties: falling lambdas, in the place of the path's own.
        smallest: last lambda of the path, as a share of the first.
        effective: weights a class with which the path may end before that.
        tolerance: residual at which a point counts as reached.
        max_steps: largest number of steps for one point.
        offset: (N, C) logits to which those of the inputs are added, which stay as they are.

    Returns:
        One head for each penalty.

    Raises:
        ConfigError: a share that is none, or a path without absolute values that has no penalties.
    """
    check_range("share", share, least=0)
    if share > 1 or (penalties is None and share == 0):
        raise ConfigError(f"share: {share} given, above 0 and up to 1 is needed (0 with penalties of your own)")
    problem = _Problem.of(x, labels, classes, offset)
    first = problem.first_penalty(share)
    if penalties is None:
        penalties = list(_path(first, smallest))
    solver, found = _Solver(problem, first * tolerance), []
    for penalty in progress(penalties, "fitting sparse heads", len(penalties)):
        residual, steps = solver.solve(penalty * share, penalty * (1 - share), max_steps)
        weight = solver.weight / problem.scale
        bias = solver.bias - weight @ problem.mean
        found.append(SparseHead(penalty, weight, bias, problem.scale, residual / first if first else 0.0, steps))
        if effective is not None and found[-1].effective >= effective:
            break
    return found


def at_effective(path: Sequence[SparseHead], effective: float) -> SparseHead | None:
    """Return the head with a number of effective concepts, as Srivastava et al. 2024 make it for their comparisons.

    It is the first of the path that has as many, less its smallest weights. None where no head has: a penalty on
    absolute values leaves about ``K (C - 1) / C`` a class if C is odd, as a constant that all classes' weights of a
    concept have in common says nothing, and the middle one becomes 0.
    """
    return next((head.cut(effective) for head in path if head.effective >= effective), None)


def residual(slope: Tensor, weight: Tensor, l1: float, l2: float) -> float:
    """Return how far weights are from the conditions of an optimum (Karush, Kuhn and Tucker), the largest of all.

    The slope of the smooth part must be ``-l1 sign(w)`` where a weight is not 0, and within ``[-l1, l1]`` where it is.

    Args:
        slope: (C, K) gradient of the mean cross-entropy.
        weight: (C, K).
        l1: weight of the absolute values.
        l2: weight of half the squares.
    """
    smooth = slope + l2 * weight
    missed = torch.where(weight != 0, (smooth + l1 * weight.sign()).abs(), (smooth.abs() - l1).clamp(min=0))
    return float(missed.max()) if missed.numel() else 0.0


def _path(first: float, smallest: float) -> Iterator[float]:
    for power in itertools.count():
        if FINENESS**power < smallest:
            return
        yield first * FINENESS**power


class _Problem(NamedTuple):
    """What is minimized, at standardized inputs."""

    x: Tensor
    """(N, K) float64 of mean 0 and deviation 1; zeros where an input is constant."""
    labels: Tensor
    """(N,)."""
    offset: Tensor
    """(N, C) or (1, 1) logits that are added."""
    start: Tensor
    """(C,) bias without any weight: the log odds of the classes."""
    mean: Tensor
    """(K,) of the inputs."""
    scale: Tensor
    """(K,) deviations of the inputs; 1 where one is constant."""

    @classmethod
    def of(cls, x: Tensor, labels: Tensor, classes: int, offset: Tensor | None) -> _Problem:
        values = x.double()
        mean = values.mean(0)
        values = values - mean
        scale = values.square().mean(0).sqrt()
        constant = scale <= 1e-12 * mean.abs().clamp(min=1e-300)
        scale = torch.where(constant, 1.0, scale)
        values.div_(scale).masked_fill_(constant, 0.0)
        counts = torch.bincount(labels, minlength=classes).to(values)
        start = ((counts + 0.5) / (counts + 0.5).sum()).log() if offset is None else torch.zeros_like(counts)
        added = values.new_zeros(1, 1) if offset is None else offset.double()
        return cls(values, labels, added, start, mean, scale)

    def error(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, C) probabilities of logits, and these less the truth, over N."""
        p = logits.softmax(1)
        wrong = p.clone()
        wrong[torch.arange(len(p), device=p.device), self.labels] -= 1
        return p, wrong.div_(len(p))

    def first_penalty(self, share: float) -> float:
        """Return the least lambda without any weight; with a share of 0, the largest slope there."""
        logits, bias = self.offset.expand(len(self.x), len(self.start)), self.start
        for _ in range(100):  # Newton's method
            p, wrong = self.error(logits + bias)
            slope = wrong.sum(0)
            if float(slope.abs().max()) < 1e-13:
                break
            bent = p.mean(0).diag() - p.t() @ p / len(p)
            bias = bias - torch.linalg.pinv(bent, hermitian=True) @ slope
        self.start.copy_(bias)
        return float((self.error(logits + bias)[1].t() @ self.x).abs().max()) / (share or 1.0)


class _Solver:
    """The point of the path that was reached: each next one starts from it."""

    def __init__(self, problem: _Problem, tolerance: float) -> None:
        self.problem, self.tolerance = problem, tolerance
        self.weight = problem.x.new_zeros(len(problem.start), problem.x.shape[1])
        self.bias = problem.start.clone()
        self.size = 1 / curvature(problem.x)

    def logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, self.problem.x, weight.t()).add_(self.problem.offset)

    def solve(self, l1: float, l2: float, max_steps: int) -> tuple[float, int]:
        """Go to the optimum of a penalty; return the residual there, and the number of steps."""
        weight, bias, logits = self.weight, self.bias, self.logits(self.weight, self.bias)
        before = weight, bias, logits
        momentum, ratio, missed, steps = 1.0, 0.0, math.inf, 0
        while missed > self.tolerance and steps < max_steps:
            steps += 1
            at = [now + ratio * (now - then) for now, then in zip((weight, bias, logits), before, strict=True)]
            before = weight, bias, logits
            weight, bias, logits = self._step(at[0], at[1], at[2], l1, l2)
            moved = (at[0] - weight, at[1] - bias)
            uphill = float((moved[0] * (weight - before[0])).sum() + (moved[1] * (bias - before[1])).sum()) > 0
            grown = (1 + (1 + 4 * momentum * momentum / GROWTH) ** 0.5) / 2
            ratio, momentum = (0.0, 1.0) if uphill else ((momentum - 1) / grown, grown)
            # A step is short near the optimum alone: only then are the conditions worth another pass over the images.
            if max(float(part.abs().max()) for part in moved) <= self.tolerance * self.size or steps == max_steps:
                missed = self._missed(weight, logits, l1, l2)
            self.size *= GROWTH
        self.weight, self.bias = weight, bias
        return missed, steps

    def _step(self, weight: Tensor, bias: Tensor, logits: Tensor, l1: float, l2: float) -> tuple[Tensor, ...]:
        """Return weight, bias and logits after a proximal step, as long as the curvature on the way allows."""
        p, wrong = self.problem.error(logits)
        slope, push = wrong.t() @ self.problem.x + l2 * weight, wrong.sum(0)
        while True:
            after, free = soften(weight - self.size * slope, self.size * l1), bias - self.size * push
            then = self.logits(after, free)
            apart = float((after - weight).square().sum())
            distance = apart + float((free - bias).square().sum())
            if (2 * bregman(logits, then, p) + l2 * apart) * self.size <= distance * 1.0001 or distance == 0:
                return after, free, then
            self.size /= 2

    def _missed(self, weight: Tensor, logits: Tensor, l1: float, l2: float) -> float:
        wrong = self.problem.error(logits)[1]
        return max(residual(wrong.t() @ self.problem.x, weight, l1, l2), float(wrong.sum(0).abs().max()))


def soften(weight: Tensor, by: Tensor | float) -> Tensor:
    """Return the values nearer to 0, and exactly 0 where they were near."""
    return weight.sign() * (weight.abs() - by).clamp(min=0)


def bregman(one: Tensor, other: Tensor, p: Tensor) -> float:
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


def curvature(x: Tensor) -> float:
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


def accuracy(head: SparseHead, x: Tensor, labels: Tensor, offset: Tensor | float = 0.0) -> tuple[float, float]:
    """Return the accuracy of a head, 0 to 1, and its mean cross-entropy.

    Args:
        head: point of a path.
        x: (N, K) inputs.
        labels: (N,) classes.
        offset: (N, C) logits that are added.
    """
    logits = head.logits(x) + offset
    return float((logits.argmax(1) == labels).double().mean()), float(F.cross_entropy(logits, labels))
