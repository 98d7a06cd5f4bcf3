"""What correcting a concept group is good for, as the policies of `ibd.models.cbm.policies` have it.

Shapes: N images, K concepts, G groups, C classes, R numbers that the head reads. Source: Shin et al. 2023 (UCP, LCP,
CCTP, ECTP, EUDTP).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.models.cbm.bottleneck import Beliefs, Bottleneck

Score = Callable[[Bottleneck, Beliefs, Tensor, Tensor], Tensor]
"""(bottleneck, what stands in it, (N, K) bool what was told, (N, G) bool which groups were not) -> (N, G) scores."""


def by_group(bottleneck: Bottleneck, values: Tensor) -> Tensor:
    """Return the sum of (N, K) values over the concepts of each group, (N, G)."""
    return torch.stack([values[:, list(group)].sum(1) for group in bottleneck.groups], 1)


def binary_entropy(probability: Tensor) -> Tensor:
    """Return the entropy of each concept, (N, K) float64, in nats; 0 for quantities, of which none is predicted."""
    p = probability.double().clamp(1e-12, 1 - 1e-12)
    return -(p * p.log() + (1 - p) * (1 - p).log()).nan_to_num(0.0)


def uncertainty(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return the sum of the entropies of each group's concepts, (N, G) (UCP): quantities come last."""
    return by_group(bottleneck, binary_entropy(beliefs.probability))


