"""What the map of a filter should look like: one template for each place, and one for "not there" (Zhang et al. 2018).

The template of a place is 1 there and falls with the distance to it, in shares of the map's sides, down to -1; the
negative template is -1 everywhere. The loss has them times tau / n of the n cells of a map, as published.
"""

from __future__ import annotations

import torch
from torch import Tensor


def peaks(maps: Tensor) -> Tensor:
    """Return the cell of the highest value of each map, (B, F), row * columns + column; the first of equal ones."""
    return maps.flatten(2).argmax(2)


def masks_at(places: Tensor, grid: tuple[int, int], beta: float) -> Tensor:
    """Return the positive part of the templates of places, (..., h, w) in [0, 1] of (...) cells.

    Args:
        places: row * columns + column of each template.
        grid: (h, w).
        beta: how steeply a template falls.
    """
    rows, columns = (torch.arange(side, device=places.device, dtype=torch.float32) for side in grid)
    row = places.div(grid[1], rounding_mode="floor").unsqueeze(-1)
    down, across = (rows - row).abs() / grid[0], (columns - places.remainder(grid[1]).unsqueeze(-1)).abs() / grid[1]
    return (1 - beta * (down.unsqueeze(-1) + across.unsqueeze(-2))).clamp(min=0)


def all_templates(grid: tuple[int, int], beta: float, like: Tensor) -> Tensor:
    """Return the n = h * w templates of all places and then the negative one, (n + 1, n), of values in [-1, 1].

    Args:
        grid: (h, w).
        beta: how steeply a template falls: it is -1 from a distance of 2 / beta of a side on.
        like: tensor of the device and type that they are to have.
    """
    sides = [torch.arange(side, device=like.device, dtype=like.dtype) for side in grid]
    down, across = ((side[:, None] - side).abs() / len(side) for side in sides)
    distance = down[:, None, :, None] + across[None, :, None, :]
    positive = (1 - beta * distance).clamp(min=-1).reshape(grid[0] * grid[1], -1)
    return torch.cat([positive, -torch.ones_like(positive[:1])])
