"""Turning the first K axes towards their concepts, while all axes stay orthonormal.

Shapes: K concepts, D axes; R (D, D) orthogonal, its rows the axes; G (K, D) the gradient of what is minimized with
respect to the first K rows.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix: TypeAlias = npt.NDArray[np.float64]

_ARMIJO, _CURVATURE = 1e-4, 0.9
_MOST_TRIALS = 60
_NOTHING_LEFT = 1e-9
"""Share of the gradient that is still along the manifold."""


@torch.no_grad()
def cayley_step(rotation: Tensor, gradient: Tensor, steps: int = 2) -> Tensor:
    """Return R after steps along Cayley curves on the Stiefel manifold, each with a line search (Wen and Yin 2013).

    The curve is ``Y(t) = (I + t/2 A)^-1 (I - t/2 A) R`` with the skew ``A = G R^T - R G^T``, on which ``<G, Y(t)>`` is
    made small until the Wolfe conditions hold. As only K rows of G are not zero, ``A = U V^T`` with U = [E, B],
    V = [B, -E], B = R G^T and E the first K columns of the identity; by the Woodbury identity a step costs O(K D^2),
    and everything in the line search is 2K x 2K. Computed in float64: the published code, in float32, drifts away
    from orthogonality by 5e-7 with every update.

    Args:
        rotation: (D, D), orthogonal.
        gradient: (K, D); a row of zeros leaves its axis without a pull of its own.
        steps: number of steps.

    Returns:
        (D, D) in the dtype of `rotation`.
    """
    r, g = rotation.to("cpu", torch.float64, copy=True), gradient.to("cpu", torch.float64)
    for _ in range(steps):
        _step_(r, g)
    return r.to(rotation)


def _step_(r: Tensor, g: Tensor) -> None:
    """Take one step, in place: ``Y = R - tau U M V^T R`` with the tau and M of the line search.

    B enters without the symmetric part of its first rows, which A does not contain, and divided by its norm: U and V
    would otherwise cancel in A where little is left to do, and the rotation would not be one any more.

    What is large in torch, whose products of thin matrices are the faster ones if written like this (``b.mT @ r`` takes
    20 times as long), and what is small in NumPy, whose calls are cheaper. On the CPU whatever the device: the matrices
    are small, and float64 is slow or missing elsewhere.
    """
    count = len(g)
    product = r @ g.mT
    b = product.numpy()
    unit = b.copy()
    unit[:count] -= (b[:count] + b[:count].T) / 2
    size = float(np.linalg.norm(unit))
    if size <= _NOTHING_LEFT * float(np.linalg.norm(b)):
        return
    unit /= size
    tau, inverse = _search(b, unit, size)
    rows, moving = r.numpy()[:count], torch.from_numpy(unit)
    change = (-tau * inverse) @ np.concatenate([(r.mT @ moving).numpy().T, -rows])
    r.addmm_(moving, torch.from_numpy(change[count:]))
    rows += change[:count]


def _search(b: Matrix, unit: Matrix, size: float) -> tuple[float, Matrix]:
    """Return a tau at which the Wolfe conditions hold, and ``M(tau)``.

    With ``M(tau) = (I + tau/2 V^T U)^-1`` and ``L = V^T R G^T U``, both (2K, 2K), what is minimized changes by
    ``-tau tr(M L)`` along the curve, and its derivative is ``-tr(M M L)``.

    Args:
        b: (D, K), ``R G^T``.
        unit: (D, K), what takes its place in U and V.
        size: size that `unit` is divided by; t is tau divided by it.
    """
    count = b.shape[1]
    eye, skew = np.eye(2 * count), unit[:count]
    inner, target = np.empty_like(eye), np.empty_like(eye)  # V^T U, L
    inner[:count, :count], inner[:count, count:] = skew.T, unit.T @ unit
    inner[count:, :count], inner[count:, count:] = -eye[:count, :count], -skew
    target[:count, :count], target[count:, :count] = unit.T @ b, -b[:count]
    target[:, count:] = target[:, :count] @ skew
    first = -float(target.trace())  # the derivative at 0: -|A|^2 / (2 size)
    low, high, tau = 0.0, float("inf"), 2 * (size / (-2 * first)) ** 0.5  # turns the steepest plane by about 90 degrees
    for _ in range(_MOST_TRIALS):
        inverse = np.linalg.inv(eye + tau / 2 * inner)
        product = inverse @ target
        if -tau * product.trace() > _ARMIJO * tau * first:
            high, tau = tau, (low + tau) / 2
        elif -(inverse * product.T).sum() < _CURVATURE * first:
            low, tau = tau, 2 * tau if high == float("inf") else (tau + high) / 2
        else:
            return tau, inverse
    return 0.0, inverse


@torch.no_grad()
def procrustes(rotation: Tensor, gradient: Tensor) -> Tensor:
    """Return R whose first K rows minimize ``<G, R>`` outright; the other rows turn no more than they have to.

    The rows are the polar factor of -G (Schoenemann 1966). What is minimized is linear in R for the activation "mean",
    so that this is its optimum; for the others it is where its tangent leads. Axes without a gradient stay as close to
    where they were as the others allow.

    Args:
        rotation: (D, D), orthogonal.
        gradient: (K, D).

    Returns:
        (D, D) in the dtype of `rotation`.
    """
    r, g = rotation.double(), gradient.double()
    old = r[: len(g)]
    norms = g.norm(dim=1, keepdim=True)
    pulled = torch.where(norms > 0, -g, 1e-3 * norms.max().clamp_min(1e-30) * old)
    left, _, right = torch.linalg.svd(pulled, full_matrices=False)
    new = left @ right
    basis = torch.linalg.qr(torch.cat([old, new]).mT)[0]  # (D, r) around all that turns
    before, after = old @ basis, new @ basis
    turn = after.mT @ before
    rest_before, rest_after = _complement(before), _complement(after)
    if rest_before.shape[1]:
        left, _, right = torch.linalg.svd(rest_after.mT @ rest_before)
        turn = turn + rest_after @ (left @ right) @ rest_before.mT
    moved = (r @ basis) @ (turn.mT - torch.eye(len(turn), dtype=r.dtype, device=r.device))
    result: Tensor = r + moved @ basis.mT
    return result.to(rotation.dtype)


def _complement(rows: Tensor) -> Tensor:
    """Return (r, r - K) orthonormal columns that are orthogonal to (K, r) orthonormal rows."""
    columns: Tensor = torch.linalg.qr(rows.mT, mode="complete")[0]
    return columns[:, len(rows) :]
