"""What setting concepts does, as plain numbers, where the logits are linear in something of each."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.sliders import Asked, Form, Sliders, plain
from ibd.types import Units

_REACH = 3.0
"""Standard deviations that the slider of a quantity goes to either side of its mean."""


def concept_sliders(
    network: ConceptNetwork,
    units: Units,
    values: Tensor,
    reads: Tensor,
    weights: Tensor,
    bias: Tensor,
    ends: tuple[Tensor, Tensor] | None = None,
    form: Form = "line",
    note: str = "",
) -> Sliders:
    """Return sliders that set concepts to truth values, and quantities in their unit; other units have none.

    Args:
        network: network of the concepts.
        units: units of B images.
        values: (B, K) where the sliders of truth values stand.
        reads: (B, U) what the logits are made of.
        weights: (U, C), or (B, U, C) where each image has its own.
        bias: (C,) or (B, C).
        ends: (K,) what stands for false, and for true; by default 0 and 1, as probabilities, so that groups may share.
        form: what is read of the line between these.
        note: what a reader has to know of the values.
    """
    count, concepts = len(network.unit_names), network.concept_count
    scores, zero, slope = plain(units.scores), np.zeros(count), np.ones(count)
    stands = np.concatenate([plain(values), scores[:, concepts:]], 1)
    if ends is not None:
        false, true = map(plain, ends)
        zero[:concepts], slope[:concepts] = false, true - false
    asked: list[Asked] = ["truth" if u < concepts else "" for u in range(count)]
    forms: list[Form] = [form if u < concepts else "line" for u in range(count)]
    low, high = np.zeros(count), np.ones(count)
    for k, quantity in network.quantities.items():
        asked[k], forms[k] = "quantity", "line"
        zero[k], slope[k] = -quantity.mean / quantity.deviation, 1 / quantity.deviation
        low[k], high[k] = _around(quantity.mean, quantity.deviation)
        stands[:, k] = scores[:, k] * quantity.deviation + quantity.mean
    shared = network.softmax_groups if ends is None else []
    return Sliders(
        names=network.unit_names,
        classes=network.class_names,
        groups=network.unit_groups,
        asked=asked,
        low=low,
        high=high,
        values=stands,
        zero=zero,
        slope=slope,
        forms=forms,
        reads=plain(reads),
        weights=plain(weights),
        bias=plain(bias),
        exclusive=network.exclusive_groups,
        shared=shared,
        scores=scores if shared else None,
        note=note,
    )


def _around(mean: float, deviation: float) -> tuple[float, float]:
    return mean - _REACH * deviation, mean + _REACH * deviation
