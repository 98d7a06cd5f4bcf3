"""Turning the first K axes towards their concepts, while all axes stay orthonormal.

Shapes: K concepts, D axes; R (D, D) orthogonal, its rows the axes; G (K, D) the gradient of what is minimised with
respect to the first K rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ARMIJO, _CURVATURE = 1e-4, 0.9
_MOST_TRIALS = 60


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
        steps: how many.

    Returns:
        (D, D) in the dtype of `rotation`.
    """
    r, g = rotation.double(), gradient.double()
    for _ in range(steps):
        r = _step(r, g)
    return r.to(rotation.dtype)


def _step(r: Tensor, g: Tensor) -> Tensor:
    count = len(g)
    eye = torch.eye(2 * count, dtype=r.dtype, device=r.device)
    b = r @ g.mT
    top = b[:count]
    v = torch.cat([(r.mT @ b).mT, -r[:count]])  # V^T R; written so because BLAS takes 20 times as long for b.mT @ r
    inner = torch.cat([torch.cat([top.mT, b.mT @ b], 1), torch.cat([-eye[:count, :count], -top], 1)])  # V^T U
    slope = v @ g.mT @ torch.cat([eye[:count, :count], top], 1)  # <G, Y(t)> = <G, R> - t tr((I + t/2 V^T U)^-1 slope)
    first = -float(slope.trace())  # the derivative at 0: -|A|^2 / 2
    if first > -1e-30:
        return r
    low, high, t = 0.0, float("inf"), 2.0 / (-2 * first) ** 0.5  # turns the steepest plane by about 90 degrees
    for _ in range(_MOST_TRIALS):
        solved = torch.linalg.solve(eye + t / 2 * inner, torch.cat([slope, inner], 1))
        change = -t * float(solved[:, : 2 * count].trace())
        if change > _ARMIJO * t * first:
            high, t = t, (low + t) / 2
            continue
        curved = solved[:, 2 * count :] @ solved[:, : 2 * count]
        if -float(solved[:, : 2 * count].trace()) + t / 2 * float(curved.trace()) < _CURVATURE * first:
            low, t = t, 2 * t if high == float("inf") else (t + high) / 2
            continue
        break
    x = torch.linalg.solve(eye + t / 2 * inner, v)
    result: Tensor = torch.addmm(r, b, x[count:].contiguous(), alpha=-t)
    result[:count] -= t * x[:count]
    return result


@torch.no_grad()
def procrustes(rotation: Tensor, gradient: Tensor) -> Tensor:
    """Return R whose first K rows minimise ``<G, R>`` outright; the other rows turn no more than they have to.

    The rows are the polar factor of -G (Schoenemann 1966). What is minimised is linear in R for the activation "mean",
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
