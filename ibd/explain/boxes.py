"""Boxes around where a map is high: what a figure frames, and how large the evidence is.

The published box holds all pixels above a percentile (Chen et al. 2019). It always has 5 % of the pixels however sharp
the map is, and two peaks, or a flat map, make it the whole image. The box here is around one peak: the pixels that are
connected to it and above a share of the map's range.

A box is (top, left, bottom, right) in pixels, the last two exclusive. A map without a peak (flat, or with a value that
is not finite) has no place to frame: its box is the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones.receptive_field import ReceptiveField
from ibd.explain.activations import network_of
from ibd.metrics.parts import upsampling

Box = tuple[int, int, int, int]

_TIE = 1e-6
"""Share of a map's range by which rounding may part equal values."""
_CHUNK = 1 << 22
"""Pixels that are upsampled at a time."""


def placed(maps: Tensor, image_size: tuple[int, int], field: ReceptiveField | None = None) -> Tensor:
    """Return (..., h, w) maps brought bilinearly to the image, (..., H, W), each cell where it looks.

    Args:
        maps: float maps.
        image_size: (H, W) in pixels.
        field: receptive field, for the pixels that the cells are centered on; without it they share the image out
            evenly.
    """
    rows, columns = (weights.to(maps) for weights in upsampling(maps.shape[-2:], image_size, "bilinear", field))
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ maps @ columns.T


def field_of(model: nn.Module, maps: Tensor, image_size: tuple[int, int]) -> ReceptiveField | None:
    """Return what the cells of maps see, where the model is one of ours and they are those of its last layer.

    None for any other model, for maps of another size, and where a cell is centered outside of the image.

    Args:
        model: a network, or a module that has one.
        maps: (..., h, w).
        image_size: (H, W) in pixels.
    """
    known = getattr(network_of(model), "receptive_field", None)
    return anchored(known(image_size) if callable(known) else None, maps.shape[-2:], image_size)


def anchored(field: ReceptiveField | None, grid: Sequence[int], image_size: tuple[int, int]) -> ReceptiveField | None:
    """Return what cells see if it is that of a map of h x w cells, each centered within the image; else None."""
    if field is None or tuple(field.grid) != tuple(grid):
        return None
    ends = (field.center(0, 0), field.center(field.grid[0] - 1, field.grid[1] - 1))
    inside = all(0 <= place <= side for end in ends for place, side in zip(end, image_size, strict=True))
    return field if inside else None


def account_of(model: nn.Module) -> str:
    """Return down to where the account of a model of ours is exact, "units", "cells" or "pixels"; "none" of others."""
    return str(getattr(network_of(model), "account", "none"))


def spread(maps: Tensor, image_size: tuple[int, int], field: ReceptiveField | None = None) -> Tensor:
    """Return (..., h, w) maps laid out over pixels, (..., H, W), bilinearly and with the same sum.

    As `placed`, but what a cell holds is divided among its pixels.

    Args:
        maps: float maps.
        image_size: (H, W) in pixels.
        field: receptive field, for the pixels that the cells are centered on, all within the image; without it they
            share it out evenly.
    """
    return _shared_out(maps, *upsampling(maps.shape[-2:], image_size, "bilinear", field))


def seen(maps: Tensor, image_size: tuple[int, int], field: ReceptiveField) -> Tensor:
    """Return (..., h, w) maps laid out over pixels, (..., H, W): each cell's value evenly over the pixels it sees.

    Args:
        maps: float maps.
        image_size: (H, W) in pixels.
        field: receptive field of the cells.
    """
    axes = []
    for axis, (cells, pixels) in enumerate(zip(maps.shape[-2:], image_size, strict=True)):
        inside = torch.zeros(pixels, cells, dtype=torch.float64)
        for cell in range(cells):
            box = field.box(cell, cell)  # rows and columns are independent of each other
            inside[box[axis] : box[axis + 2], cell] = 1
        axes.append(inside)
    return _shared_out(maps, *axes)


