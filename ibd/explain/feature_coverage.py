"""How much of what is annotated in images the selected channels respond to: semantic coverage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.activations import device_of
from ibd.explain.base import undisturbed
from ibd.explain.feature_pictures import shown_units
from ibd.explain.feature_selection import RelevantFeatures
from ibd.explain.layer_features import layer_reader
from ibd.explain.render import upsample
from ibd.metrics.functional.dissection import dissection_counts, dissection_iou, quantile_thresholds, weighted_iou

_MOST_VALUES = 2**24
"""Values of maps that are brought to the images' size at a time."""
Places = list[tuple[str, int]]
"""Layer and channel of units."""


@dataclass(frozen=True)
class Coverage:
    """How well annotated masks are met by the channels of a selection.

    ``IoU_c`` of a mask is that of the selected channel that fits it best, over all images, where a channel is above the
    value that 0.5 % of its cells pass (Bau et al. 2017). Their mean, weighted by the masks' areas, is the semantic
    coverage, after the weighted average IoU of Behzadi-Khormouji and Oramas (2023): ``sum_c a_c IoU_c / sum_c a_c``.

    Attributes:
        names: names of the C masks.
        iou: (C,) IoU of the best channel; NaN of a mask without pixels.
        best: names of the best channels; "" where none meets the mask.
        area: (C,) pixels of the masks.
        units: number of channels of the selection.
        covered: semantic coverage, 0 to 1.
        random: (R,) that of as many other channels of the same layers, drawn at random.
    """

    names: tuple[str, ...]
    iou: Tensor
    best: tuple[str, ...]
    area: Tensor
    units: int
    covered: float
    random: Tensor

    def __str__(self) -> str:
        """Return the figures as text."""
        wide = max(map(len, self.names))
        lines = [
            f"{name:<{wide}}  {float(iou):.3f}  {best}"
            for name, iou, best in zip(self.names, self.iou, self.best, strict=True)
        ]
        low, high = float(self.random.min()), float(self.random.max())
        lines.append(f"coverage {self.covered:.3f} of {self.units} channels; of as many others {low:.3f} to {high:.3f}")
        return "\n".join(lines)


def semantic_coverage(
    model: nn.Module,
    found: RelevantFeatures,
    batches: Iterable[tuple[Tensor, Tensor]],
    names: Sequence[str],
    per_class: int = 3,
    draws: int = 5,
    seed: int = 0,
) -> Coverage:
    """Return how well annotated masks are met by the channels of the largest weights. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        found: what was selected, see `relevant_features`.
        batches: images (B, 3, H, W), and masks (B, C, H, W) bool.
        names: names of the C masks.
        per_class: channels of each class.
        draws: sets of random channels.
        seed: seed of these.

    Raises:
        ConfigError: other numbers of names than masks.
        DataError: no images, or nothing was selected.
    """
    check_range("draws", draws, least=1)
    own = [(unit.layer, unit.channel) for unit in shown_units(found, per_class)]
    if not own:
        raise DataError("semantic coverage: no channel was selected for any class")
    rng = np.random.default_rng(seed)
    sets = [own, *(_others(found, own, rng) for _ in range(draws))]
    every = list(dict.fromkeys(place for places in sets for place in places))
    iou, area = channel_iou(model, every, batches, names)
    row_of = {place: row for row, place in enumerate(every)}
    best = [_best(iou[[row_of[place] for place in places]]) for places in sets]
    covered = [float(weighted_iou(values, area)) for values, _ in best]
    return Coverage(
        names=tuple(names),
        iou=best[0][0],
        best=tuple(
            f"{own[row][0]} channel {own[row][1]}" if float(value) > 0 else ""
            for value, row in zip(best[0][0], best[0][1].tolist(), strict=True)
        ),
        area=area,
        units=len(own),
        covered=covered[0],
        random=torch.tensor(covered[1:], dtype=torch.float64),
    )


def _best(iou: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each of C masks the IoU of the best of U units, and which that is."""
    values, rows = iou.nan_to_num(-1.0).max(0)
    return values.where(values >= 0, torch.nan), rows


def _others(found: RelevantFeatures, own: Places, rng: np.random.Generator) -> Places:
    """Return as many other channels of each layer, drawn at random, where there are so many."""
    drawn: Places = []
    for layer in found.layers:
        taken = {channel for other, channel in own if other == layer}
        left = [channel for channel in range(found.channels[found.layers.index(layer)]) if channel not in taken]
        drawn += [(layer, channel) for channel in rng.permutation(left)[: len(taken)].astype(int).tolist()]
    return drawn


def channel_iou(
    model: nn.Module, places: Places, batches: Iterable[tuple[Tensor, Tensor]], names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return the (U, C) IoU of channels with masks over all images, and the (C,) areas of the masks.

    A channel is on above the value that 0.5 % of its cells pass. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        places: layer and number of each of the U channels.
        batches: images (B, 3, H, W), and masks (B, C, H, W) bool.
        names: names of the C masks.

    Raises:
        ConfigError: other numbers of names than masks.
        DataError: no images.
    """
    layers = list(dict.fromkeys(layer for layer, _ in places))
    channels = {layer: [channel for other, channel in places if other == layer] for layer in layers}
    read, masks = layer_reader(model, layers), list[Tensor]()
    maps: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    with undisturbed(model), torch.no_grad():
        for image, mask in progress(batches, "semantic coverage"):
            if mask.shape[1] != len(names):
                raise ConfigError(f"semantic coverage: {mask.shape[1]} masks and {len(names)} names given")
            for layer, output in read(image.to(device_of(model))).items():
                maps[layer].append(output[:, channels[layer]].float().cpu())
            masks.append(mask)
    if not masks:
        raise DataError("semantic coverage: there are no images")
    area = sum((mask.flatten(2).sum((0, 2)) for mask in masks), torch.zeros(len(names), dtype=torch.int64))
    rows: dict[tuple[str, int], Tensor] = {}
    for layer in layers:
        found = _layer_iou(maps[layer], masks, area)
        rows |= {(layer, channel): row for channel, row in zip(channels[layer], found, strict=True)}
    return torch.stack([rows[place] for place in places]), area


def _layer_iou(maps: Sequence[Tensor], masks: Sequence[Tensor], area: Tensor) -> Tensor:
    """Return the (U, C) IoU of the channels of a layer."""
    thresholds = quantile_thresholds(torch.cat(list(maps)))
    shared, units = list[Tensor](), list[Tensor]()
    for values, mask in zip(maps, masks, strict=True):
        size = (mask.shape[2], mask.shape[3])
        step = max(1, _MOST_VALUES // (len(mask) * size[0] * size[1]))
        both, own = [], []
        for start in range(0, values.shape[1], step):
            part = slice(start, start + step)
            counts = dissection_counts(upsample(values[:, part], size), thresholds[part], mask)
            both.append(counts[0].sum(0))
            own.append(counts[1].sum(0))
        shared.append(torch.cat(both))
        units.append(torch.cat(own))
    return dissection_iou(torch.stack(shared).sum(0), torch.stack(units).sum(0), area)
