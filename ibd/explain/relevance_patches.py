"""The patches of a data set whose channels, or units, are most relevant to a class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.activations import network_of
from ibd.explain.base import as_target, undisturbed
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.lrp import LRP
from ibd.explain.patches import Patches, maps_reader, search
from ibd.explain.targets import Target


def most_relevant_patches(
    model: nn.Module,
    data_loader: Iterable[object],
    target: Target | int | str,
    layer: str | None = None,
    channels: Sequence[int | str] | None = None,
    k: int = 9,
) -> Patches:
    """Return the patches whose channels are most relevant to a class: RelMax of Achtibat et al. 2023.

    What a channel responds to most need not be what it is used for. Here images are ranked by how much of the score
    passes the channel in a single cell: of a layer, its relevance by LRP; of the units of one of our models, what they
    contribute, laid out by their shares. Otherwise as `maximally_activating_patches`; ``score`` is the relevance, in
    the unit of the target.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`, a tuple or dict with images, or images.
        target: class, or another single target.
        layer: layer whose channels are searched; None takes the units of one of our models.
        channels: numbers, or names of units; None takes all.
        k: number of patches of each channel.

    Raises:
        ConfigError: no such layer, channel or unit.
        DataError: no images, or images of different sizes.
        UnsupportedError: the layer puts out no map, LRP cannot explain the model, or it has no units.
    """
    asked = as_target(target)

    def of_units(images: Tensor) -> Tensor:
        network: Any = network_of(model)
        contributed = Intrinsic()(model, images, asked).units
        if contributed is None:
            raise UnsupportedError(f"{type(network).__name__} has no units: name a layer")
        shares: Tensor = network.shares(network.encode(images))
        return contributed[:, :, None, None] * shares

    def of_layer(images: Tensor) -> Tensor:
        maps = LRP(layer=layer)(model, images, asked).unit_maps
        if maps is None:
            raise UnsupportedError(f"layer '{layer}' puts out no map")
        return maps

    with undisturbed(model), torch.no_grad():
        values_of = of_units if layer is None else of_layer
        return search(model, data_loader, values_of, maps_reader(model, layer, "auto"), layer, channels, k)
