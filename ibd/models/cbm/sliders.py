"""What setting the concepts of a bottleneck does, as plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.models.sliders import Asked, Form, Sliders, between, plain
from ibd.types import Units

if TYPE_CHECKING:
    from ibd.models.cbm.concepts import ConceptNetwork
    from ibd.models.cbm.network import ConceptBottleneckNetwork

_FORMS: dict[str, Form] = {"probabilities": "line", "logits": "line", "evidence": "positive", "hard": "rounded"}
_REACH = 3.0
"""Standard deviations that the slider of a quantity goes to either side of its mean."""


def bottleneck_sliders(network: ConceptBottleneckNetwork, units: Units) -> Sliders:
    """Return the sliders of a bottleneck with a linear head; see `ConceptBottleneckNetwork.sliders`."""
    if not isinstance(network.head, nn.Linear):
        raise UnsupportedError("the head has a hidden layer: what setting a concept does, it alone tells")
    count, concepts = len(network.unit_names), network.concept_count
    zero, slope = torch.zeros(count), torch.ones(count)
    values = network.with_unnamed(network.probabilities(units.scores), units.scores)
    if network.by_percentiles:
        ends = [network.between_percentiles(torch.full((concepts,), end, device=units.scores.device)) for end in (0, 1)]
        offset = network.offset()[:concepts] if network.bottleneck == "evidence" else torch.zeros_like(ends[0])
        zero[:concepts], slope[:concepts] = ends[0] - offset, ends[1] - ends[0]
        values = network.with_unnamed(between(units.scores[:, :concepts], *ends), units.scores)
    low, high = torch.zeros(count), torch.ones(count)
    forms: list[Form] = [_FORMS[network.bottleneck]] * concepts + ["line"] * (count - concepts)
    asked: list[Asked] = ["truth" if u < concepts else "" for u in range(count)]
    numbers = network.measured.in_units(units.scores[:, :concepts])
    for k, quantity in network.quantities.items():
        asked[k], forms[k] = "quantity", "line"
        zero[k], slope[k] = -quantity.mean / quantity.deviation, 1 / quantity.deviation
        low[k], high[k] = (quantity.mean + side * _REACH * quantity.deviation for side in (-1, 1))
        values[:, k] = numbers[:, k]
    return Sliders(
        names=network.unit_names,
        classes=network.class_names,
        groups=network.unit_groups,
        asked=asked,
        low=plain(low),
        high=plain(high),
        values=plain(values),
        zero=plain(zero),
        slope=plain(slope),
        forms=forms,
        reads=plain(network.activation(units.scores)),
        weights=plain(network.head.weight.t()),
        bias=plain(network.head.bias),
        exclusive=network.exclusive_groups,
        shared=[] if network.by_percentiles else network.softmax_groups,
        scores=plain(units.scores) if network.softmax_groups and not network.by_percentiles else None,
        note=_PERCENTILES if network.by_percentiles else "",
    )


_PERCENTILES = "0 and 1 are the 5th and the 95th percentile of the concept's training logits"


def mixture_sliders(
    network: ConceptNetwork, probability: Tensor, absent: Tensor, change: Tensor, bias: Tensor
) -> Sliders:
    """Return the sliders of concepts that pass a mixture of two vectors, on which a linear head stands.

    Args:
        network: the network.
        probability: (B, K) of the concepts.
        absent: (B, K, C) what each adds to the logits where it does not hold.
        change: (B, K, C) what it adds beyond that where it does.
        bias: (C,) of the head.
    """
    count = network.concept_count
    return Sliders(
        names=network.unit_names,
        classes=network.class_names,
        groups=network.unit_groups,
        asked=["truth"] * count,
        low=np.zeros(count),
        high=np.ones(count),
        values=plain(probability),
        zero=np.zeros(count),
        slope=np.ones(count),
        forms=["line"] * count,
        reads=plain(probability),
        weights=plain(change),
        bias=plain(bias + absent.sum(1)),
        exclusive=network.exclusive_groups,
        note="each image has vectors of its own, so that a concept counts differently in each",
    )
