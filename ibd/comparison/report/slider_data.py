"""Sliders as the data of a page: plain numbers with as many digits as float32 has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ibd.models.sliders import Sliders

Plain = dict[str, Any]
_NUMBERS = 150_000
"""Numbers that a page holds for the sliders of a model, at most: some 2 MB."""
_RANKS = {"slope": 1, "weights": 2, "bias": 1, "covariance": 2}
"""What all images share where it has so many axes, and each has its own where it has one more."""


def shared_data(sliders: Sliders) -> Plain:
    """Return what the sliders of all images share."""
    data: Plain = {
        "classes": sliders.classes,
        "asked": sliders.asked,
        "low": _rounded(sliders.low),
        "high": _rounded(sliders.high),
        "zero": _rounded(sliders.zero),
        "forms": sliders.forms,
        "exclusive": sliders.exclusive,
        "shared": sliders.shared,
        "moved": sliders.moved,
        "squared": sliders.squared,
    }
    return data | {name: _rounded(values) for name, values in _arrays(sliders).items() if values.ndim == _RANKS[name]}


def image_data(sliders: Sliders, row: int) -> Plain:
    """Return what the sliders of one image begin with."""
    data = {"values": _rounded(sliders.values[row]), "reads": _rounded(sliders.reads[row])}
    data |= {name: _rounded(values[row]) for name, values in _arrays(sliders).items() if values.ndim > _RANKS[name]}
    for name in ("scores", "mean"):
        if (values := getattr(sliders, name)) is not None:
            data[name] = _rounded(values[row])
    return data


def rows_with_sliders(sliders: Sliders) -> int:
    """Return for how many images a page has room."""
    shared = sum(values.size for name, values in _arrays(sliders).items() if values.ndim == _RANKS[name])
    rows = len(sliders.reads)
    own = sum(values.size for name, values in _arrays(sliders).items() if values.ndim > _RANKS[name]) // max(rows, 1)
    return max(0, (_NUMBERS - shared) // (own + 4 * len(sliders.names)))


def _arrays(sliders: Sliders) -> dict[str, npt.NDArray[np.float64]]:
    return {name: values for name in _RANKS if (values := getattr(sliders, name)) is not None}


def _rounded(values: npt.NDArray[np.float64]) -> Any:
    """Return numbers with 9 digits, which tell each float32 from its neighbours, as lists."""
    digits = np.vectorize(lambda value: float(f"{value:.9g}"), otypes=[np.float64])
    return digits(values).tolist() if values.size else values.tolist()
