"""Tensors as what a measurement keeps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ibd.comparison.groups.record import Points
from ibd.comparison.results import Floats

_FEW = 64
"""Images that are measured at a time."""


def few(count: int) -> list[slice]:
    """Return the images a few at a time: what is measured of all their pixels is many times as large as they are."""
    return [slice(start, start + _FEW) for start in range(0, count, _FEW)]


def floats(value: Tensor) -> Floats:
    """Return a tensor as a float64 array."""
    array: Floats = torch.as_tensor(value).double().cpu().numpy()
    return array


def scores(values: Mapping[str, Tensor]) -> dict[str, Floats]:
    """Return metric -> (n,) values as arrays."""
    return {name: floats(value) for name, value in values.items()}


def points(x: Tensor, values: Tensor) -> Points:
    """Return the points of a curve: (n,) places and (N, n) values."""
    return Points(floats(x), floats(values))
