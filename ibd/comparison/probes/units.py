"""What a model says when its units are switched off, in the order of what they contribute; no pass of the backbone.

What "off" is says the network (`InterpretableNetwork.decode_without`): a value of 0, or one that is given, such as the
mean over the data, for what the head reads: activation of a channel, similarity of a prototype, what passes the
bottleneck of concepts. An axis of a whitened layer becomes constant over the image, at 0 or at what is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ibd.comparison.probes.network import Predictor, Values
from ibd.comparison.probes.seeding import Id, generator
from ibd.errors import DataError, UnsupportedError, check_range
from ibd.metrics.functional.self_consistency import unit_completeness
from ibd.models.base import InterpretableNetwork
from ibd.types import Output, Units

_MOST_BYTES = 64 * 2**20
"""Largest memory of the units that are decoded at a time."""


@dataclass(frozen=True)
class UnitTables:
    """What the model says after each step, (B, n + 1) float64 each.

    Attributes:
        fractions: (n + 1,) of the units that are off by then, from 0 to 1.
        ordered: values with the units of largest absolute contribution off first.
        reversed: values with the units of smallest absolute contribution off first.
        random: values as a mean over random orders.
    """

    fractions: Tensor
    ordered: Values
    reversed: Values
    random: Values


def interpretable(predictor: Predictor) -> InterpretableNetwork:
    """Return the network of a predictor, if it has units.

    Raises:
        UnsupportedError: it has none.
    """
    network = predictor.network
    if not isinstance(network, InterpretableNetwork):
        raise UnsupportedError(f"a {type(network).__name__} has no units that could be switched off")
    return network


def encoded(predictor: Predictor, images: Tensor) -> Units:
    """Return the units of (B, 3, H, W) images, in batches that fit into memory; counted as passes."""
    interpretable(predictor)
    parts = torch.split(images, predictor.batch_size(images))
    outputs = [cast(Output, predictor.output(part)) for part in parts]
    return Units.cat([output.units for output in outputs])


def unit_tables(
    predictor: Predictor,
    units: Units,
    contributions: Tensor,
    classes: Tensor,
    ids: Sequence[Id] | None = None,
    value: Tensor | float = 0.0,
    steps: int = 16,
    orders: int = 3,
    seed: int = 0,
) -> UnitTables:
    """Return what the model says while units are switched off.

    Args:
        predictor: the model.
        units: units of B images, see `encoded`.
        contributions: (B, U) to the explained class: ``units`` of an intrinsic explanation.
        classes: (B,) the explained classes.
        ids: ids of the images: random orders depend on them alone; their places by default.
        value: value that a unit gets when it is off, (U,) or one for all.
        steps: n, of as many units each as far as it goes; at most as many as there are units.
        orders: random orders to average over.
        seed: seed of the random orders.

    Raises:
        DataError: contributions of other images or units.
        UnsupportedError: the model has no units.
    """
    network = interpretable(predictor)
    check_range("steps", steps, least=1)
    check_range("orders", orders, least=1)
    batch, count = units.scores.shape
    if contributions.shape != units.scores.shape or len(classes) != batch:
        raise DataError(f"contributions of shape {tuple(contributions.shape)} given for {batch} images, {count} units")
    device = units.scores.device
    names = list(range(batch)) if ids is None else list(ids)
    steps = min(steps, count)
    off = torch.tensor([round(step * count / steps) for step in range(steps + 1)], device=device)
    first = contributions.to(device).abs().argsort(dim=1, descending=True, stable=True).argsort(1)
    random = [_random_places(count, names, seed, order).to(device) for order in range(orders)]
    places = torch.stack([first, count - 1 - first, *random], 1)  # (B, O, U)
    tables = _tables(predictor, network, units, places, off, classes.to(device), value)
    fractions = off.cpu().double() / count
    every = [Values(*(table[:, order] for table in tables)) for order in range(2)]
    mean = Values(*(table[:, 2:].mean(1) for table in tables))
    return UnitTables(fractions, every[0], every[1], mean)


def _random_places(count: int, ids: Sequence[Id], seed: int, order: int) -> Tensor:
    return torch.stack([torch.from_numpy(generator(number, seed, "units", order).permutation(count)) for number in ids])


def _tables(
    predictor: Predictor,
    network: InterpretableNetwork,
    units: Units,
    places: Tensor,
    off: Tensor,
    classes: Tensor,
    value: Tensor | float,
) -> Values:
    """Return (B, O, n + 1) values; the ends, which all orders share, are decoded once for each image."""
    batch, orders, _ = places.shape
    inner = off[1:-1]
    columns = 2 + orders * len(inner)
    size = sum(part[0].numel() * part.element_size() for part in (units.scores, *units.state))
    at_once = max(1, _MOST_BYTES // max(1, 4 * size))
    logits = []
    parts = torch.split(torch.arange(batch * columns, device=places.device), at_once)
    for some in parts:
        row, column = some // columns, some % columns
        order = (column - 2).clamp(min=0) // max(1, len(inner))
        limit = off[0].where(column == 0, off[-1])
        if len(inner):
            limit = torch.where(column < 2, limit, inner[(column - 2).clamp(min=0) % len(inner)])
        chosen = places[row, order] < limit.unsqueeze(1)
        state = tuple(part[row] for part in units.state)
        taken = Units(units.scores[row], units.maps[row[:0]], state)
        with torch.no_grad():
            logits.append(network.decode_without(taken, chosen, value))
    values = predictor.values(torch.cat(logits), classes.repeat_interleave(columns))
    return Values(*(_with_ends(part.view(batch, columns), orders) for part in values))


def _with_ends(table: Tensor, orders: int) -> Tensor:
    """Return (B, O, n + 1) of (B, 2 + O (n - 1)) columns: first, last, and the inner ones of each order."""
    ends = table[:, :2].unsqueeze(1).expand(-1, orders, -1)
    return torch.cat([ends[..., :1], table[:, 2:].reshape(len(table), orders, -1), ends[..., 1:]], 2)


@torch.no_grad()
def completeness(network: InterpretableNetwork, units: Units, classes: Tensor) -> Tensor:
    """Return how far bias and contributions are from the logit of each class (B,), in its units, (B,) float64.

    Without a bias of its own (concept whitening) the contributions alone are compared.
    """
    index = classes.to(units.scores.device)
    rows = torch.arange(len(index), device=index.device)
    parts = network.contributions(units)[rows, :, index]
    return unit_completeness(network.bias()[index], parts, network.decode(units)[rows, index])
