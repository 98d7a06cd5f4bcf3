"""Boxes around the connected components of masks, and which of two sets of boxes are the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def component_boxes(masks: Tensor, most: int | None = None) -> Tensor:
    """Return the boxes around the connected components of each mask, pixels touching at a corner included.

    The largest component comes first; of components of one size the first in reading order. Runs of pixels of a row are
    the nodes, runs of two rows that touch the edges; all masks are labeled at once.

    Args:
        masks: (M, H, W) bool.
        most: number K of components of each mask; None takes as many as the mask with the most has.

    Returns:
        (M, K, 4) float64 (top, left, bottom, right), the last two exclusive; NaN where there is no further component.
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
    image = start // (height * width)
    place, largest = _places(root, stop - start, image, count)
    most = largest if most is None else most
    kept = place < most
    row, column, length = (start // width % height)[kept] - 1, (start % width)[kept], (stop - start)[kept]
    slot = (image * most + place)[kept]
    box = torch.full((4, count * most), torch.nan, dtype=torch.float64, device=_float64_device(masks))
    for side, value, how in zip(
        box, (row, column, row + 1, column + length), ("amin", "amin", "amax", "amax"), strict=True
    ):
        side.scatter_reduce_(0, slot.to(box.device), value.to(box), how, include_self=False)
    return box.T.reshape(count, most, 4)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return intersection over union of boxes, in [0, 1]; NaN where a box is NaN.

    Args:
        a: (..., 4) boxes (top, left, bottom, right), the last two exclusive.
        b: (..., 4) boxes, likewise.
    """
    overlap = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = overlap.clamp(min=0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / (areas - shared)


def matched_boxes(boxes: Tensor, wanted: Tensor, level: float = 0.5) -> Tensor:
    """Return how many of the wanted boxes are found, (M,) float64.

    Each box is matched once: the two that are most alike first, as detections are in COCO.

    Args:
        boxes: (M, K, 4); NaN where there is none.
        wanted: (M, L, 4); NaN where there is none.
        level: the least IoU of a match, above 0.
    """
    left = box_iou(boxes.unsqueeze(2), wanted.unsqueeze(1)).nan_to_num(0.0)
    rows, columns = left.shape[1:]
    box, matched = torch.arange(len(left), device=left.device), left.new_zeros(len(left))
    for _ in range(min(rows, columns)):
        best, place = left.flatten(1).max(1)
        matched += best >= level
        left[box, place // columns] = 0
        left[box, :, place % columns] = 0
    return matched


def _places(root: Tensor, length: Tensor, image: Tensor, count: int) -> tuple[Tensor, int]:
    """Return which component of its image each run belongs to, the largest being 0, and how many an image has at most.

    Args:
        root: (R,) the first run of each run's component.
        length: (R,) pixels of each run.
        image: (R,) number of each run's image, ascending.
        count: number of images.
    """
    area = torch.zeros_like(root).scatter_add_(0, root, length)
    first = (area > 0).nonzero().squeeze(1)
    by_area = first[area[first].sort(descending=True, stable=True).indices]
    ordered = by_area[image[by_area].sort(stable=True).indices]
    per_image = image[ordered].bincount(minlength=count)
    before = per_image.cumsum(0) - per_image
    place = torch.zeros_like(root)
    place[ordered] = torch.arange(len(ordered), device=root.device) - before[image[ordered]]
    return place[root], int(per_image.max()) if count else 0


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
