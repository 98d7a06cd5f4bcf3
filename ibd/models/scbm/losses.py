"""What a stochastic concept bottleneck is trained by (Vandenhirtz et al. 2024).

Shapes: B images, K concepts, C classes, M samples of the concept logits of each image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import sum_over_processes, world_size
from ibd.models.scbm.gaussian import widening


def draw(scores: Tensor, factor: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """Return (B, M, K) logits drawn from the Gaussian of each image.

    Args:
        scores: (B, K) marginal logits.
        factor: (B, K, R) or (1, K, R), whose squares are the covariances.
        samples: M.
        generator: source of the draws; None is torch's global one.
    """
    shape = (len(scores), samples, factor.shape[2])
    noise = torch.randn(shape, generator=generator, device=scores.device, dtype=factor.dtype)
    mean = scores * widening(factor.square().sum(2))
    return mean.unsqueeze(1) + noise @ factor.mT


def concept_likelihood(logits: Tensor, concepts: Tensor, together: bool = False) -> Tensor:
    """Return the negative logarithm of the probability of all of an image's concepts at once, averaged over images.

    ``-log 1/M sum_m prod_k sigmoid(eta_mk)^c_k (1 - sigmoid(eta_mk))^(1 - c_k)``, which for one concept alone is its
    cross-entropy. Unknown concepts are left out, and the sum over images is scaled by K / (known pairs), as that of a
    plain bottleneck.

    Args:
        logits: (B, M, K).
        concepts: (B, K) in [0, 1], NaN where unknown.
        together: whether to count the known pairs over all processes. Every process must then call this.
    """
    known = ~concepts.isnan()
    target = concepts.nan_to_num(0.0).to(logits.dtype).unsqueeze(1).expand_as(logits)
    entry = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known.unsqueeze(1)
    count = known.sum().float()
    count = sum_over_processes(count) / world_size() if together else count
    return -_mean_of_logs(-entry.sum(2)).sum() * (concepts.shape[1] / count.clamp(min=1))


def class_likelihood(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Return ``-log 1/M sum_m p(label | concepts of sample m)``, averaged over images, of (B, M, C) logits."""
    right = class_logits.log_softmax(2).gather(2, labels.view(-1, 1, 1).expand(-1, class_logits.shape[1], 1))
    return -_mean_of_logs(right.squeeze(2)).mean()


def _mean_of_logs(logs: Tensor) -> Tensor:
    return logs.logsumexp(1) - math.log(logs.shape[1])


def hard_concepts(logits: Tensor, temperature: float = 0.5) -> Tensor:
    """Return zeros and ones drawn by logits, (..., K), with the gradient of their relaxation (straight-through Gumbel).

    Args:
        logits: (..., K).
        temperature: temperature of the relaxation.
    """
    uniform = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
    relaxed = ((logits + uniform.logit()) / temperature).sigmoid()
    hard = (relaxed > 0.5).to(relaxed.dtype)
    return hard + (relaxed - relaxed.detach())


def precision_penalty(factor: Tensor) -> Tensor:
    """Return the mean size of the entries beside the diagonal of the precision, over (N, K, R) factors.

    A precision with few of them has few concepts that depend on each other given all others.

    In float64 where the device has it: in float32 a covariance of concepts that go together is soon no longer positive
    definite. A square factor is that of Cholesky already, and its product would lose half of the digits.
    """
    count = factor.shape[1]
    exact = factor if factor.device.type == "mps" else factor.double()
    lower = exact if factor.shape[2] == count else torch.linalg.cholesky(exact @ exact.mT)
    precision = torch.cholesky_inverse(lower)
    beside = precision.abs().sum((1, 2)) - precision.diagonal(dim1=1, dim2=2).abs().sum(1)
    return (beside.mean() / max(1, count * (count - 1))).to(factor.dtype)
