"""A Gaussian over the concept logits of an image, and what corrected concepts say of the others.

Shapes: B images, K concepts, S the most concepts that are corrected in one image. A concept holds with probability
``sigmoid(eta)``, and its logit is drawn, ``eta ~ N(mean, covariance)`` (Vandenhirtz et al., NeurIPS 2024).

The scores of a bottleneck are *marginal* logits, whose sigmoid is the probability of the concept over these draws:
``E sigmoid(eta) = sigmoid(mean / sqrt(1 + pi / 8 variance))`` within 0.02 (MacKay 1992). So a score means the same with
and without a covariance, and the mean is computed from it.

Everything here is in float64, as covariances may be close to singular.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS, _HALVINGS = 100, 40
_TOLERANCE = 1e-9


class Marginals(NamedTuple):
    """What each concept logit is like by itself, given what is known of others."""

    mean: Tensor
    """(B, K) float64."""
    variance: Tensor
    """(B, K) float64; 0 where the logit itself is given."""


def widening(variance: Tensor) -> Tensor:
    """Return ``sqrt(1 + pi / 8 variance)``: mean over marginal logit, (..., K) of (..., K)."""
    return (1 + math.pi / 8 * variance).sqrt()


def condition(mean: Tensor, covariance: Tensor, value: Tensor, known: Tensor) -> Marginals:
    """Return the marginals given that the logits of the known concepts have these values.

    ``mean_j + C_jS C_SS^-1 (value_S - mean_S)``, and ``C_jj - C_jS C_SS^-1 C_Sj`` (Vandenhirtz et al. 2024). All are
    conditioned on at once, so the order in which they became known does not matter.

    Args:
        mean: (B, K).
        covariance: (B, K, K).
        value: (B, K), ignored where not known.
        known: (B, K) bool.
    """
    mean, block = mean.double(), Block.of(covariance.double(), known)
    shift = block.pick(value.double() - mean)
    factor = torch.linalg.cholesky(block.inner)
    solved = torch.cholesky_solve(shift.unsqueeze(2), factor)
    told = torch.linalg.solve_triangular(factor, block.cross.mT, upper=False)
    moved = mean + (block.cross @ solved).squeeze(2)
    left = (covariance.double().diagonal(dim1=1, dim2=2) - told.square().sum(1)).clamp(min=0)
    return Marginals(torch.where(known, value.double(), moved), left.masked_fill(known, 0))


def posterior(mean: Tensor, covariance: Tensor, truth: Tensor, known: Tensor) -> Marginals:
    """Return the marginals given the truth of the known concepts, by Laplace's approximation.

    The logits of the known concepts become the most probable ones, and the others follow: unlike `condition`, what was
    sure to be true before tells nothing new. As in Rasmussen and Williams 2006, algorithm 3.1, whose Newton steps are
    halved until they improve.

    Args:
        mean: (B, K).
        covariance: (B, K, K).
        truth: (B, K) in [0, 1], ignored where not known.
        known: (B, K) bool.
    """
    mean, block = mean.double(), Block.of(covariance.double(), known)
    start, target = block.pick(mean), block.pick(truth.double())
    weight, shift = (torch.zeros_like(start) for _ in range(2))  # shift = block.inner @ weight
    for _ in range(_STEPS):
        probability = (start + shift).sigmoid()
        slope = block.only(probability * (1 - probability))
        ahead = slope * shift + block.only(target - probability)
        root = slope.sqrt()
        factor = torch.linalg.cholesky(_one_plus(root, block.inner))
        inner = (root * (block.inner @ ahead.unsqueeze(2)).squeeze(2)).unsqueeze(2)
        wanted = ahead - root * torch.cholesky_solve(inner, factor).squeeze(2)
        length = _improving(start, target, block, weight, shift, wanted)
        weight = weight + length * (wanted - weight)
        before, shift = shift, (block.inner @ weight.unsqueeze(2)).squeeze(2)
        if bool(((shift - before).abs() <= _TOLERANCE * (1 + shift.abs())).all()):
            break
    told = torch.linalg.solve_triangular(factor, root.unsqueeze(2) * block.cross.mT, upper=False)
    left = (covariance.double().diagonal(dim1=1, dim2=2) - told.square().sum(1)).clamp(min=0)
    return Marginals(mean + (block.cross @ weight.unsqueeze(2)).squeeze(2), left)


def _improving(start: Tensor, target: Tensor, block: Block, weight: Tensor, shift: Tensor, wanted: Tensor) -> Tensor:
    """Return (B, 1) how far to go from `weight` to `wanted`, so that the logits become more probable."""

    def value(length: Tensor) -> Tensor:
        there = weight + length * (wanted - weight)
        moved = shift + length * (far - shift)
        logits = start + moved
        likely = block.only(target * logits - F.softplus(logits)).sum(1)
        return likely - (there * moved).sum(1) / 2

    far = (block.inner @ wanted.unsqueeze(2)).squeeze(2)
    length = torch.ones_like(start[:, :1])
    least = value(torch.zeros_like(length))
    for _ in range(_HALVINGS):
        worse = value(length) < least - 1e-12 * (1 + least.abs())
        if not bool(worse.any()):
            break
        length = torch.where(worse.unsqueeze(1), length / 2, length)
    return length


def _one_plus(root: Tensor, inner: Tensor) -> Tensor:
    """Return ``1 + root inner root`` of (B, S) and (B, S, S)."""
    return torch.eye(root.shape[1], dtype=root.dtype, device=root.device) + root.unsqueeze(2) * inner * root.unsqueeze(
        1
    )


class Block(NamedTuple):
    """The known concepts of each image, put together; images with fewer of them have empty places."""

    chosen: Tensor
    """(B, S) which concepts they are."""
    filled: Tensor
    """(B, S) bool."""
    inner: Tensor
    """(B, S, S) their covariance; that of an empty place is 1 with itself."""
    cross: Tensor
    """(B, K, S) the covariance of all concepts with them; 0 with an empty place."""

    @classmethod
    def of(cls, covariance: Tensor, known: Tensor) -> Block:
        """Return the block of the known concepts, (B, K) bool, of (B, K, K) covariances."""
        most = max(1, int(known.sum(1).max())) if len(known) else 1
        index = known.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
        filled = known.gather(1, index)
        cross = covariance.gather(2, index.unsqueeze(1).expand(-1, known.shape[1], -1))
        inner = cross.gather(1, index.unsqueeze(2).expand(-1, -1, most))
        empty = torch.eye(most, dtype=covariance.dtype, device=covariance.device)
        inner = torch.where(filled.unsqueeze(1) & filled.unsqueeze(2), inner, empty)
        return cls(index, filled, inner, cross * filled.unsqueeze(1))

    def pick(self, values: Tensor) -> Tensor:
        """Return (B, S) of (B, K); 0 in empty places."""
        return self.only(values.gather(1, self.chosen))

    def only(self, values: Tensor) -> Tensor:
        """Return (B, S) values with 0 in empty places, whatever is there."""
        return torch.where(self.filled, values, 0.0)

    def put(self, values: Tensor, into: Tensor) -> Tensor:
        """Return (B, K) with (B, S) values at the known concepts."""
        return into.scatter(1, self.chosen, torch.where(self.filled, values, into.gather(1, self.chosen)))
