"""Pictures of channels: the images in which they are highest, and where they are above their thresholds there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ibd.data.masked import MaskedImages
from ibd.distributed import progress
from ibd.explain.base import undisturbed
from ibd.explain.dissection.found import LayerDissection, Unit
from ibd.explain.dissection.regions import Regions
from ibd.explain.layouts import Layout
from ibd.metrics.functional.forms import combinations


class Shown(NamedTuple):
    """An image in which a channel is high."""

    name: str
    image: Tensor
    """(3, H, W) in [0, 1]."""
    region: Tensor
    """(H, W) bool, where the channel is above its threshold."""
    annotated: Tensor
    """(H, W) bool, where what the channel stands for is annotated."""


def most_telling(units: Sequence[Unit], count: int) -> list[Unit]:
    """Return the channels with the highest IoU with what they stand for, silent ones left out.

    Of several that stand for the same the best comes first, and the others after those of all else.
    """
    heard = sorted((unit for unit in units if unit.kind != "silent"), key=lambda unit: -unit.said_iou)
    first = list({unit.said: unit for unit in reversed(heard)}.values())
    others = [unit for unit in heard if unit not in first]
    return [*sorted(first, key=lambda unit: -unit.said_iou), *others][:count]


def unit_pictures(
    model: nn.Module, found: LayerDissection, units: Sequence[Unit], unseen: MaskedImages, layout: Layout = "auto"
) -> dict[int, list[Shown]]:
    """Return for each channel the images in which it is highest, the highest first.

    Args:
        model: the model that was dissected; it is left as it was.
        found: dissection of a layer.
        units: some of its channels.
        unseen: the images that it was scored on.
        layout: axis of the layer's output that holds the channels.

    Returns:
        Channel -> images.
    """
    places = sorted({place for unit in units for place in found.images[unit.channel].tolist() if place >= 0})
    pictures: dict[tuple[int, int], Shown] = {}
    steps = range(0, len(places), unseen.batch_size)
    with undisturbed(model), torch.no_grad():
        regions = Regions(model, [found.layer], layout)
        for start in progress(steps, f"pictures of {found.layer}"):
            some = places[start : start + unseen.batch_size]
            image, masks = unseen.take(some)
            maps = regions.maps(image)[found.layer]
            for unit in units:
                rows = [row for row, place in enumerate(some) if place in found.images[unit.channel].tolist()]
                if rows:
                    region = _region(regions, found, maps[rows], unit, (image.shape[2], image.shape[3]))
                    for row, own in zip(rows, region, strict=True):
                        annotated = _annotated(found, unit, masks[row])
                        name = unseen.name(some[row])
                        pictures[unit.channel, some[row]] = Shown(name, image[row], own, annotated)
    return {
        unit.channel: [pictures[unit.channel, place] for place in found.images[unit.channel].tolist() if place >= 0]
        for unit in units
    }


def _region(regions: Regions, found: LayerDissection, maps: Tensor, unit: Unit, size: tuple[int, int]) -> Tensor:
    """Return where a channel is above its threshold, (B, H, W) bool on the CPU."""
    one = maps[:, unit.channel : unit.channel + 1]
    _, above = next(iter(regions.above(found.layer, one, found.thresholds[unit.channel].view(1), size)))
    return above.view(-1, *size).cpu()


def _annotated(found: LayerDissection, unit: Unit, masks: Tensor) -> Tensor:
    """Return where what a channel stands for is in an image, (H, W) bool."""
    if unit.said != unit.form:
        return masks[int(found.concept[unit.channel])]
    row, held = combinations(masks.unsqueeze(0))
    return found.forms[unit.channel].holds(held)[row[0]]
