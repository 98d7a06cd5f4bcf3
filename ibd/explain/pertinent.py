"""Pertinent negatives and positives in pixels: the smallest change that makes the class another, and what is enough.

Dhurandhar et al. 2018 (contrastive explanations): a change d of small ``beta |d|_1 + |d|^2`` that moves the logits past
a margin, by FISTA for weights of the margin that are searched for each image. Their autoencoder, which keeps a change
like the data, is left out: with pixels alone (``cell=1``) the change of a deep network is close to an adversarial one.
Larger cells change patches of one color.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, UnsupportedError, check_range
from ibd.explain.base import Call, Cost, check_image, undisturbed
from ibd.explain.baselines import Baseline, covered_with
from ibd.explain.targets import Target, logits_of

_RATE = 0.1
"""Length of a step, against a curvature of 2 of the squared change."""
_MOMENTUM = (1 - (2 * _RATE) ** 0.5) / (1 + (2 * _RATE) ** 0.5)
"""Of FISTA for a strongly convex function of that curvature (Beck 2017, section 10.7.7)."""
_ALONG, _PAST, _REACH, _TINY = 3, 1e-4, 0.1, 1e-12
"""Steps along the mean, how far past the margin they go, and how long they are, in parts of it."""
_FIRST = 4.0
"""Factor of the weight of the margin that just moves anything, to begin with; and by which it grows."""


@dataclass(frozen=True)
class Pertinent:
    """What was found for B images.

    Attributes:
        image: (B, C, H, W): the changed image, or what is enough of it, before the baseline.
        change: (B, C, H, W): what was added to the image, or to the baseline.
        found: (B,) bool: whether there was any; where not, the change is 0.
        before: (B,) classes of the images.
        after: (B,) classes of what was found.
        size: (B,) ``beta |d|_1 + |d|^2``, with one value of a cell counted once.
        cost: passes that it took.
    """

    image: Tensor
    change: Tensor
    found: Tensor
    before: Tensor
    after: Tensor
    size: Tensor
    cost: Cost


def pertinent_negative(
    model: nn.Module,
    image: Tensor,
    is_class: int | None = None,
    baseline: Baseline | None = None,
    cell: int = 1,
    beta: float = 0.1,
    margin: float = 0.0,
    steps: int = 100,
    searches: int = 6,
) -> Pertinent:
    """Return the smallest change of the pixels after which each image's class is another.

    Args:
        model: any classifier of (B, C, H, W) images in [0, 1].
        image: (B, C, H, W) in [0, 1].
        is_class: class that it is to be; None for any other.
        baseline: what stands for nothing, see `ibd.explain.baselines.covered_with`: pixels then only move away from it,
            so that something is added. None lets them go anywhere in [0, 1].
        cell: side in pixels of squares that change together.
        beta: weight of the absolute change beside the squared one: more makes it sparse.
        margin: by how much the logits must say so.
        steps: steps for each weight of the margin.
        searches: weights that are tried, one after the other.

    Returns:
        A change for each image, in ``(steps + 3) * searches + 1`` passes there and back, and two more there.

    Raises:
        ConfigError: a number out of its range, or a class that there is not.
        DataError: no such images.
        UnsupportedError: the model returns one logit.
    """
    low, high = torch.zeros_like(image) - image, 1 - image
    if baseline is not None:
        base = covered_with(image, baseline)
        low, high = torch.where(image > base, 0.0, low), torch.where(image < base, 0.0, high)
    problem = _Problem(image, low.clamp(max=0), high.clamp(min=0), cell, beta, margin, steps, searches, False)
    return _solved(model, image, problem, is_class, True)


def pertinent_positive(
    model: nn.Module,
    image: Tensor,
    baseline: Baseline = "mean",
    cell: int = 1,
    beta: float = 0.1,
    margin: float = 0.0,
    steps: int = 100,
    searches: int = 6,
) -> Pertinent:
    """Return as little as is enough: the smallest part of each image, before a baseline, that keeps its class.

    A pixel is the baseline, the image's own, or between both.

    Args, Raises: those of `pertinent_negative`.
    """
    base = covered_with(image, baseline)
    whole = image - base
    problem = _Problem(base, whole.clamp(max=0), whole.clamp(min=0), cell, beta, margin, steps, searches, True)
    return _solved(model, image, problem, None, False)


@dataclass(frozen=True)
class _Problem:
    """What is changed (B, C, H, W), the bounds of that (B, C, H, W), and how it is looked for: from all, or nothing."""

    start: Tensor
    low: Tensor
    high: Tensor
    cell: int
    beta: float
    margin: float
    steps: int
    searches: int
    from_all: bool

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of its range.
        """
        for key in ("cell", "steps", "searches"):
            check_range(key, getattr(self, key), least=1)
        check_range("beta", self.beta, least=0)
        check_range("margin", self.margin, least=0)

    def drawn(self, change: Tensor) -> Tensor:
        """Return a change of the cells as one of the pixels, within its bounds."""
        large = change.repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)
        return large[:, :, : self.low.shape[2], : self.low.shape[3]].clamp(self.low, self.high)

    def within(self, change: Tensor) -> Tensor:
        """Return a change of the cells, as far as any pixel of a cell can follow: beyond there is no gradient."""
        low = -F.max_pool2d(-self.low, self.cell, ceil_mode=True)
        return change.clamp(low, F.max_pool2d(self.high, self.cell, ceil_mode=True))

    def nothing(self) -> Tensor:
        """Return no change of any cell."""
        batch, channels, height, width = self.low.shape
        return self.low.new_zeros(batch, channels, -(-height // self.cell), -(-width // self.cell))

    def first(self) -> Tensor:
        """Return the change of the cells that a search begins with: none, or as large as can be."""
        if not self.from_all:
            return self.nothing()
        low, high = (self.within(self.nothing() + end) for end in (-torch.inf, torch.inf))
        return torch.where(high >= -low, high, low)

    def size(self, change: Tensor) -> Tensor:
        """Return the size of a change, (B,)."""
        return self.beta * change.abs().flatten(1).sum(1) + change.square().flatten(1).sum(1)


Leads = Callable[[Tensor], Tensor]
"""Logits (B, C) -> by how much what is wanted leads, (B,)."""


def _solved(model: nn.Module, image: Tensor, problem: _Problem, is_class: int | None, changed: bool) -> Pertinent:
    """Return what is found by the search over weights, each by FISTA."""
    check_image(image)
    with undisturbed(model):
        call = Call(model, Target.predicted())
        with torch.no_grad():
            logits = logits_of(call.output(image))
        if logits.shape[1] < 2:
            raise UnsupportedError("a pertinent negative or positive needs logits of two classes or more, not one")
        if is_class is not None and not 0 <= is_class < logits.shape[1]:
            raise ConfigError(f"is_class: {is_class} given, there are {logits.shape[1]} classes, counted from 0")
        before = logits.argmax(1)
        label = before if is_class is None else torch.full_like(before, is_class)
        away = changed and is_class is None

        def leads(scores: Tensor) -> Tensor:
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            others = scores.scatter(1, label[:, None], -torch.inf).amax(1)
            ahead = scores.gather(1, label[:, None])[:, 0] - others
            return -ahead if away else ahead

        best, size = _searched(call, problem, leads)
        drawn = problem.drawn(best)
        with torch.no_grad():
            after = logits_of(call.output(problem.start + drawn)).argmax(1)
        return Pertinent(problem.start + drawn, drawn, size.isfinite(), before, after, size, call.cost)


def _searched(call: Call, problem: _Problem, leads: Leads) -> tuple[Tensor, Tensor]:
    """Return the smallest change that was found of each image, and its size, infinite where none was."""
    best = problem.nothing()
    size = torch.full((len(best),), torch.inf, device=best.device)
    _, slope = _led(call, problem, leads, problem.first())
    weight = _FIRST * max(problem.beta, 0.05) / slope.abs().flatten(1).amax(1).clamp(min=1e-12)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for _ in progress(range(problem.searches), "weights of the margin"):
        found, found_size, reached = _fista(call, problem, leads, weight)
        better = found_size < size
        best, size = torch.where(better[:, None, None, None], found, best), torch.where(better, found_size, size)
        high, low = torch.where(reached, weight, high), torch.where(reached, low, weight)
        weight = torch.where(high.isfinite(), (low + high) / 2, weight * _FIRST)
    return best, size


def _fista(call: Call, problem: _Problem, leads: Leads, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the smallest change that leads on the way of one weight (B,) of the margin, its size, and where it led.

    Both are (B,): by the latter the weight is enough, as something led in the second half of the way.

    Near the margin, which has an edge, steps go to and fro about the optimum: the mean of the later ones is nearer to
    it than each, and is tried too, longer or shorter so that the margin is just reached.
    """
    change = ahead = problem.first()
    best = total = problem.nothing()
    size, reached = torch.full_like(weight, torch.inf), torch.zeros_like(weight, dtype=torch.bool)

    def tried(given: Tensor, late: bool) -> tuple[Tensor, Tensor]:
        nonlocal best, size, reached
        lead, slope = _led(call, problem, leads, given)
        does = (lead > 0) & (lead >= problem.margin)
        better, reached = does & (problem.size(given) < size), reached | (does & late)
        best = torch.where(better[:, None, None, None], given, best)
        size = torch.where(better, problem.size(given), size)
        return lead, slope

    for step in range(problem.steps):
        lead, slope = tried(ahead, 2 * step >= problem.steps)
        pull = torch.where(lead < problem.margin + 1e-6, weight, 0.0)[:, None, None, None]
        rate = _RATE * (1 - step / problem.steps)
        moved = ahead - rate * (2 * ahead - pull * slope)
        moved = problem.within(moved.sign() * (moved.abs() - rate * problem.beta).clamp(min=0))
        ahead = problem.within(moved + _MOMENTUM * (moved - change))
        change = moved
        total = total + moved if 2 * step >= problem.steps else total
    given = total / max(1, problem.steps // 2)
    for _ in range(_ALONG):  # Newton steps along the mean, to where the margin is just reached
        lead, slope = tried(given, True)
        along = (slope * given).flatten(1).sum(1).clamp(min=_TINY)
        short = ((problem.margin - lead) / along + _PAST).clamp(-_REACH, _REACH)
        given = problem.within(given * (1 + short[:, None, None, None]))
    return best, size, reached


def _led(call: Call, problem: _Problem, leads: Leads, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much what is wanted leads after a change, (B,), and the gradient of that by the change."""
    change = change.detach().requires_grad_()
    lead = leads(logits_of(call.output(problem.start + problem.drawn(change))))
    call.cost.backwards += len(change)
    with torch.autocast(change.device.type, enabled=False):
        slope = torch.autograd.grad(lead.sum(), change)[0]
    return lead.detach(), slope
