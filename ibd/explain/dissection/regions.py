"""Where in images the channels of layers are high: their maps, thresholds over a data set, and the regions above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ibd.errors import DataError
from ibd.explain.activations import device_of, no_map
from ibd.explain.boxes import anchored
from ibd.explain.layer_features import layer_reader
from ibd.explain.layouts import Layout
from ibd.explain.patches import cells_see
from ibd.metrics.functional.dissection import SHARE
from ibd.metrics.parts import upsampling

_MOST_VALUES = 2**24
"""Values of maps that are brought to the images' size at a time: 64 MiB."""


class Regions:
    """Reads the maps of layers, and tells where in the images a channel is above its threshold.

    A map is brought to the image bilinearly, each cell at the center of what it sees (Bau et al. 2017), where that is
    known.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        layers: names of layers that put out maps.
        layout: axis of a layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], layout: Layout = "auto") -> None:
        self._model, self.layers = model, list(layers)
        self._read = layer_reader(model, self.layers, layout)
        self._weights: dict[str, tuple[Tensor, Tensor]] = {}

    def maps(self, image: Tensor) -> dict[str, Tensor]:
        """Return the (B, U, h, w) maps of each layer for images, in float32 or better, on the model's device.

        Raises:
            UnsupportedError: a layer puts out no map.
        """
        image = image.to(device_of(self._model))
        read = self._read(image)
        for layer, maps in read.items():
            if maps.dim() != 4:
                raise no_map(self._model, image, layer, maps)
        return {layer: maps.to(torch.promote_types(maps.dtype, torch.float32)) for layer, maps in read.items()}

    def above(
        self, layer: str, maps: Tensor, thresholds: Tensor, size: tuple[int, int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the regions of some channels at a time: the first channel's number, and (B, u, H * W) bool.

        Args:
            layer: layer that they are of.
            maps: (B, U, h, w) of some or all channels.
            thresholds: (U,) of these.
            size: H and W.
        """
        rows, columns = (weights.to(maps) for weights in self._upsampling(layer, maps.shape[2:], size))
        step = max(1, _MOST_VALUES // (len(maps) * size[0] * size[1]))
        limits = thresholds.to(maps).view(-1, 1, 1)
        for start in range(0, maps.shape[1], step):
            some = slice(start, start + step)
            with torch.autocast(maps.device.type, enabled=False):
                large = rows @ maps[:, some] @ columns.T
            # Rounding must not lift a flat map, or a channel at its ceiling, above a threshold of that very value.
            large = torch.minimum(large, maps[:, some].amax((2, 3), keepdim=True))
            yield start, (large > limits[some]).flatten(2)

    def _upsampling(self, layer: str, cells: Sequence[int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the (H, h) and (W, w) weights by which a layer's maps are brought to the image."""
        if layer not in self._weights:
            seen = cells_see(self._model, lambda image: self._read(image)[layer], False, size)
            rows, columns = upsampling(cells, size, "bilinear", anchored(seen, cells, size))
            # A weight that is rounding alone would put the neighbors of a channel's only cells above a threshold of 0.
            self._weights[layer] = rows.round(decimals=9), columns.round(decimals=9)
        return self._weights[layer]


class TopValues:
    """The thresholds that a share of all cells of a data set is above, without the maps of all images.

    It keeps the highest values of each channel, that share of all. Where these are too many for memory, they are those
    of some cells of each image, drawn at random; the share is off by about one over the root of the values kept then.

    Args:
        images: number of images that will come.
        share: share of the cells that are above, in (0, 1).
        budget: values that are kept at most, of all channels together.
        seed: seed of the cells, where they are drawn.
    """

    def __init__(self, images: int, share: float = SHARE, budget: int = 2**24, seed: int = 0) -> None:
        self._images, self._share, self._budget, self._seed = images, share, budget, seed
        self._kept: Tensor | None = None
        self._cells = self._wanted = self._seen = 0

    @property
    def exact(self) -> bool:
        """Whether no cell was left out."""
        return self._kept is None or not self._cells

    def update(self, maps: Tensor, layer: str) -> None:
        """Take in the (B, U, h, w) maps of the next images.

        Args:
            maps: the maps.
            layer: layer that they are of, for a message.

        Raises:
            DataError: a value is infinite or not a number.
        """
        if not bool(maps.isfinite().all()):
            raise DataError(f"dissection: layer '{layer}' puts out values that are not finite")
        if self._kept is None:
            self._plan(maps.shape[1], maps.shape[2] * maps.shape[3])
            self._kept = maps.new_empty(maps.shape[1], 0)
        flat = maps.flatten(2)
        if self._cells:
            drawn = [np.random.default_rng([self._seed, self._seen + row]) for row in range(len(maps))]
            cells = torch.stack([torch.from_numpy(rng.permutation(flat.shape[2])[: self._cells]) for rng in drawn])
            flat = flat.gather(2, cells.to(flat.device).unsqueeze(1).expand(-1, flat.shape[1], -1))
        self._seen += len(maps)
        values = torch.cat([self._kept, flat.movedim(1, 0).flatten(1)], 1)
        self._kept = values.topk(min(self._wanted, values.shape[1]), 1).values

    def thresholds(self) -> Tensor:
        """Return the (U,) thresholds, on the CPU.

        Raises:
            DataError: there were no images.
        """
        if self._kept is None:
            raise DataError("dissection: there are no images")
        return self._kept[:, -1].cpu()

    def _plan(self, units: int, cells: int) -> None:
        """Decide how many cells of an image are looked at, 0 for all, and how many values are kept."""
        wanted = int(self._share * self._images * cells + 1e-9) + 1
        if units * wanted > self._budget:
            self._cells = max(1, cells * self._budget // (units * wanted))
            wanted = int(self._share * self._images * self._cells + 1e-9) + 1
        self._wanted = wanted
