"""What a function does to the cells of a map: where each came from, found by moving numbers of rows and columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ibd.explain.calls import Call, tensors_in
from ibd.explain.layouts import PERMUTES, order_of

Moved = dict[int, tuple[int, tuple[int, ...]]]
"""Axis before -> axis after, and which index of the axis before each one after holds, -1 for padding. An axis that is
missing was lost, or moved differently at different places."""
_MOVERS = (
    *("flip", "fliplr", "flipud", "roll", "rot90", "narrow", "getitem", "index_select", "gather", "select"),
    *("take_along_dim", "chunk", "split", "tensor_split", "unbind", "hsplit", "vsplit", "dsplit"),
)


def moved(call: Call, position: int) -> Moved | None:
    """Return what a call did to the axes of its first argument, of four; None for one that moves no cells.

    Args:
        call: call of a function.
        position: position among several results.
    """
    before: Tensor = call.args[0]
    if call.bare in PERMUTES:
        order = order_of(call, before.dim())
        return {axis: (order.index(axis), tuple(range(before.shape[axis]))) for axis in range(1, 4)} if order else None
    if call.bare == "pad":
        return _padded(before.shape, call.argument(1, "pad"))
    if call.bare not in _MOVERS:
        return None
    moves: Moved = {}
    for axis in range(1, 4):
        size = before.shape[axis]
        numbers = torch.arange(1.0, size + 1, device=before.device)
        numbers = numbers.view([-1 if other == axis else 1 for other in range(4)]).expand(before.shape)
        after = _done(dataclasses.replace(call, args=(numbers, *call.args[1:])), position)
        if (there := None if after is None else _along(after, axis, size)) is not None:
            moves[axis] = there
    return moves


def _padded(shape: Sequence[int], widths: Sequence[int]) -> Moved:
    """Return what a padding does to the axes of a map; new cells are of nothing, be they zeros or repeated.

    It is told, and not found out: a network that pads before each convolution would take most of its time.

    Args:
        shape: sizes of the four axes.
        widths: two for each padded axis, the last axis first; below 0 they cut off.
    """
    moves: Moved = {}
    for axis in range(1, 4):
        place = 2 * (3 - axis)
        start, end = (int(width) for width in widths[place : place + 2]) if place < len(widths) else (0, 0)
        left = range(max(0, -start), shape[axis] - max(0, -end))
        moves[axis] = (axis, (*(-1 for _ in range(start)), *left, *(-1 for _ in range(end))))
    return moves


@torch.no_grad()
def _done(call: Call, position: int) -> Tensor | None:
    """Return what a call makes of other values."""
    try:
        made = tensors_in(call.run())
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError):
        return None
    return made[position] if position < len(made) else None


def _along(after: Tensor, axis: int, size: int) -> tuple[int, tuple[int, ...]] | None:
    """Return along which axis numbers from 1 lie, and which; None if they lie along none, or not alone."""
    if not after.numel():
        return None
    known = after > 0
    for other_axis in sorted(
        range(after.dim()), key=lambda other: abs(other - axis)
    ):  # where it was, if it is of size 1
        rest = [other for other in range(after.dim()) if other != other_axis]
        line = after.amax(rest, keepdim=True) if rest else after
        if size > 1 and line.numel() != 1 and len(set(line[line > 0].tolist())) == 1 and after.max() != after.min():
            continue  # along another
        if bool((after == line)[known].all()):
            return other_axis, tuple(int(value) - 1 if value > 0 else -1 for value in line.flatten().tolist())
    return None


def along(numbers: Tensor, axis: int) -> tuple[int, ...] | None:
    """Return the numbers from 1 that lie along an axis, less 1; None if they differ along another axis as well."""
    rest = [other for other in range(numbers.dim()) if other != axis]
    line = numbers.amax(rest, keepdim=True) if rest else numbers
    return tuple(int(value) - 1 for value in line.flatten().tolist()) if bool((numbers == line).all()) else None


def reach(call: Call) -> tuple[int, int] | None:
    """Return how many rows and columns a cell of a convolution or pooling sees; None for another function."""
    name = call.bare
    if name.startswith("conv") and "transpose" not in name:
        weight = call.argument(1, "weight")
        sizes = tuple(weight.shape[2:]) if isinstance(weight, Tensor) else ()
        apart = call.argument(5, "dilation", 1)
    elif name.startswith(("max_pool", "avg_pool", "lp_pool")):
        sizes, apart = call.argument(1, "kernel_size", ()), 1
    else:
        return None
    rows, columns = _pair(sizes)
    steps = _pair(apart)
    return (rows - 1) * steps[0] + 1, (columns - 1) * steps[1] + 1


def _pair(sizes: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(sizes, int):
        return sizes, sizes
    return (int(sizes[0]), int(sizes[-1])) if len(sizes) else (1, 1)
