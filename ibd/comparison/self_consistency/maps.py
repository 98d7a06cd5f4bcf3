"""Maps of units brought to the image, each cell where it looks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ibd.explain.boxes import placed
from ibd.models.base import InterpretableNetwork


def enlarged(network: InterpretableNetwork, maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return (..., h, w) maps of units at the size of the image, (..., H, W).

    Args:
        network: network whose units they are.
        maps: maps of the units, in the size of their layer.
        size: H and W.
    """
    height, width = (int(side) for side in size)
    field = network.receptive_field((height, width))
    if field is not None and tuple(field.grid) != tuple(maps.shape[-2:]):
        field = None  # of another layer than the last one
    flat = maps.flatten(0, -3).float()
    return placed(flat, (height, width), field).view(*maps.shape[:-2], height, width)
