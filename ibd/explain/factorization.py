"""Groups of channels that are active together, by non-negative matrix factorization (Olah et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.base import check_image, undisturbed
from ibd.explain.layer_layout import read_map
from ibd.explain.layouts import Layout

_TINY = 1e-12


@dataclass(frozen=True)
class NeuronGroups:
    """``activations ~ sum over groups of map * weights``, the strongest group first.

    Attributes:
        maps: (B, G, h, w), not negative.
        weights: (G, D), not negative, of length 1 each.
        error: norm of what is left over, as a share of that of the activations.
    """

    maps: Tensor
    weights: Tensor
    error: float


def neuron_groups(
    model: nn.Module,
    image: Tensor,
    layer: str,
    groups: int = 6,
    steps: int = 500,
    seed: int = 0,
    layout: Layout = "auto",
) -> NeuronGroups:
    """Return the groups of a layer's channels in some images, all of them together. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        image: (B, 3, H, W).
        layer: layer whose activations are taken apart; what is negative is taken as 0.
        groups: number of groups G.
        steps: steps of multiplicative updates.
        seed: seed of the start.
        layout: axis of the layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: no such layer or layout, or more groups than channels or positions.
        UnsupportedError: the layer puts out no map.
        DataError: an image that is none, or that activates nothing.
    """
    check_image(image)
    with undisturbed(model):
        return factorize(read_map(model, image, layer, layout), groups, steps, seed)


def factorize(activations: Tensor, groups: int, steps: int = 500, seed: int = 0) -> NeuronGroups:
    """Return the groups of (B, D, h, w) activations.

    Lee & Seung (2001): each update multiplies by a ratio and never raises the squared error.

    Raises:
        ConfigError: more groups than channels or positions.
        DataError: nothing is active.
    """
    check_range("groups", groups, least=1)
    batch, channels, height, width = activations.shape
    data = activations.detach().permute(0, 2, 3, 1).reshape(-1, channels).clamp(min=0)
    data = data.to(torch.promote_types(data.dtype, torch.float32))
    if groups > min(data.shape):
        raise ConfigError(f"groups: {groups} of {channels} channels at {len(data)} positions are too many")
    if not float(data.max()) > 0:
        raise DataError("neuron groups: nothing is active in this layer")
    generator = torch.Generator().manual_seed(seed)
    size = (float(data.mean()) / groups) ** 0.5
    left, right = (
        size * (0.1 + torch.rand(shape, generator=generator)).to(data)
        for shape in ((len(data), groups), (groups, channels))
    )
    for _ in range(steps):
        left *= (data @ right.t()) / (left @ (right @ right.t()) + _TINY)
        right *= (left.t() @ data) / ((left.t() @ left) @ right + _TINY)
    length = right.norm(dim=1, keepdim=True).clamp(min=_TINY)
    left, right = left * length.t(), right / length
    order = left.norm(dim=0).argsort(descending=True, stable=True)
    error = float((data - left @ right).norm() / data.norm())
    maps = left[:, order].view(batch, height, width, groups).permute(0, 3, 1, 2)
    return NeuronGroups(maps, right[order], error)
