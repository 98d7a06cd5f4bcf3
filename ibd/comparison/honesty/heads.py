"""The linear head of a network as plain numbers: what the sliders of a report compute with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ibd.comparison.honesty.reading import network_of
from ibd.comparison.results import Head
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.pipnet.network import PIPNetwork
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.similarity import activate
from ibd.models.prototypes import LinearPrototypes


def linear_head(model: nn.Module, scores: Tensor | None = None) -> Head | None:
    """Return what turns the units of a network into logits, where that is linear: logits = values @ weights + bias.

    Values are probabilities for a concept bottleneck (0 and 1 where it is hard, logits where it is of logits),
    similarities for prototypes, activations for channels.

    Args:
        model: a module of ours, or its network.
        scores: (N, U) of some images, which tell how far channels, and similarities without a bound, go; without them
            up to 1.

    Returns:
        None where the head is not linear: whitened networks, heads with a hidden layer; and for a bottleneck of logits
        that does not know its training percentiles.
    """
    network = network_of(model)
    if isinstance(network, ConceptBottleneckNetwork) and isinstance(network.head, nn.Linear):
        weight, bias, bounds = network.head.weight.detach(), network.head.bias.detach(), _concept_bounds(network)
    elif isinstance(network, LinearPrototypes):
        weight, bias, bounds = network.weight(), network.bias(), _similarity_bounds(network, scores)
    elif isinstance(network, BaselineNetwork):
        weight, bias, bounds = network.head.weight.detach(), network.head.bias.detach(), _seen_bounds(scores)
    else:
        return None
    if bounds is None:
        return None
    return Head(
        names=list(network.unit_names),
        classes=list(network.class_names),
        weights=weight.detach().cpu().double().t().numpy(),
        bias=bias.detach().cpu().double().numpy(),
        low=bounds[0],
        high=bounds[1],
        squared=isinstance(network, PIPNetwork),
    )


def perfect_similarity(network: LinearPrototypes) -> float:
    """Return the similarity of a patch that is the prototype itself: the highest there is."""
    if not isinstance(network, PrototypeNetwork):
        return 1.0  # all of a position
    return float(activate(torch.zeros(()), network.activation, network.distance))


def _concept_bounds(network: ConceptBottleneckNetwork) -> tuple[float, float] | None:
    if network.bottleneck != "logits":
        return 0.0, 1.0
    low, high = float(network.low.min()), float(network.high.max())
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def _similarity_bounds(network: LinearPrototypes, scores: Tensor | None) -> tuple[float, float]:
    highest = perfect_similarity(network)
    if not isinstance(network, PrototypeNetwork) or network.activation != "linear":
        return 0.0, highest
    low, _ = _seen_bounds(scores) if network.distance == "l2" else (-1.0, 1.0)
    return low, highest


def _seen_bounds(scores: Tensor | None) -> tuple[float, float]:
    if scores is None or not scores.numel():
        return 0.0, 1.0
    return min(0.0, float(scores.min())), max(float(scores.max()), 1e-6)
