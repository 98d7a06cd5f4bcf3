"""What corrected concepts say of the others, as a graph of a fixed form: `ibd.models.scbm.gaussian` for any batch.

The same Newton steps, halved as there until they improve; but over all concepts, with those that nobody corrected
masked out, where the original cuts out the corrected ones. ONNX knows no Cholesky factor: the matrices, which are
positive definite, are solved by elimination. The check of every export compares both.

Shapes: B images, K concepts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.models.scbm.gaussian import Marginals, widening
from ibd.models.scbm.network import StochasticConceptBottleneckNetwork
from ibd.types import Units

_STEPS, _HALVINGS = 100, 40
_TOLERANCE = 1e-9


def check_placement(network: StochasticConceptBottleneckNetwork) -> None:
    """Check that a network's corrections can be written as a graph.

    Raises:
        UnsupportedError: they cannot.
    """
    if network.placement == "confidence":
        raise UnsupportedError(
            "edit: the bound of a confidence region (model.placement=confidence) is searched for by an interior-point "
            "method that no graph has: leave the part out, or take model.placement=posterior"
        )


def marginals(network: StochasticConceptBottleneckNetwork, units: Units, truth: Tensor) -> Marginals:
    """Return what ``network.marginals`` does: what each concept logit is like, given the truth of some.

    Args:
        network: network, of the placement "posterior" or "percentile".
        units: units of B images.
        truth: (B, K), NaN where unknown.
    """
    known, factor = ~truth.isnan(), network.factor(units).double()
    truth = truth.masked_fill(~known, 0.0).double()
    variance = factor.square().sum(2)
    covariance = factor @ factor.mT
    mean = units.state[0].double() * widening(variance)
    if network.placement == "posterior":
        return posterior(mean, covariance, variance, truth, known)
    certain = known & ((truth == 0) | (truth == 1))
    value = torch.logit(truth.clamp(1e-6, 1 - 1e-6))
    ends = network.between_percentiles(truth.to(units.scores.dtype)).double()
    return condition(mean, covariance, variance, torch.where(certain, ends, value) * widening(variance), known)


def condition(mean: Tensor, covariance: Tensor, variance: Tensor, value: Tensor, known: Tensor) -> Marginals:
    """Return the marginals given that the logits of the known concepts have these values.

    Args:
        mean: (B, K) float64.
        covariance: (B, K, K), or (1, K, K) where all images have the same.
        variance: its diagonal, (B, K) or (1, K).
        value: (B, K), ignored where not known.
        known: (B, K) bool.
    """
    count = mean.shape[1]
    both = known.unsqueeze(2) & known.unsqueeze(1)
    inner = torch.where(both, covariance, torch.eye(count, dtype=mean.dtype))
    cross = torch.where(known.unsqueeze(1), covariance, 0.0)  # (B, K, K): of all concepts with the known ones
    shift = torch.where(known, value - mean, 0.0).unsqueeze(2)
    solved = _solved(inner, torch.cat([shift, cross.mT], 2))
    moved = mean + (cross @ solved[..., :1]).squeeze(2)
    left = (variance - (cross * solved[..., 1:].mT).sum(2)).clamp(min=0)
    return Marginals(torch.where(known, value, moved), left.masked_fill(known, 0))


def posterior(mean: Tensor, covariance: Tensor, variance: Tensor, truth: Tensor, known: Tensor) -> Marginals:
    """Return the marginals given the truth of the known concepts, by Laplace's approximation.

    Args:
        mean: (B, K) float64.
        covariance: (B, K, K), or (1, K, K) where all images have the same.
        variance: its diagonal, (B, K) or (1, K).
        truth: (B, K) in [0, 1], ignored where not known.
        known: (B, K) bool.
    """
    inner = torch.where(known.unsqueeze(2) & known.unsqueeze(1), covariance, 0.0)

    def going(step: Tensor, moved: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
        return (step < _STEPS) & (moved > _TOLERANCE)

    def newton(step: Tensor, moved: Tensor, weight: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        probability = (mean + shift).sigmoid()
        slope = torch.where(known, probability * (1 - probability), 0.0)
        ahead = slope * shift + torch.where(known, truth - probability, 0.0)
        root = slope.sqrt()
        told = (root * _times(inner, ahead)).unsqueeze(2)
        wanted = ahead - root * _solved(_one_plus(root, inner), told).squeeze(2)
        weight = _improved(mean, truth, known, weight, shift, wanted, _times(inner, wanted))
        there = _times(inner, weight)
        return step + 1, ((there - shift).abs() / (1 + there.abs())).amax((0, 1)), weight, there

    none = torch.zeros_like(mean)
    start = (torch.zeros((), dtype=torch.int64), torch.ones((), dtype=mean.dtype), none, none.clone())
    _, _, weight, shift = while_loop(going, newton, start)  # type: ignore[no-untyped-call]
    probability = (mean + shift).sigmoid()
    root = torch.where(known, probability * (1 - probability), 0.0).sqrt()
    told = root.unsqueeze(2) * covariance  # (B, K, K): of the known concepts with all
    taken = (told * _solved(_one_plus(root, inner), told)).sum(1)
    return Marginals(mean + _times(covariance, weight), (variance - taken).clamp(min=0))


def _improved(
    mean: Tensor, truth: Tensor, known: Tensor, weight: Tensor, shift: Tensor, wanted: Tensor, far: Tensor
) -> Tensor:
    """Return the weights after the first of the halved steps that does not make the logits less probable, (B, K)."""
    length = 0.5 ** torch.arange(_HALVINGS + 1, dtype=mean.dtype)
    length = torch.cat([length, length.new_zeros(1)]).view(1, -1, 1)  # the last is no step, to compare with
    there = weight.unsqueeze(1) + length * (wanted - weight).unsqueeze(1)
    moved = shift.unsqueeze(1) + length * (far - shift).unsqueeze(1)
    logits = mean.unsqueeze(1) + moved
    likely = torch.where(known.unsqueeze(1), truth.unsqueeze(1) * logits - F.softplus(logits), 0.0)
    value = likely.sum(2) - (there * moved).sum(2) / 2  # (B, halvings + 2)
    least = value[:, -1:]
    good = value >= least - 1e-12 * (1 + least.abs())
    first = (good * torch.arange(good.shape[1], 0, -1)).argmax(1).view(-1, 1, 1)  # the last one is good
    return there.gather(1, first.expand(-1, 1, there.shape[2])).squeeze(1)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(2)).squeeze(2)


def _one_plus(root: Tensor, inner: Tensor) -> Tensor:
    """Return ``1 + root inner root`` of (B, K) and (B, K, K)."""
    return torch.eye(root.shape[1], dtype=root.dtype) + root.unsqueeze(2) * inner * root.unsqueeze(1)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """Return ``matrix^-1 right`` of positive definite (B, K, K) and (B, K, R), by Gauss-Jordan elimination."""
    count = matrix.shape[1]

    def going(k: Tensor, both: Tensor) -> Tensor:
        return k < count

    def eliminate(k: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
        here = k.view(1)
        row, column = both.index_select(1, here), both.index_select(2, here)
        row = row / row.index_select(2, here)
        one = (torch.arange(count) == here).to(both.dtype).view(1, -1, 1)
        return k + 1, both - (column - one) * row

    start = (torch.zeros((), dtype=torch.int64), torch.cat([matrix, right], 2))
    solved: Tensor = while_loop(going, eliminate, start)[1]  # type: ignore[no-untyped-call]
    return solved[:, :, count:]
