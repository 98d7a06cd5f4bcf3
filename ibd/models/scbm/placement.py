"""Where the logit of a corrected concept goes, from which the others move.

"confidence" is the placement of Vandenhirtz et al. 2024: the logits of the corrected concepts become those
under which the correction is most probable, as far as the model holds them possible at all. Its region is that of a
likelihood-ratio test at a level, ``(eta - mean)' C_SS^-1 (eta - mean) <= chi2(level, |S|)``, and every logit stays on
the side of its mean on which the truth is.

Shapes: B images, K concepts, S the most concepts that are corrected in one image.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.models.scbm.gaussian import Block

_SHARPNESS = tuple(30.0**power for power in range(6))
_STEPS, _HALVINGS = 20, 30
_GAIN = 1e-6
_FAR = 700.0
"""Beyond that the exponential function of float64 is infinite."""


def confidence_bound(mean: Tensor, covariance: Tensor, truth: Tensor, known: Tensor, level: float) -> Tensor:
    """Return the logits of the known concepts at the bound of the confidence region, (B, K) float64; else the mean.

    A convex problem, ``min sum_k softplus(-d_k eta_k)`` with d = 1 for true and -1 for false, solved for all images at
    once by an interior-point method: Newton steps on it less the logarithms of what is left to the bounds.

    Args:
        mean: (B, K).
        covariance: (B, K, K).
        truth: (B, K), 0 or 1; ignored where not known.
        known: (B, K) bool.
        level: level of the region, above 0 and below 1.
    """
    mean = mean.double()
    block = Block.of(covariance.double(), known)
    side = torch.where(block.pick(truth.double()) > 0.5, 1.0, -1.0).to(mean.dtype)
    center = block.pick(mean)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(block.inner))
    precision = precision * side.unsqueeze(1) * side.unsqueeze(2)
    radius = _quantiles(level, known.shape[1]).to(mean.device)[known.sum(1)].unsqueeze(1)
    moved = _Region.of(precision, radius, side * center, block.filled.to(mean.dtype)).best()
    return block.put(center + side * moved, mean)


@cache
def _quantiles(level: float, count: int) -> Tensor:
    """Return the quantiles of chi-squared with 1 .. count degrees of freedom, preceded by a 1: (count + 1,)."""
    half = torch.arange(1, count + 1, dtype=torch.float64) / 2
    low, high = torch.zeros_like(half), torch.full_like(half, 1e4 + 10 * count)
    for _ in range(80):  # by bisection
        middle = (low + high) / 2
        below = torch.special.gammainc(half, middle / 2) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.cat([torch.ones(1, dtype=torch.float64), low])


class _Region(NamedTuple):
    """How far, z >= 0, logits go from their means towards the truth, with z' precision z <= radius."""

    precision: Tensor
    """(B, S, S), with the signs of the sides; an empty place has 1 with itself."""
    radius: Tensor
    """(B, 1)."""
    start: Tensor
    """(B, S) means, times their sides."""
    filled: Tensor
    """(B, S), 1 or 0 for an empty place."""
    steps: Tensor
    """(B, S) as far for each logit, to the bound."""
    scale: Tensor
    """(B, 1) one over the loss there: what is all but certain still has a direction."""

    @classmethod
    def of(cls, precision: Tensor, radius: Tensor, start: Tensor, filled: Tensor) -> _Region:
        region = cls(precision, radius, start, filled, filled, radius)
        steps = filled / region.squared(filled).clamp(min=1e-12).sqrt() * radius.sqrt()
        return region._replace(steps=steps, scale=1 / region.loss(steps).clamp(min=1e-300))

    def rows(self, chosen: Tensor) -> _Region:
        """Return the regions of some of the images."""
        return _Region(*(part[chosen] for part in self))

    def squared(self, z: Tensor) -> Tensor:
        """Return (B, 1) ``z' precision z``."""
        return (z * self.times(z)).sum(1, keepdim=True)

    def times(self, z: Tensor) -> Tensor:
        """Return (B, S) ``precision z``."""
        return (self.precision @ z.unsqueeze(2)).squeeze(2)

    def loss(self, z: Tensor) -> Tensor:
        """Return (B, 1) the negative logarithm of the probability of the correction."""
        return (self.filled * F.softplus((-self.start - z).clamp(min=-_FAR))).sum(1, keepdim=True)

    def value(self, z: Tensor, sharpness: float) -> Tensor:
        """Return (B, 1) what is minimized; infinite outside of the region."""
        left = self.radius - self.squared(z)
        inside = (left > 0) & (z.masked_fill(self.filled == 0, 1) > 0).all(1, keepdim=True)
        logs = left.clamp(min=1e-300).log() + (self.filled * z.clamp(min=1e-300).log()).sum(1, keepdim=True)
        return torch.where(inside, sharpness * self.scale * self.loss(z) - logs, torch.inf)

    def best(self) -> Tensor:
        """Return (B, S) the most probable z, on the bound."""
        z = 0.5 * self.steps
        for sharpness in _SHARPNESS:
            left = torch.arange(len(z), device=z.device)
            for _ in range(_STEPS):
                region, here = self.rows(left), z[left]
                step, gain = region.newton(here, sharpness)
                z[left] = region.along(here, step, gain, sharpness)
                left = left[(gain >= _GAIN).flatten()]
                if not len(left):
                    break
        return z * (self.radius / self.squared(z).clamp(min=1e-12)).sqrt()  # the loss falls all the way to the bound

    def newton(self, z: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
        """Return the Newton step, (B, S), and twice what it promises to gain, (B, 1)."""
        wrong = (-self.start - z).sigmoid()
        left, across = self.radius - self.squared(z), self.times(z) * self.filled
        reach = torch.where(self.filled > 0, z, 1.0)
        gradient = -sharpness * self.scale * wrong + 2 * across / left - 1 / reach
        bend = sharpness * self.scale * wrong * (1 - wrong) + 1 / reach.square()
        hessian = 2 * self.precision / left.unsqueeze(2) + 4 * across.unsqueeze(2) * across.unsqueeze(1) / (
            left.square().unsqueeze(2)
        )
        hessian = hessian + torch.diag_embed(bend)
        gradient = gradient * self.filled
        step = -_solved(hessian, gradient) * self.filled
        return step, -(gradient * step).sum(1, keepdim=True)

    def along(self, z: Tensor, step: Tensor, gain: Tensor, sharpness: float) -> Tensor:
        """Return where a step leads, shortened for each image until it improves."""
        length = torch.ones_like(gain)
        before = self.value(z, sharpness)
        for _ in range(_HALVINGS):
            worse = ~(self.value(z + length * step, sharpness) <= before - 0.1 * length * gain + 1e-12 * before.abs())
            if not bool(worse.any()):
                break
            length = torch.where(worse, length / 2, length)
        return torch.where(worse, z, z + length * step)


def _solved(matrix: Tensor, values: Tensor) -> Tensor:
    """Return (B, S) ``matrix^-1 values`` of positive definite (B, S, S), be they all but singular at the bound."""
    size = matrix.diagonal(dim1=1, dim2=2).rsqrt()
    scaled = matrix * size.unsqueeze(1) * size.unsqueeze(2)
    factor = torch.linalg.cholesky(scaled + 1e-10 * torch.eye(size.shape[1], dtype=size.dtype, device=size.device))
    return torch.cholesky_solve((size * values).unsqueeze(2), factor).squeeze(2) * size