def concept_error(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return the sum of ``|c - p|`` over each group's known concepts, (N, G) (LCP): it looks at the truth.

    A quantity is off by so many standard deviations.
    """
    error = (bottleneck.truth - beliefs.probability).abs()
    if bottleneck.error is not None:
        off = (bottleneck.corrected - beliefs.reads).abs()[:, bottleneck.columns[:, 0]]
        error = torch.where(bottleneck.quantities, off, error)
    return by_group(bottleneck, error.double().nan_to_num(0.0))


def contribution(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return the sum of ``|r . dy/dr|`` over the class logits y and each group's concepts, (N, G) (CCTP).

    r is what the head reads of a concept: a number, or several.
    """
    columns, reads = bottleneck.columns, beliefs.reads
    if bottleneck.weight is not None and columns.shape[1] == 1:
        carried = (reads.abs() * bottleneck.weight.abs().sum(0))[:, columns[:, 0]]
        return by_group(bottleneck, carried)
    carried = torch.zeros_like(bottleneck.probability, dtype=reads.dtype)
    for slope in _slopes(bottleneck, reads):
        carried += (reads * slope)[:, columns].sum(2).abs()
    return by_group(bottleneck, carried)


def _slopes(bottleneck: Bottleneck, reads: Tensor) -> Iterator[Tensor]:
    """Yield the slope of the logit of each class by what the head reads, (N, R) or (R,)."""
    if bottleneck.weight is not None:
        yield from bottleneck.weight
        return
    with torch.enable_grad():
        reads = reads.detach().requires_grad_()
        logits = bottleneck.classify(reads)
        for one in range(logits.shape[1]):
            yield torch.autograd.grad(logits[:, one].sum(), reads, retain_graph=True)[0]


def variance(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor) -> Tensor:
    """Return how much variance of the concept probabilities each correction would take away, (N, G).

    Of a concept with probability p it is ``(p (1 - p))^2`` times the variance of its logit, to first order. What is
    left of the latter is that of the Gaussian without the group, whatever the correction would say.
    """
    assert beliefs.variance is not None
    assert bottleneck.given is not None
    slope = (beliefs.probability * (1 - beliefs.probability)).double().square()
    gains = torch.zeros_like(left, dtype=torch.float64)
    for index, group in enumerate(bottleneck.groups):
        rows = left[:, index].nonzero().flatten()
        if not len(rows):
            continue
        truth = bottleneck.truth.masked_fill(~told, torch.nan)[rows]
        truth[:, list(group)] = (beliefs.probability[rows][:, list(group)] > 0.5).to(truth.dtype)
        after = bottleneck.given(truth, rows).variance
        assert after is not None
        gains[rows, index] = (slope[rows] * (beliefs.variance[rows] - after)).sum(1)
    return gains


Gain = Callable[[Tensor, Tensor], Tensor]
"""(n, C) class logits before and after a correction -> (n,) what it was good for."""


def change(before: Tensor, after: Tensor) -> Tensor:
    """Return KL(after || before) of the class probabilities, (n,)."""
    return F.kl_div(before.log_softmax(1), after.log_softmax(1), log_target=True, reduction="none").sum(1)


def certainty(before: Tensor, after: Tensor) -> Tensor:
    """Return by how much the entropy of the class probabilities falls, (n,)."""
    first, then = before.log_softmax(1), after.log_softmax(1)
    return (then.exp() * then).sum(1) - (first.exp() * first).sum(1)


def expected_gains(bottleneck: Bottleneck, beliefs: Beliefs, told: Tensor, left: Tensor, gain: Gain = change) -> Tensor:
    """Return what correcting each group is expected to be good for, (N, G): of ECTP and EUDTP.

    Args:
        bottleneck: bottleneck for its head and groups.
        beliefs: what stands in it now.
        told: (N, K) bool: what was told.
        left: (N, G) bool: which groups were not.
        gain: what a correction is good for.

    Raises:
        UnsupportedError: nobody knows how far a quantity is off.
    """
    if bottleneck.error is not None and bool(bottleneck.error[bottleneck.quantities].isnan().any()):
        raise UnsupportedError(
            "expected_change, expected_certainty: this checkpoint does not know how far its quantities are off: its "
            "run was killed before the end; continue it with `ibd fit resume=RUN`"
        )
    now = bottleneck.classify(beliefs.reads)
    scores = torch.full(left.shape, -torch.inf, dtype=beliefs.reads.dtype, device=left.device)
    for index in range(len(bottleneck.groups)):
        rows = left[:, index].nonzero().flatten()
        if len(rows):
            scores[rows, index] = expected_gain(bottleneck, beliefs, now, told, rows, index, gain)
    return scores


def expected_gain(
    bottleneck: Bottleneck,
    beliefs: Beliefs,
    now: Tensor,
    told: Tensor,
    rows: Tensor,
    index: int,
    gain: Gain = change,
) -> Tensor:
    """Return what correcting a group is expected to be good for, (n,).

    The expectation is over what the correction may turn out to be, by the probabilities of now: for an exclusive group,
    which of its concepts holds, or that none does; else the mean over its concepts of being present or absent. A
    quantity may turn out to be as much higher or lower as it is off in the validation images, both equally likely.

    Args:
        bottleneck: bottleneck for its head and groups.
        beliefs: what stands in it now.
        now: (N, C) its logits.
        told: (N, K) bool: what was told.
        rows: (n,) the images asked about.
        index: index of the group.
        gain: what a correction is good for.
    """
    current, before, probability = beliefs.reads[rows], now[rows], beliefs.probability[rows]
    total = torch.zeros(len(rows), device=current.device, dtype=current.dtype)
    for concepts, holds, weight in _outcomes(bottleneck, probability, index):
        if bottleneck.given is not None:
            truth = bottleneck.truth.masked_fill(~told, torch.nan)[rows]
            truth[:, concepts] = holds.to(truth.dtype)
            after = bottleneck.classify(bottleneck.given(truth, rows).reads)
        else:
            after = _after(
                bottleneck, current, before, bottleneck.of(concepts), bottleneck.turned_out(rows, concepts, holds)
            )
        total += weight * gain(before, after)
    return total


def _after(bottleneck: Bottleneck, current: Tensor, before: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Return the (n, C) logits with some of what the head reads replaced; `before` are those without."""
    if bottleneck.weight is not None:
        return before + (values - current[:, columns]) @ bottleneck.weight[:, columns].t()
    edited = current.clone()
    edited[:, columns] = values
    return bottleneck.classify(edited)


def _outcomes(bottleneck: Bottleneck, probability: Tensor, index: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield what a correction may turn out to be: concepts, which of them hold, and the (n,) weight."""
    group = list(bottleneck.groups[index])
    device = probability.device
    if bottleneck.exclusive[index]:
        total = probability[:, group].sum(1)
        for k in group:
            holds = torch.tensor([other == k for other in group], device=device)
            yield group, holds, probability[:, k] / total.clamp(min=1)
        yield group, torch.zeros(len(group), dtype=torch.bool, device=device), (1 - total).clamp(min=0)
        return
    likely = probability.nan_to_num(0.5)  # a quantity is as likely higher as lower
    for k in group:
        yield [k], torch.tensor([True], device=device), likely[:, k] / len(group)
        yield [k], torch.tensor([False], device=device), (1 - likely[:, k]) / len(group)
