"""What the channels of a layer, or the units of a model, respond to most among the images of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range, did_you_mean
from ibd.explain.activations import Reader, device_of, images_of, network_of
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import undisturbed
from ibd.explain.layer_layout import as_map
from ibd.explain.layouts import Layout


@dataclass(frozen=True)
class Patches:
    """For each of U channels the k images with the highest activation, best first, and where it is.

    Attributes:
        names: (U) of the channels or units.
        score: (U, k) activation; -inf where there are fewer images than k.
        image: (U, k) the ``index`` of a `Batch`, else the place in the order of the loader; -1 for none.
        position: (U, k, 2) row and column in the map.
        box: (U, k, 4) top, left, bottom, right in pixels, the last two exclusive: what the cell sees; (0, 0, 0, 0) for
            none.
        exact: whether boxes are receptive fields; else the cell's even share of the image.
    """

    names: list[str]
    score: Tensor
    image: Tensor
    position: Tensor
    box: Tensor
    exact: bool

    def pictures(self, dataset: Any, size: int = 48) -> Tensor:
        """Return the patches, each brought to `size` pixels, (U, k, 3, size, size); gray where there is none.

        Args:
            dataset: the one that the loader read, whose items hold an image (3, H, W) as a batch holds images.
            size: size of a side.
        """
        made = torch.full((*self.score.shape, 3, size, size), 0.5)
        for unit, rank in ((self.image >= 0).nonzero()).tolist():
            item: Any = dataset[int(self.image[unit, rank])]
            image: Any = getattr(item, "image", item[0] if isinstance(item, list | tuple) else item)
            top, left, bottom, right = self.box[unit, rank].tolist()
            patch = image[None, :, top:bottom, left:right].float()
            made[unit, rank] = F.interpolate(patch, size=(size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)
        return made


def maximally_activating_patches(
    model: nn.Module,
    data_loader: Iterable[object],
    layer: str | None = None,
    channels: Sequence[int | str] | None = None,
    k: int = 9,
    layout: Layout = "auto",
) -> Patches:
    """Return the patches that channels respond to most, one of each image, in one pass over the data.

    The memory it takes grows with the channels and k, not with the data. Of equal activations the earlier image wins,
    in it the earlier position. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`, a tuple or dict with images, or images.
        layer: layer whose channels are searched; None takes the maps of the units of one of our models.
        channels: numbers, or names of units; None takes all.
        k: number of patches of each channel.
        layout: axis of the layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: no such layer, channel or unit.
        DataError: no images, or images of different sizes.
        UnsupportedError: the layer puts out no map, or the model has no units.
    """
    with undisturbed(model), torch.no_grad():
        maps_of = maps_reader(model, layer, layout)
        return search(model, data_loader, maps_of, maps_of, layer, channels, k)


def search(
    model: nn.Module,
    data_loader: Iterable[object],
    values_of: Callable[[Tensor], Tensor],
    maps_of: Callable[[Tensor], Tensor],
    layer: str | None,
    channels: Sequence[int | str] | None,
    k: int,
) -> Patches:
    """Return the k images with the highest value of each channel, and where it is, in one pass over the data.

    Args:
        model: model that the values are of.
        data_loader: loader of images.
        values_of: (B, 3, H, W) images -> (B, D, h, w) values.
        maps_of: images -> maps of the same cells, by which it is told what a cell sees.
        layer: layer that they are of; None are units.
        channels: channels that are asked for; None are all.
        k: number of images of each.
    """
    check_range("k", k, least=1)
    best, chosen, size, seen, shape = None, None, None, 0, (0, 0)
    for batch in progress(data_loader, "searching patches"):
        images = images_of(batch)
        if size is not None and tuple(images.shape[2:]) != size:
            raise DataError(f"images of {size} and of {tuple(images.shape[2:])} pixels: all must have one size")
        size = (images.shape[2], images.shape[3])
        maps = values_of(images.to(device_of(model)))
        if chosen is None:
            chosen = _chosen(model, layer, channels, maps.shape[1])
        maps = maps[:, chosen].float().cpu()
        numbers = torch.arange(seen, seen + len(images))
        if hasattr(batch, "image") and hasattr(batch, "index"):
            numbers = batch.index.cpu()
        best, seen, shape = merged(best, maps, numbers, k), seen + len(images), (maps.shape[2], maps.shape[3])
    if best is None or size is None or chosen is None:
        raise DataError("the data loader yields no images")
    field = cells_see(model, maps_of, layer is None, size)
    return _patches(best, _names(model, layer, chosen), size, shape, field)


def patches_at(
    model: nn.Module,
    layer: str,
    names: list[str],
    image: Tensor,
    position: Tensor,
    score: Tensor,
    size: tuple[int, int],
    shape: tuple[int, int],
    layout: Layout = "auto",
) -> Patches:
    """Return the patches at places of a layer's map that are known.

    Args:
        model: model that the layer is of.
        layer: name of the layer.
        names: names of the U rows.
        image: (U, k) positions of the images in their split.
        position: (U, k, 2) row and column in the map.
        score: (U, k) value there.
        size: H and W of the images.
        shape: rows and columns of the map.
        layout: layout of the layer's output.
    """
    with undisturbed(model):
        field = cells_see(model, maps_reader(model, layer, layout), False, size)
    flat = position[..., 0] * shape[1] + position[..., 1]
    return _patches((score, image, flat), names, size, shape, field)


def maps_reader(model: nn.Module, layer: str | None, layout: Layout) -> Callable[[Tensor], Tensor]:
    """Return what turns images into the maps of a layer, or of the units, (B, D, h, w).

    Raises:
        UnsupportedError: the model has no units.
    """
    if layer is None:
        encode = getattr(network_of(model), "encode", None)
        if encode is None:
            raise UnsupportedError(f"{type(model).__name__} has no units: name a layer")
        return lambda image: encode(image).maps
    reader, found = Reader(model, [layer]), list[Arrangement]()

    def read(image: Tensor) -> Tensor:
        output = reader(image)[layer]
        if not found:
            found.append(as_map(model, image, layer, output, layout)[1])
        return found[0].to_map(output)

    return read


def _chosen(model: nn.Module, layer: str | None, channels: Sequence[int | str] | None, count: int) -> list[int]:
    names: list[str] = list(getattr(network_of(model), "unit_names", ())) if layer is None else []
    chosen = []
    for channel in range(count) if channels is None else channels:
        if isinstance(channel, str) and channel in names:
            chosen.append(names.index(channel))
        elif isinstance(channel, str):
            raise ConfigError(f"no unit '{channel}'.{did_you_mean(channel, names)}")
        elif 0 <= channel < count:
            chosen.append(channel)
        else:
            raise ConfigError(f"no channel {channel}: there are {count}, counted from 0")
    return chosen


def _names(model: nn.Module, layer: str | None, chosen: list[int]) -> list[str]:
    if layer is None:
        return [network_of(model).unit_names[index] for index in chosen]  # type: ignore[index,misc]
    return [f"{layer} channel {index}" for index in chosen]


def merged(best: tuple[Tensor, ...] | None, maps: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, ...]:
    """Return score, image and flat position, (U, k) each, of the best so far and those of a batch."""
    score, position = maps.flatten(2).max(2)  # the first of equal ones
    new = (score.t(), numbers.expand(score.shape[1], -1), position.t())
    if best is None:
        missing = torch.full((score.shape[1], k), -1)
        best = (torch.full(missing.shape, -torch.inf), missing, missing)
    both = tuple(torch.cat(pair, 1) for pair in zip(best, new, strict=True))
    order = both[1].sort(dim=1, stable=True).indices
    order = order.gather(1, both[0].gather(1, order).sort(dim=1, descending=True, stable=True).indices)[:, :k]
    return tuple(values.gather(1, order) for values in both)


class _Maps(nn.Module):
    """A model whose output is the map that is looked at."""

    def __init__(self, model: nn.Module, maps_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self._maps_of = model, maps_of

    def forward(self, image: Tensor) -> Tensor:
        return self._maps_of(image)


def cells_see(
    model: nn.Module, maps_of: Callable[[Tensor], Tensor], units: bool, size: tuple[int, int]
) -> ReceptiveField | None:
    """Return what cells of maps see of images of (H, W) pixels; None where that cannot be told.

    Args:
        model: model that the maps are of.
        maps_of: images -> maps.
        units: whether they are the maps of the units of a model of ours.
        size: H and W.
    """
    network = network_of(model)
    try:
        if units and hasattr(network, "extent"):  # compared patch by patch
            field: ReceptiveField | None = network.receptive_field(size)  # type: ignore[operator]
            return field
        return receptive_field(_Maps(model, maps_of), size)
    except (UnsupportedError, RuntimeError):  # a model that cannot run without numbers
        return None


def _patches(
    best: tuple[Tensor, ...], names: list[str], size: tuple[int, int], shape: tuple[int, int], field: Any
) -> Patches:
    """Return the patches with their places and boxes."""
    score, image, flat = best
    position = torch.stack([flat // shape[1], flat % shape[1]], 2)
    box = torch.zeros(*flat.shape, 4, dtype=torch.int64)
    for unit, rank in (image >= 0).nonzero().tolist():
        row, column = position[unit, rank].tolist()
        if field is not None:
            corners = field.box(row, column)
        else:
            spans = [
                (at * side // n, -(-(at + 1) * side // n))
                for at, side, n in zip((row, column), size, shape, strict=True)
            ]
            corners = (spans[0][0], spans[1][0], spans[0][1], spans[1][1])
        box[unit, rank] = torch.tensor(corners)
    return Patches(names, score, image, position, box, field is not None)