def _shared_out(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return maps brought to pixels by (H, h) and (W, w) weights, each cell's adding up to 1."""
    rows, columns = ((weights / weights.sum(0)).to(maps) for weights in (rows, columns))
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ maps @ columns.T


def relative_boxes(
    maps: Tensor,
    image_size: tuple[int, int],
    share: float = 0.5,
    field: ReceptiveField | None = None,
    around: Tensor | None = None,
) -> Tensor:
    """Return the tight box around the peak of each map, upsampled bilinearly, which makes no new extremes.

    In it are the pixels that are connected to the peak (by their sides) and at least ``min + share * (max - min)``.
    Of several peaks of the same height the first in reading order is taken.

    Args:
        maps: (N, h, w) of any sign and scale.
        image_size: (H, W) in pixels.
        share: share of the range, in [0, 1]; a larger one makes a smaller box.
        field: receptive field of the cells, as for `placed`.
        around: (N, 2) (y, x) in pixels, where pixel i spans i .. i + 1: the point to take in place of the peak, where
            it is known; of two places that are as good as equal, the box is then around this one. If it is below the
            threshold, its own height is the threshold.

    Returns:
        (N, 4) int64; (0, 0, H, W) for a map without a peak.
    """
    last = torch.tensor(image_size) - 1
    given = None if around is None else around.cpu().floor().long().clamp(min=0).minimum(last)

    def around_peak(values: Tensor, chunk: slice) -> Tensor:
        high, low = values.amax((1, 2), keepdim=True), values.amin((1, 2), keepdim=True)
        spread = high - low
        if given is None:
            seed = (values >= high - _TIE * spread).flatten(1).byte().argmax(1)
        else:
            seed = (given[chunk, 0] * values.shape[2] + given[chunk, 1]).to(values.device)
        least = torch.minimum(low + share * spread, values.flatten(1).gather(1, seed.unsqueeze(1)).unsqueeze(2))
        return connected(values >= least - _TIE * spread, seed)

    return _boxes(maps, image_size, lambda chunk: placed(chunk, image_size, field), around_peak)


def percentile_boxes(maps: Tensor, image_size: tuple[int, int], percentile: float = 95.0) -> Tensor:
    """Return the published box of each map: tight around all pixels from the percentile on, connected or not.

    Upsampled bicubically, as published.

    Args:
        maps: (N, h, w).
        image_size: (H, W) in pixels.
        percentile: percentile of the pixels of the upsampled map, in [0, 100].

    Returns:
        (N, 4) int64; (0, 0, H, W) for a map without a peak.
    """

    def high(values: Tensor, _: slice) -> Tensor:
        flat = values.flatten(1)
        place = percentile / 100 * (flat.shape[1] - 1)  # torch.quantile refuses more than 2 ** 24 values
        ordered = flat.sort(1).values
        low, up = ordered[:, int(place)], ordered[:, min(int(place) + 1, flat.shape[1] - 1)]
        return values >= (low + (place - int(place)) * (up - low)).view(-1, 1, 1)

    def evenly(chunk: Tensor) -> Tensor:
        return F.interpolate(chunk.unsqueeze(1), image_size, mode="bicubic", align_corners=False).squeeze(1)

    return _boxes(maps, image_size, evenly, high)


def relative_box(heat: Tensor, image_size: tuple[int, int], share: float = 0.5) -> Box:
    """Return `relative_boxes` of a single (h, w) map."""
    return as_box(relative_boxes(heat.unsqueeze(0), image_size, share)[0])


def percentile_box(heat: Tensor, image_size: tuple[int, int], percentile: float = 95.0) -> Box:
    """Return `percentile_boxes` of a single (h, w) map."""
    return as_box(percentile_boxes(heat.unsqueeze(0), image_size, percentile)[0])


def as_box(row: Tensor) -> Box:
    """Return four numbers of a tensor as plain ones."""
    top, left, bottom, right = row.tolist()
    return top, left, bottom, right


def connected(mask: Tensor, seed: Tensor) -> Tensor:
    """Return what of each mask is connected, by the sides of pixels, to one of its pixels.

    All masks at once, and a whole run of pixels of a row or column at a time, so that the number of steps is that of
    the turns of the region and not that of its pixels.

    Args:
        mask: (N, H, W) bool.
        seed: (N,) index into H x W.

    Returns:
        (N, H, W) bool; empty where the seed is not in the mask.
    """
    reached = F.one_hot(seed, mask.shape[1] * mask.shape[2]).bool().view_as(mask) & mask
    runs = [(~mask).cumsum(dim) for dim in (2, 1)]  # constant along a run, and different between two
    while True:
        before = reached
        for dim, run in zip((2, 1), runs, strict=True):
            shape = list(mask.shape)
            shape[dim] += 1
            hit = torch.zeros(shape, dtype=torch.int32, device=mask.device)
            hit.scatter_add_(dim, run, reached.int())
            reached = (hit.gather(dim, run) > 0) & mask
        if torch.equal(before, reached):
            return reached


def _boxes(
    maps: Tensor,
    image_size: tuple[int, int],
    enlarge: Callable[[Tensor], Tensor],
    inside: Callable[[Tensor, slice], Tensor],
) -> Tensor:
    """Return the tight boxes around the pixels that `inside` chooses of (N, H, W) upsampled maps."""
    height, width = image_size
    maps = maps.detach().float()
    boxes = [torch.empty(0, 4, dtype=torch.int64, device=maps.device)]
    step = max(1, _CHUNK // (height * width))
    for start in range(0, len(maps), step):
        part = slice(start, start + step)
        chunk = maps[part]
        spread = chunk.amax((1, 2)) - chunk.amin((1, 2))
        has_peak = (spread > 0) & spread.isfinite()
        mask = inside(enlarge(chunk.nan_to_num()), part) | ~has_peak.view(-1, 1, 1)
        rows, columns = mask.any(2), mask.any(1)
        top, left = rows.byte().argmax(1), columns.byte().argmax(1)
        bottom, right = height - rows.flip(1).byte().argmax(1), width - columns.flip(1).byte().argmax(1)
        boxes.append(torch.stack([top, left, bottom, right], 1))
    return torch.cat(boxes)
