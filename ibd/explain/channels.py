"""The maps of a layer's channels for an image, how many of them are blank at which depth, and weights of any layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import DataError, UnsupportedError, check_range
from ibd.explain.activations import device_of, find_layer, images_of, visit
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import check_image, undisturbed
from ibd.explain.layer_layout import layer_arrangements, read_map
from ibd.explain.layouts import Layout


@dataclass(frozen=True)
class ChannelMaps:
    """The strongest channels of a layer for one image.

    Attributes:
        maps: (n, h, w), the strongest first.
        channels: numbers of these.
        strength: (n,) mean absolute value of each.
        blank: number of channels, of all, that are 0 at every place.
        total: number D of channels of the layer.
        layer: name of the layer.
    """

    maps: Tensor
    channels: list[int]
    strength: Tensor
    blank: int
    total: int
    layer: str


def channel_maps(model: nn.Module, image: Tensor, layer: str, top: int = 32, layout: Layout = "auto") -> ChannelMaps:
    """Return the maps of the channels of a layer that are strongest for an image. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        image: (3, H, W) or (1, 3, H, W).
        layer: name of a layer that puts out a map of any layout, or tokens.
        top: channels that are returned.
        layout: layout of the layer's output.

    Raises:
        ConfigError: there is no such layer, or none is asked for.
        DataError: several images.
        UnsupportedError: the layer puts out no map.
    """
    check_range("top", top, least=1)
    single = image if image.dim() == 4 else image.unsqueeze(0)
    check_image(single)
    if len(single) != 1:
        raise DataError(f"{len(single)} images given: one is looked into at a time")
    with undisturbed(model):
        maps = read_map(model, single.to(device_of(model)), layer, layout)[0].float().cpu()
    strength = maps.abs().mean((1, 2))
    order = strength.argsort(descending=True, stable=True)[:top]
    blank = int((maps.abs().amax((1, 2)) == 0).sum())
    return ChannelMaps(maps[order], order.tolist(), strength[order], blank, len(maps), layer)


@dataclass(frozen=True)
class Silence:
    """How many channels of a layer are silent.

    Attributes:
        blank: share of the channels that are 0 at every place, the mean over the images.
        dead: share of the channels that are so for every image.
        channels: number of channels.
    """

    blank: float
    dead: float
    channels: int


def blank_by_depth(model: nn.Module, images: Tensor | Iterable[object]) -> dict[str, Silence]:
    """Return name -> how many channels are blank, of each innermost layer with maps, in the order in which they run.

    Layers of which it is not known which axis holds the channels are left out; of one that runs several times it is the
    last run. One pass, and one of the first image to see how the layers lie. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        images: (B, 3, H, W), or a data loader.

    Raises:
        DataError: no images, or no layers with maps.
    """
    blank: dict[str, Tensor] = {}
    alive: dict[str, Tensor] = {}
    lie: dict[str, Arrangement] = {}
    found: dict[str, Tensor] = {}
    count = 0

    def note(name: str, output: Tensor) -> None:
        if name in lie:
            maps = lie[name].to_map(output)
            found.pop(name, None)
            found[name] = (maps.flatten(2).abs().amax(2) > 0).cpu()  # (B, D)

    with undisturbed(model):
        for batch in progress([images] if isinstance(images, Tensor) else images, "counting blank channels"):
            image = images_of(batch).to(device_of(model))
            lie = lie or layer_arrangements(model, image[:1])
            found.clear()
            visit(model, image, note, only_leaves=True)
            count += len(image)
            for name, on in found.items():
                blank[name] = blank.get(name, torch.zeros(on.shape[1])) + (~on).float().sum(0)
                alive[name] = alive.get(name, torch.zeros(on.shape[1], dtype=torch.bool)) | on.any(0)
    if not blank:
        raise DataError("no images, or no layers with maps: nothing to count blank channels in")
    return {
        name: Silence(float(times.mean()) / count, float((~alive[name]).float().mean()), len(times))
        for name, times in blank.items()
    }


@dataclass(frozen=True)
class LayerWeights:
    """Weights of a layer: its strongest filters, by the inputs that they weigh most.

    Attributes:
        weights: (n, m, k, l): n filters, m inputs of each; k = l = 1 of a linear layer.
        filters: numbers of the filters, the longest first.
        inputs: for each filter the numbers of its inputs, the largest first.
        share: (n,) share of a filter's squared length that these inputs hold.
        layer: name of the layer.
    """

    weights: Tensor
    filters: list[int]
    inputs: list[list[int]]
    share: Tensor
    layer: str


def layer_weights(model: nn.Module, layer: str, filters: int = 8, inputs: int = 8) -> LayerWeights:
    """Return the weights of any convolution or linear layer: its longest filters, by their largest inputs.

    Args:
        model: any model.
        layer: name of a layer.
        filters: filters that are returned.
        inputs: inputs of each.

    Raises:
        ConfigError: there is no such layer, or a number is below 1.
        UnsupportedError: it is neither a convolution of images nor linear.
    """
    check_range("filters", filters, least=1)
    check_range("inputs", inputs, least=1)
    module = find_layer(model, layer)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        inner = [f"{layer}.{n}" for n, part in module.named_modules() if n and isinstance(part, nn.Conv2d | nn.Linear)]
        near = f": take {', '.join(inner[:6])}" if inner else ""
        raise UnsupportedError(f"layer '{layer}' is a {type(module).__name__}, which has no weights of filters{near}")
    weight = module.weight.detach().float().cpu()
    weight = weight if weight.dim() == 4 else weight[:, :, None, None]
    squared = weight.square().sum((2, 3))  # (D, inputs)
    chosen = squared.sum(1).argsort(descending=True, stable=True)[:filters]
    order = squared[chosen].argsort(dim=1, descending=True, stable=True)[:, :inputs]
    share = squared[chosen].gather(1, order).sum(1) / squared[chosen].sum(1).clamp(min=torch.finfo(weight.dtype).tiny)
    per_group = module.out_channels // module.groups if isinstance(module, nn.Conv2d) else len(weight)
    first = (chosen // per_group) * weight.shape[1]  # the inputs of a grouped filter begin there
    kept = torch.stack([weight[number, own] for number, own in zip(chosen.tolist(), order, strict=True)])
    return LayerWeights(kept, chosen.tolist(), (order + first.unsqueeze(1)).tolist(), share, layer)
