"""Scales and offsets that make probabilities right (Guo et al., ICML 2017; Platt 1999), by convex fits in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import DataError

Method = Literal["temperature", "vector", "none"]


@dataclass(frozen=True)
class Scaling:
    """``scale * scores + offset``, in the place of scores whose softmax or sigmoid is a probability.

    Attributes:
        method: "temperature": one scale for all, and no offset; "vector": a scale and an offset for each class or
            concept; "none": the scores as they are.
        scale: one number, or one for each; above 0.
        offset: empty, or one number for each.
        images: images that it was fitted on.
    """

    method: Method = "none"
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = ()
    images: int = 0

    @property
    def temperature(self) -> float:
        """The divisor of the scores, where there is one for all."""
        return 1 / self.scale[0]

    def __call__(self, scores: Tensor) -> Tensor:
        """Return what takes the place of (N, C) scores."""
        scaled = scores * torch.tensor(self.scale, dtype=scores.dtype, device=scores.device)
        if not self.offset:
            return scaled
        return scaled + torch.tensor(self.offset, dtype=scores.dtype, device=scores.device)


def fit_classes(scores: Tensor, labels: Tensor, method: Method) -> Scaling:
    """Return the scaling of class scores with the least cross-entropy.

    Minimized is the sum of the cross-entropies and of a prior of the weight of one image, see `_prior`.

    Args:
        scores: (N, C) whose softmax are the probabilities as they are.
        labels: (N,) true classes.
        method: form of the scaling.

    Raises:
        DataError: a score is no number.
    """
    return _fit(scores, method, lambda scaled: F.cross_entropy(scaled, labels, reduction="sum"))


def fit_concepts(log_odds: Tensor, truth: Tensor, method: Method) -> Scaling:
    """Return the scaling of concepts' log-odds with the least binary cross-entropy over what is known.

    A concept of which nothing is known stays as it is; one that is always, or never, true gets a finite scale and
    offset, by the prior of `fit_classes`.

    Args:
        log_odds: (N, K) ``log(p / (1 - p))`` of the probabilities as they are.
        truth: (N, K) in [0, 1], NaN where unknown.
        method: form of the scaling.

    Raises:
        DataError: a score is no number.
    """
    known = ~truth.isnan()
    target = torch.where(known, truth, 0.0).double()

    def loss(scaled: Tensor) -> Tensor:
        return (F.binary_cross_entropy_with_logits(scaled, target, reduction="none") * known).sum()

    return _fit(log_odds, method, loss)


def _fit(scores: Tensor, method: Method, loss: Callable[[Tensor], Tensor]) -> Scaling:
    """Return the scaling that minimizes a convex loss of the scaled scores, a sum over images, and the prior."""
    if not bool(scores.isfinite().all()):
        raise DataError("a score of the images to calibrate on is no finite number: has the training failed?")
    if method == "none" or not scores.numel():
        return Scaling(images=len(scores))
    scores, count = scores.double(), scores.shape[1]
    vector = method == "vector"
    log_scale = torch.zeros(count if vector else 1, dtype=torch.float64, device=scores.device)
    offset = torch.zeros(count if vector else 0, dtype=torch.float64, device=scores.device)

    def objective() -> Tensor:
        scaled = scores * log_scale.exp() + (offset if vector else 0.0)
        return (loss(scaled) + _prior(log_scale, offset)) / len(scores)

    _minimize(objective, [log_scale, offset] if vector else [log_scale])
    return Scaling(method, tuple(log_scale.exp().tolist()), tuple(offset.tolist()), len(scores))


def _prior(log_scale: Tensor, offset: Tensor) -> Tensor:
    """Return ``sum(s - 1 - log s) + sum(b^2) / 2``, which is 0 for what changes nothing, and convex.

    Where all images are right, the cross-entropy alone would make the scale infinite, and every probability 1.
    """
    return (log_scale.exp() - 1 - log_scale).sum() + offset.square().sum() / 2


@torch.enable_grad()
def _minimize(objective: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """Minimize by L-BFGS with a strong Wolfe line search, in place.

    In the logarithm of the scale, which keeps it above 0; the one stationary point of a convex function stays one.
    """
    for parameter in parameters:
        parameter.requires_grad_()
    solver = torch.optim.LBFGS(
        parameters, max_iter=1000, tolerance_grad=1e-10, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        solver.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(step)  # type: ignore[no-untyped-call]
    for parameter in parameters:
        parameter.requires_grad_(False)
