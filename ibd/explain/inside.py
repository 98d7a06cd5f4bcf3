"""Looking inside: filters, what each place of an image means to a layer, how much of a layer is silent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.activations import chunked, device_of, images_of, network_of, visit
from ibd.explain.base import check_image, undisturbed
from ibd.explain.feature_visualization.maximize import as_input, maximize_activation
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.feature_visualization.parametrizations import Fourier
from ibd.explain.feature_visualization.penalties import TotalVariation
from ibd.explain.layer_layout import read_map
from ibd.explain.layouts import Layout


def first_layer_filters(model: nn.Module, normalization: Literal["max", "shared"] = "max") -> Tensor:
    """Return the filters of the first convolution as pictures, (D, 3, k, k) in [0, 1]: a weight of 0 is gray.

    Args:
        model: model with a convolution of three channels.
        normalization: full strength is the largest absolute weight of each filter ("max") or of all ("shared").

    Raises:
        ConfigError: another normalization.
        UnsupportedError: there is no such convolution.
    """
    if normalization not in ("max", "shared"):
        raise ConfigError(f"normalization: '{normalization}' is not one of max, shared")
    for module in network_of(model).modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            weight = module.weight.detach().float().cpu()
            size = weight.abs().amax((1, 2, 3) if normalization == "max" else (0, 1, 2, 3), keepdim=True)
            return 0.5 + 0.5 * weight / size.clamp(min=torch.finfo(weight.dtype).tiny)
    raise UnsupportedError(f"{type(model).__name__} has no convolution of three channels, whose filters could be shown")


@dataclass(frozen=True)
class ActivationGrid:
    """What a layer makes of every place of an image; drawn by `activation_grid_figure`.

    Attributes:
        images: (h, w, 3, s, s) images made to excite what is active at each place.
        magnitude: (h, w) length of the activations there.
        layer: name of the layer.
    """

    images: Tensor
    magnitude: Tensor
    layer: str


def activation_grid(
    model: nn.Module,
    image: Tensor,
    layer: str,
    cells: int = 8,
    size: int = 40,
    batch_size: int = 64,
    layout: Layout = "auto",
    **options: object,
) -> ActivationGrid:
    """Return an image's activations at a layer, each place shown by what its direction stands for.

    The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        image: (3, H, W), or (1, 3, H, W).
        layer: name of a layer that puts out a map.
        cells: largest number of cells along a side; a larger map is averaged.
        size: size of the made images, in pixels; the layer must run on it.
        batch_size: number of images that are made at once.
        layout: axis of the layer's output that holds the channels; "auto" tells it, or refuses.
        options: options of `maximize_activation`, in place of those with which small images are easiest to read.

    Raises:
        ConfigError: no such layer.
        UnsupportedError: the layer puts out no map.
    """
    check_range("cells", cells, least=1)
    maps = _maps_of_one(model, image, layer, layout)
    maps = F.adaptive_avg_pool2d(maps, (min(cells, maps.shape[1]), min(cells, maps.shape[2])))
    height, width = maps.shape[1:]
    vectors = maps.flatten(1).t()
    magnitude = vectors.norm(dim=1)
    directions = vectors / magnitude.clamp(min=torch.finfo(vectors.dtype).tiny).unsqueeze(1)
    made = []
    for part in progress(list(chunked(len(vectors), batch_size)), "cells"):
        objective = Objective.direction(layer, directions[part], cosine_power=2.0)
        made.append(
            small_images(model, objective, size, part.stop - part.start, magnitude, {"layout": layout, **options})
        )
    images = torch.cat(made).view(height, width, 3, size, size)
    return ActivationGrid(images, magnitude.view(height, width).cpu(), layer)


@dataclass(frozen=True)
class SemanticDictionary:
    """What is active at one place of an image, in words of pictures; drawn by `dictionary_figure`.

    Attributes:
        channels: strongest channels, in order.
        activations: (n,) activations of these channels.
        images: (n, 3, s, s) images made to excite each of these channels.
        share: share of the squared length of all activations there that these make up.
        cell: row and column of the place.
        shape: rows and columns of the layer's map.
        layer: name of the layer.
    """

    channels: list[int]
    activations: Tensor
    images: Tensor
    share: float
    cell: tuple[int, int]
    shape: tuple[int, int]
    layer: str


def semantic_dictionary(
    model: nn.Module,
    image: Tensor,
    layer: str,
    cell: tuple[int, int],
    top: int = 6,
    size: int = 40,
    layout: Layout = "auto",
    **options: object,
) -> SemanticDictionary:
    """Return the channels that are strongest at one place of a layer's map, each with what it stands for.

    Args:
        model: model as of `activation_grid`, and so are `image`, `layer`, `size`, `options` and what is refused.
        image: one image.
        layer: name of a layer that puts out a map.
        cell: row and column in that map.
        top: number of channels.
        size: size of the made images.
        layout: layout of the layer's output, as of `activation_grid`.
        options: options of `maximize_activation`.

    Raises:
        ConfigError: no such layer or cell.
        UnsupportedError: the layer puts out no map.
    """
    check_range("top", top, least=1)
    maps = _maps_of_one(model, image, layer, layout)
    rows, columns = maps.shape[1:]
    if not (0 <= cell[0] < rows and 0 <= cell[1] < columns):
        raise ConfigError(f"no cell {cell[0]}, {cell[1]} in '{layer}' of {rows} x {columns}")
    values = maps[:, cell[0], cell[1]]
    order = values.argsort(descending=True, stable=True)[:top].tolist()
    objective = Objective.channel(layer, order)
    made = small_images(model, objective, size, len(order), values[order], {"layout": layout, **options})
    whole = float(values.square().sum())
    share = float(values[order].square().sum()) / whole if whole else 0.0
    return SemanticDictionary(order, values[order].cpu(), made, share, cell, (rows, columns), layer)


def small_images(
    model: nn.Module, objective: Objective, size: int, count: int, natural: Tensor, options: Mapping[str, object]
) -> Tensor:
    """Return images (count, 3, size, size) that can be read though they are small: smooth, of few pieces.

    The objective is divided by natural activations, so that a penalty weighs the same for every layer.

    Raises:
        UnsupportedError: the model does not run on images of that size.
    """
    if not runs_on(model, size):
        raise UnsupportedError(
            f"the model does not run on images of {size} x {size} pixels: say the size that it needs"
        )
    scale = 1 / max(float(natural.mean()), torch.finfo(natural.dtype).eps)
    usual: dict[str, Any] = {
        "steps": 128,
        "parametrization": Fourier(decay=1.5, spread=0.5),
        "penalties": [TotalVariation(weight=0.1)],
        "lr": 0.05,
        "ramp": 1.0,
        "progress": False,
    }
    chosen = {**usual, **options, "batch": count}
    return maximize_activation(model, scale * objective, size, **chosen).image.cpu()


def runs_on(model: nn.Module, size: int) -> bool:
    """Return whether a model runs on images of so many pixels a side; many run on one size alone. One pass."""
    with undisturbed(model), torch.no_grad():
        try:
            model(as_input(model, torch.zeros(1, 3, size, size, device=device_of(model))))
        except Exception:  # whatever a stranger's network raises
            return False
    return True


def sparsity_by_depth(model: nn.Module, images: Tensor | Iterable[object]) -> dict[str, float]:
    """Return name -> share of exact zeros in what each innermost layer puts out, in the order in which they run.

    A layer that runs several times is counted over all its runs, at the place of the last. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        images: (B, 3, H, W), or a data loader.

    Raises:
        DataError: no images.
    """
    zeros: dict[str, int] = {}
    total: dict[str, int] = {}

    def count(name: str, output: Tensor) -> None:
        zeros[name] = zeros.pop(name, 0) + int((output == 0).sum())
        total[name] = total.get(name, 0) + output.numel()

    with undisturbed(model):
        batches = [images] if isinstance(images, Tensor) else images
        for batch in progress(batches, "counting zeros"):
            visit(model, images_of(batch).to(device_of(model)), count, only_leaves=True)
    if not total:
        raise DataError("no images, or no layers: nothing to count zeros in")
    return {name: zeros[name] / total[name] for name in zeros}


def _maps_of_one(model: nn.Module, image: Tensor, layer: str, layout: Layout) -> Tensor:
    """Return the (D, h, w) output of a layer for one image."""
    single = image if image.dim() == 4 else image.unsqueeze(0)
    check_image(single)
    if len(single) != 1:
        raise DataError(f"{len(single)} images given: one is looked into at a time")
    with undisturbed(model):
        return read_map(model, single, layer, layout)[0]
