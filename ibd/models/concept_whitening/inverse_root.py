"""The inverse square root of covariance matrices, by eigendecomposition or by matrix products alone.

Shapes: G groups of channels, C channels of a group; a matrix is (G, C, C), symmetric and positive definite.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Method = Literal["auto", "eigen", "newton"]


class Root(NamedTuple):
    """An inverse square root, and what its backward pass needs."""

    inverse: Tensor
    """(G, C, C): the symmetric W with ``W S W = I``."""
    basis: Tensor
    """(G, C, C): the eigenvectors of S; or, from products, its square root."""
    scale: Tensor
    """(G, C): the square roots of the eigenvalues; empty from products."""


def choose(method: Method, device: torch.device) -> Method:
    """Return the method for a device: "auto" takes products where they are fast, which is not on a CPU."""
    if method != "auto":
        return method
    return "eigen" if device.type == "cpu" else "newton"


def inverse_root(matrix: Tensor, method: Method, iterations: int) -> Root:
    """Return the inverse square root of (G, C, C) matrices.

    Args:
        matrix: matrix that is symmetric and positive definite.
        method: "eigen" is exact; "newton" is the coupled Newton-Schulz iteration (Higham 2008, equation 6.35), which
            unlike the uncoupled one of the published code does not blow rounding errors up; "auto" picks by device.
        iterations: iterations of "newton". Each multiplies the smallest normalized eigenvalue by 2.25 until it is near
            1.
    """
    if choose(method, matrix.device) == "eigen":
        values, basis = torch.linalg.eigh(matrix)
        scale = values.clamp_min(torch.finfo(matrix.dtype).tiny).sqrt()
        return Root((basis / scale.unsqueeze(1)) @ basis.mT, basis, scale)
    norm = torch.linalg.matrix_norm(matrix, keepdim=True)  # Frobenius: at least the largest eigenvalue
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    root, inverse = matrix / norm, eye.expand_as(matrix)
    for _ in range(iterations):
        step = 1.5 * eye - 0.5 * (inverse @ root)
        root, inverse = root @ step, step @ inverse
    inverse = (inverse + inverse.mT) / (2 * norm.sqrt())
    return Root(inverse, matrix @ inverse, matrix.new_empty(0))


def inverse_root_gradient(gradient: Tensor, root: Root, iterations: int) -> Tensor:
    """Return the gradient with respect to the matrix, (G, C, C) and symmetric.

    Exact, and without the differences of eigenvalues that make the textbook backward of an eigendecomposition blow up:
    in the basis U of S the entry (i, j) is divided by ``-s_i s_j (s_i + s_j)``, s the roots of the eigenvalues.

    Args:
        gradient: (G, C, C) with respect to the inverse root.
        root: root from `inverse_root`.
        iterations: iterations of "newton", as for `inverse_root`.
    """
    gradient = (gradient + gradient.mT) / 2
    if root.scale.numel():
        scale = root.scale
        scaled = root.basis / scale.unsqueeze(1)
        inner = scaled.mT @ gradient @ scaled  # in two parts, so that the product of three roots does not underflow
        inner /= -(scale.unsqueeze(2) + scale.unsqueeze(1))
        return root.basis @ inner @ root.basis.mT
    return -_lyapunov(root.basis, root.inverse @ gradient @ root.inverse, iterations)


def _lyapunov(root: Tensor, right: Tensor, iterations: int) -> Tensor:
    """Return the Y with ``root Y + Y root = right``, by products alone (Lin and Maji 2017, equation 6)."""
    norm = torch.linalg.matrix_norm(root, keepdim=True)
    eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
    a, q = root / norm, right / norm
    for _ in range(iterations):
        squared = a @ a
        step = 3 * eye - squared
        q = (q @ step - squared @ q + a @ q @ a) / 2
        a = a @ step / 2
    solution: Tensor = (q + q.mT) / 4
    return solution
