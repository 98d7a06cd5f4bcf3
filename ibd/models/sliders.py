"""What `Prediction.intervene` does, as plain numbers: for a page that answers without Python.

Shapes: B images, U units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.models.linear_head import seen_range

Array = npt.NDArray[np.float64]
Asked = Literal["", "truth", "quantity", "factor", "value"]
Form = Literal["line", "positive", "rounded"]
Moved = Literal["", "probability", "logit"]


@dataclass(frozen=True)
class Sliders:
    """Logits of B images as a function of what units are set to: ``reads @ weights + bias``.

    A unit that is set to t reads ``zero + slope * t``, of which `forms` says what is left; another one what it read
    before, but for what follows:

    - in an `exclusive` group a 1 sets all others that are not set to 0; values that are set add up to 1 at most;
    - in a `shared` group (a softmax) the units that are not set, and "none of them" with logit 0, share what is left of
      1 in proportion to the exponentials of their `scores`;
    - where concepts have a `covariance`, the logits of those that are not set move to where the Gaussian around
      `mean` has them, given what is set: `ibd.models.scbm.gaussian.posterior`.

    Attributes:
        names: names of the U units.
        classes: names of the C classes.
        groups: group name -> its units.
        asked: what each unit is set to: a "truth" value, a "quantity" in its unit, a "factor" of what it is, a "value"
            of its own scale, or nothing, "".
        low: (U,) where a slider begins.
        high: (U,) where it ends; `intervene` takes any number for what is no truth value.
        values: (B, U) where it stands; of truth values that is between what stands for false and true.
        zero: (U,) what the value 0 reads.
        slope: (U,) or (B, U), what 1 adds to that.
        forms: what is read of that line, of each unit: the "line" itself, its "positive" part, or 1 where it is above
            0.5, "rounded".
        reads: (B, U) what the logits are made of now.
        weights: (U, C) or (B, U, C).
        bias: (C,) or (B, C).
        exclusive: groups of units of which one is true at most.
        shared: groups whose probabilities are a softmax.
        moved: what is read of a logit that moved with others: its "probability", or the "logit"; "" if none moves.
        scores: (B, U) logits, where groups are shared or logits move.
        mean: (B, U) of the Gaussian.
        covariance: (U, U) or (B, U, U).
        squared: whether probabilities are those of PIP-Net, ``1 + o^2`` of the logits o above 0, normalized, and an
            image without evidence is not classified; else the softmax.
        note: what a reader has to know of the values.
    """

    names: list[str]
    classes: list[str]
    groups: dict[str, list[int]]
    asked: list[Asked]
    low: Array
    high: Array
    values: Array
    zero: Array
    slope: Array
    forms: list[Form]
    reads: Array
    weights: Array
    bias: Array
    exclusive: list[list[int]] = field(default_factory=list)
    shared: list[list[int]] = field(default_factory=list)
    moved: Moved = ""
    scores: Array | None = None
    mean: Array | None = None
    covariance: Array | None = None
    squared: bool = False
    note: str = ""


def plain(values: Tensor) -> Array:
    """Return a tensor as float64 numbers beside any model."""
    return values.detach().cpu().double().numpy()


def value_sliders(
    names: list[str],
    classes: list[str],
    groups: dict[str, list[int]],
    reads: Tensor,
    weight: Tensor,
    bias: Tensor,
    seen: Tensor | None = None,
) -> Sliders:
    """Return sliders of units that are set to what the logits are made of: ``reads @ weight.T + bias``.

    Args:
        names: names of the units.
        classes: names of the classes.
        groups: group name -> its units.
        reads: (B, U).
        weight: (C, U).
        bias: (C,).
        seen: (N, U) values of some images, from the least to the largest of which the sliders go; by default `reads`.
    """
    count = len(names)
    low, high = seen_range(reads if seen is None else seen)
    return Sliders(
        names=names,
        classes=classes,
        groups=groups,
        asked=["value"] * count,
        low=np.full(count, low),
        high=np.full(count, high),
        values=plain(reads),
        zero=np.zeros(count),
        slope=np.ones(count),
        forms=["line"] * count,
        reads=plain(reads),
        weights=plain(weight.t()),
        bias=plain(bias),
    )


def between(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return where values lie from `low`, 0, to `high`, 1; 0 where these are the same."""
    width = high - low
    return torch.where(width == 0, 0.0, (values - low) / torch.where(width == 0, 1.0, width))
