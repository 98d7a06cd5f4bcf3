"""Distance and activation: two separate choices of how alike a patch and a prototype are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Distance = Literal["l2", "cosine"]
Activation = Literal["log", "linear", "exponential"]

_NOTHING = 1e-12
"""Norm below which a vector has no direction, that of `torch.nn.functional.normalize`."""
EPSILON = 1e-4
"""Epsilon of the log activation, as published: a distance of 0 is a similarity of log(1 / EPSILON) = 9.2103."""


def comparable(vectors: Tensor, distance: Distance, dim: int) -> Tensor:
    """Return what squared L2 distances are to be taken of: the vectors, or for "cosine" their directions."""
    return (
        F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=dim)
        if (distance == "cosine")
        else vectors
    )


def is_blank(vectors: Tensor) -> Tensor:
    """Return which vectors, along the last dimension, have no direction: their cosine with any other counts as 0."""
    norm: Tensor = torch.linalg.vector_norm(vectors.detach(), dim=-1)
    return norm < _NOTHING


def from_squared(squared: Tensor, distance: Distance) -> Tensor:
    """Return distances of squared L2 distances: themselves, or ``1 - cos = |u - v|^2 / 2`` of directions."""
    return squared / 2 if distance == "cosine" else squared


def activate(distance: Tensor, activation: Activation, kind: Distance) -> Tensor:
    """Return the similarity of distances; higher is more alike.

    Args:
        distance: squared L2, or 1 - cosine.
        activation: "log" is ``log((d + 1) / (d + 1e-4))``, from 9.21 downwards (equation 1 of Chen et al. 2019);
            "linear" is ``-d``, or the cosine itself, ``1 - d``; "exponential" is ``exp(-d)``.
        kind: kind of the distance.
    """
    if activation == "log":
        return torch.log((distance + 1) / (distance + EPSILON))
    if activation == "exponential":
        return torch.exp(-distance)
    return 1 - distance if kind == "cosine" else -distance
