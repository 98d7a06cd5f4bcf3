"""Boxes: around a mask, and around the largest connected component of a mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bounding_boxes(masks: Tensor) -> Tensor:
    """Return the smallest box around each mask.

    Args:
        masks: (M, H, W) bool.

    Returns:
        (M, 4) float64 (top, left, bottom, right), the last two exclusive; NaN for an empty mask.
    """
    masks = masks.bool()
    sides = []
    for axis in (2, 1):
        there = masks.any(axis)
        count = there.shape[1]
        place = torch.arange(count, device=masks.device)
        sides.append((place.where(there, count).amin(1), place.where(there, -1).amax(1) + 1))
    (top, bottom), (left, right) = sides
    box = torch.stack([top, left, bottom, right], 1).cpu().double().to(_float64_device(masks))
    return box.where(masks.any((1, 2)).unsqueeze(1).to(box.device), torch.nan)


def largest_component_boxes(masks: Tensor) -> Tensor:
    """Return the box around the largest connected component of each mask, pixels touching at a corner included.

    Runs of pixels of a row are the nodes, runs of two rows that touch the edges; all masks are labelled at once. Of
    components of one size the first in reading order is taken.

    Args:
        masks: (M, H, W) bool.

    Returns:
        (M, 4) float64 (top, left, bottom, right), the last two exclusive; NaN for an empty mask.
    """
    masks = masks.bool()
    count, height, width = masks.shape[0], masks.shape[1] + 1, masks.shape[2] + 1
    # An empty column ends the runs of each row, an empty row parts the masks.
    flat = F.pad(F.pad(masks, (0, 1, 1, 0)).flatten(), (1, 0))
    starts, stops = flat[1:] & ~flat[:-1], flat[:-1] & ~flat[1:]
    start, stop = starts.nonzero().squeeze(1), stops.nonzero().squeeze(1)
    # (The first pixel of all has nothing above: its index wraps around, and `low` comes out above `high`.)
    # The first run above that ends no earlier than one column before, and the first that begins too late to touch.
    low = stops.cumsum(0, dtype=torch.int32)[start - width - 1]
    high = starts.cumsum(0, dtype=torch.int32)[stop - width]
    root = _roots(low.long(), high.long())
    area = torch.zeros_like(start).scatter_add_(0, root, stop - start)
    image = start // (height * width)
    largest = torch.zeros(count, dtype=area.dtype, device=area.device).scatter_reduce_(0, image, area, "amax")
    candidate = root.where(area[root] == largest[image], len(start))
    chosen = torch.full_like(largest, len(start)).scatter_reduce_(0, image, candidate, "amin")
    kept = root == chosen[image]
    row, column, length = (start // width % height)[kept] - 1, (start % width)[kept], (stop - start)[kept]
    box = torch.full((4, count), torch.nan, dtype=torch.float64, device=_float64_device(masks))
    for side, value, how in zip(
        box, (row, column, row + 1, column + length), ("amin", "amin", "amax", "amax"), strict=True
    ):
        side.scatter_reduce_(0, image[kept].to(box.device), value.to(box), how, include_self=False)
    return box.T


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return intersection over union of boxes, in [0, 1]; NaN where a box is NaN.

    Args:
        a: (..., 4) (top, left, bottom, right), the last two exclusive.
        b: (..., 4).
    """
    overlap = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = overlap.clamp(min=0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / (areas - shared)


def _roots(low: Tensor, high: Tensor) -> Tensor:
    """Return (R,): the first run that each run is connected with, if run i touches the runs low[i] to high[i] - 1."""
    own = torch.arange(len(low), device=low.device)
    root = _followed(low.where(high > low, own))
    more = (high - low - 1).clamp(min=0)  # runs above that it touches beside the first
    a = torch.repeat_interleave(own, more)
    b = low[a] + 1 + torch.arange(len(a), device=a.device) - (more.cumsum(0) - more)[a]
    while True:
        left, right = root[a], root[b]
        apart = left != right
        if not bool(apart.any()):
            return root
        a, b, left, right = a[apart], b[apart], left[apart], right[apart]
        root.scatter_reduce_(0, torch.maximum(left, right), torch.minimum(left, right), "amin")
        root = _followed(root)


def _followed(root: Tensor) -> Tensor:
    """Return where following the pointers ends."""
    while not torch.equal(root, above := root[root]):
        root = above
    return root


def _float64_device(value: Tensor) -> torch.device:
    return torch.device("cpu") if value.device.type == "mps" else value.device
