"""One vector of features for each image of a data set, by any layers of any model, beside what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError
from ibd.explain.activations import Reader, device_of, find_layer, network_of, spatial_layers
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import undisturbed
from ibd.explain.layer_layout import as_map
from ibd.explain.layouts import Layout
from ibd.types import Batch

Pooling = Literal["mean", "max", "flat"]
"""How a map becomes a vector: each channel's mean or maximum over the cells, or all cells of all channels."""


@dataclass(frozen=True)
class LayerFeatures:
    """The features of N images.

    Attributes:
        values: layer -> (N, D) float32 on the CPU.
        shapes: layer -> (D, h, w) of the layer's map, or (D,) of a layer that is no map.
        labels: (N,) classes.
        concepts: (N, K), NaN where unknown.
        index: (N,) positions in the split.
    """

    values: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    labels: Tensor
    concepts: Tensor
    index: Tensor


def pooled(values: Tensor, pooling: Pooling) -> Tensor:
    """Return the (B, D) vectors of (B, D, h, w) maps; vectors are returned as they are.

    Raises:
        ConfigError: another pooling.
    """
    if pooling not in get_args(Pooling):
        raise ConfigError(f"pooling: '{pooling}' is not one of {', '.join(get_args(Pooling))}")
    if values.dim() == 2 or pooling == "flat":
        return values.flatten(1)
    return values.mean((2, 3)) if pooling == "mean" else values.amax((2, 3))


def read_features(
    model: nn.Module,
    data_loader: Iterable[object],
    layers: Sequence[str],
    reduce: Callable[[Tensor], Tensor],
    layout: Layout = "auto",
) -> LayerFeatures:
    """Return what `reduce` makes of layers, in one pass over the data. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`.
        layers: names of layers that put out maps, of any layout, or vectors.
        reduce: (B, D, h, w) maps or (B, D) vectors -> (B, F) features.
        layout: axis of a layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: no such layer.
        DataError: no images, or no `Batch`.
        UnsupportedError: a layer puts out neither a map nor a vector, or its layout cannot be told.
    """
    read = layer_reader(model, layers, layout)
    values: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    shapes: dict[str, tuple[int, ...]] = {}
    known: list[Batch] = []
    with undisturbed(model), torch.no_grad():
        for batch in progress(data_loader, "reading features"):
            kept = batch_of(batch)
            for layer, value in read(kept.image.to(device_of(model))).items():
                shapes[layer] = tuple(value.shape[1:])
                values[layer].append(reduce(value.float()).cpu())
            known.append(kept)
    if not known:
        raise DataError("the data loader yields no images")
    stacked = [torch.cat([getattr(batch, name) for batch in known]) for name in ("label", "concepts", "index")]
    return LayerFeatures({layer: torch.cat(parts) for layer, parts in values.items()}, shapes, *stacked)


def layer_reader(
    model: nn.Module, layers: Sequence[str], layout: Layout = "auto"
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return what turns images into the (B, D, h, w) maps, or (B, D) vectors, of layers by their names."""
    reader, found = Reader(model, layers), dict[str, Arrangement]()

    def read(image: Tensor) -> dict[str, Tensor]:
        outputs = reader(image)
        for layer, output in outputs.items():
            if output.dim() != 2 and layer not in found:
                found[layer] = as_map(model, image, layer, output, layout)[1]
        return {layer: found[layer].to_map(output) if layer in found else output for layer, output in outputs.items()}

    return read


def batch_of(batch: object) -> Batch:
    """Return the images of a batch that count: padding is left out.

    Raises:
        DataError: it is no `Batch`.
    """
    if not isinstance(batch, Batch):
        raise DataError(f"the data loader yields a {type(batch).__name__}: an ibd.types.Batch is needed, with labels")
    return batch.select(batch.index >= 0) if bool((batch.index < 0).any()) else batch


def feature_layer(model: nn.Module, layer: str | None, image: Tensor | None = None) -> str:
    """Return the name of a layer; of None or "" that of the model's ``backbone``.

    Args:
        model: the model.
        layer: name, or None.
        image: (B, 3, H, W), by which a message can name the layers that put out maps.

    Raises:
        ConfigError: there is no such layer, or none is named and the model has no ``backbone``.
    """
    if not layer and isinstance(getattr(network_of(model), "backbone", None), nn.Module):
        return "backbone"
    if not layer:
        maps = "" if image is None else f" Layers with maps: {', '.join(spatial_layers(model, image[:1]))}"
        raise ConfigError(f"layer: {type(network_of(model)).__name__} has no 'backbone': name a layer.{maps}")
    find_layer(model, layer)
    return layer
