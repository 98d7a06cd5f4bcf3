"""Which token is which patch of the image: followed from where a map becomes tokens, by moving numbers of patches.

Class tokens, registers and all else that is put beside the patches have no place. A token stays what it is through what
acts on each token by itself, and an attention's output belongs to its queries, as the sum with what came before has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ibd.explain.calls import Call, tensors_in
from ibd.explain.layouts import PERMUTES, kept_axes, normalized_axes
from ibd.explain.moved_axes import along

_MOVERS = (
    *("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "unsafe_view", *PERMUTES, "cat", "concat"),
    *("concatenate", "stack", "getitem", "select", "narrow", "chunk", "split", "split_with_sizes", "tensor_split"),
    *("unbind", "index_select", "gather", "take_along_dim", "expand", "expand_as", "repeat", "unsqueeze", "squeeze"),
    *("roll", "flip", "pad", "broadcast_to"),
)
"""Functions that move values, and change none."""
_PRODUCTS = ("matmul", "mm", "bmm")
_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")
_REDUCES = ("mean", "sum", "amax", "amin", "max", "min", "std", "var", "logsumexp", "norm", "topk", "argmax")
_APIECE = (
    *("add", "radd", "iadd", "sub", "rsub", "isub", "subtract", "mul", "rmul", "imul", "multiply", "div", "truediv"),
    *("itruediv", "true_divide", "divide", "neg", "negative", "pow", "sqrt", "rsqrt", "square", "abs", "exp", "log"),
    *("linear", "layer_norm", "rms_norm", "normalize", "softmax", "log_softmax", "dropout", "alpha_dropout", "gelu"),
    *("silu", "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "mish", "tanh", "sigmoid", "hardswish"),
    *("hardsigmoid", "hardtanh", "softplus", "clamp", "clamp_min", "clamp_max", "clip", "lerp", "addcmul", "addcdiv"),
    *("masked_fill", "where", "to", "type", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone"),
    *("detach", "requires_grad", "positive"),
)
"""Functions that leave each token by itself, unless they act along the tokens."""


class Grid(NamedTuple):
    """The patches of a tensor.

    Attributes:
        axis: axis along which the tokens lie.
        cells: for each token the number of its cell, row by row; -1 for one that is no patch.
        shape: rows and columns.
        source: node of the map that became tokens.
    """

    axis: int
    cells: tuple[int, ...]
    shape: tuple[int, int]
    source: int

    @property
    def whole(self) -> bool:
        """Whether every cell is there, once, and there are several."""
        count = self.shape[0] * self.shape[1]
        return count > 1 and sorted(cell for cell in self.cells if cell >= 0) == list(range(count))


class Step(NamedTuple):
    """What a call did to the tokens of its arguments.

    Attributes:
        grid: patches of the result; None where it has none, or they cannot be told.
        mixes: whether values of several tokens, or of a number of them that is not known, went into one.
        scattered: whether the result is a map of the patches that are not where the image has them.
    """

    grid: Grid | None
    mixes: bool = False
    scattered: bool = False


Given = Sequence[tuple[int | None, Tensor, Grid | None]]
"""Of each tensor among the arguments: its node, itself, its patches."""


def begin(call: Call, source: int, axes: tuple[int, int], position: int) -> Grid | None:
    """Return the patches where a call makes three axes of a map, else None.

    Args:
        call: call, whose first argument is a map.
        source: node of that map.
        axes: axes of the map that hold the rows and the columns.
        position: position among several results.
    """
    first: Tensor = call.args[0]
    shape = (first.shape[axes[0]], first.shape[axes[1]])
    numbers = torch.arange(1.0, shape[0] * shape[1] + 1, device=first.device)
    numbers = numbers.view([size if axis in axes else 1 for axis, size in enumerate(first.shape)]).expand(first.shape)
    after = _moved(call, {id(first): numbers}, position)
    return None if after is None or after.dim() != 3 else _found(after, shape, source)


def follow(call: Call, given: Given, made: Tensor, position: int, images: int) -> Step:
    """Return what became of the patches that some arguments of a call hold.

    Args:
        call: call of a function.
        given: its tensors; one at least has patches.
        made: its result.
        position: position among several results.
        images: number of images.
    """
    name = call.bare
    if name in _MOVERS:
        return _move(call, given, position)
    if name in _ATTENTION:
        query = next((grid for _, tensor, grid in given if tensor is call.argument(0, "query")), None)
        return Step(query if position == 0 and made.dim() == call.argument(0, "query").dim() else None, mixes=True)
    if name in _PRODUCTS or name in ("rmatmul", "einsum"):
        grid, several = _product(call, given, made), sum(node is not None for node, *_ in given) > 1
        return Step(grid, mixes=grid is None or several)
    if name in _REDUCES:
        return _reduce(call, given, made)
    return _each(call, given, made, images) if name in _APIECE else Step(None, mixes=True)


def _move(call: Call, given: Given, position: int) -> Step:
    """Follow numbers of patches, with 0 for everything else."""
    grids = [grid for *_, grid in given if grid is not None]
    swaps = {}
    for _, tensor, grid in given:
        if grid is not None:
            swaps[id(tensor)] = _numbers(tensor, grid)
        elif tensor.is_floating_point():
            swaps[id(tensor)] = torch.zeros((), device=tensor.device).expand(tensor.shape)
    after = _moved(call, swaps, position)
    if after is None or len({grid[2:] for grid in grids}) != 1:
        return Step(None, mixes=True)
    if not bool(after.any()):
        return Step(None)  # of no patch
    found = _found(after, grids[0].shape, grids[0].source)
    if found is None and after.dim() == 4:
        return Step(None, mixes=True, scattered=not _in_rows(after, grids[0].shape))
    return Step(found, mixes=found is None)


def _each(call: Call, given: Given, made: Tensor, images: int) -> Step:
    """Follow what acts on each token by itself."""
    grids = set()
    for node, tensor, grid in given:
        if grid is not None:
            grids.add(grid)
        elif node is not None and tensor.dim() > 1 and tensor.numel() // max(tensor.shape) > images:
            return Step(None, mixes=True)  # of the image, and no single number or vector of each
    (grid, *others) = grids
    last = made.dim() - 1
    apart = grid.axis == last and call.bare == "linear"
    apart = apart or (call.bare in ("layer_norm", "rms_norm") and grid.axis > last - normalized_axes(call))
    if others or apart or made.dim() <= grid.axis or made.shape[grid.axis] != len(grid.cells):
        return Step(None, mixes=True)
    bearers = [tensor for _, tensor, own in given if own is not None]
    return Step(grid) if all(tensor.dim() == made.dim() for tensor in bearers) else Step(None, mixes=True)


def _product(call: Call, given: Given, made: Tensor) -> Grid | None:
    """Return the patches of a product of matrices: the rows of the first, or else the columns of the second."""
    known = {id(tensor): grid for _, tensor, grid in given}
    if call.bare == "einsum":
        return _einsum(call, known, made)
    first, second = (call.args[1], call.args[0]) if call.bare == "rmatmul" else (call.args[0], call.args[1])
    rows, columns = known.get(id(first)), known.get(id(second))
    if rows is not None and rows.axis == first.dim() - 2:
        return rows._replace(axis=made.dim() - 2)
    if columns is not None and columns.axis == second.dim() - 1:
        return columns._replace(axis=made.dim() - 1)
    return None


def _einsum(call: Call, known: dict[int, Grid | None], made: Tensor) -> Grid | None:
    """Return the patches of the first operand whose tokens the result still has."""
    equation = call.args[0]
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    before, after = equation.replace(" ", "").split("->")
    operands = tensors_in(call.args[1:])
    for labels, operand in zip(before.split(","), operands, strict=False):
        grid = known.get(id(operand))
        if grid is not None and labels[grid.axis] in after:
            return grid._replace(axis=after.index(labels[grid.axis]))
    return None


def _reduce(call: Call, given: Given, made: Tensor) -> Step:
    """Follow a mean, sum or maximum over axes; over the tokens it mixes them."""
    _, tensor, grid = given[0]
    if grid is None or len(given) > 1:
        return Step(None, mixes=True)
    kept = kept_axes(call, tensor.dim())
    if grid.axis not in kept or kept.index(grid.axis) >= made.dim():
        return Step(None, mixes=True)
    return Step(grid._replace(axis=kept.index(grid.axis)))


def _numbers(tensor: Tensor, grid: Grid) -> Tensor:
    """Return a tensor that holds, wherever a token is, the number of its cell, counted from 1."""
    numbers = torch.tensor(grid.cells, dtype=torch.float32, device=tensor.device) + 1
    return numbers.view([-1 if axis == grid.axis else 1 for axis in range(tensor.dim())]).expand(tensor.shape)


@torch.no_grad()
def _moved(call: Call, swaps: dict[int, Tensor], position: int) -> Tensor | None:
    """Return what a call makes of other values; a padding of any kind as one with zeros."""
    args, kwargs = tree_map_only(Tensor, lambda tensor: swaps.get(id(tensor), tensor), (call.args, call.kwargs))
    try:
        if call.bare == "pad":
            return torch.nn.functional.pad(args[0], args[1] if len(args) > 1 else kwargs["pad"])
        if call.bare in ("view", "unsafe_view"):  # numbers do not lie in memory as values do
            return args[0].reshape(*args[1:]) if not kwargs else None
        made = tensors_in(dataclasses.replace(call, args=args, kwargs=kwargs).run())
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError):
        return None
    return made[position] if position < len(made) else None


def _found(numbers: Tensor, shape: tuple[int, int], source: int) -> Grid | None:
    """Return the patches by numbers along one axis; None where they lie along none, or not alone."""
    for axis in range(numbers.dim()):
        cells = along(numbers, axis)
        if cells is not None and len(set(cells)) > 1:
            return Grid(axis, cells, shape, source)
    return None


def _in_rows(numbers: Tensor, shape: tuple[int, int]) -> bool:
    """Return whether numbers of four axes are a map of all cells, row by row."""
    count = shape[0] * shape[1]
    for map_axes in ((2, 3), (1, 2)):
        if tuple(numbers.shape[axis] for axis in map_axes) == shape:
            size = [numbers.shape[axis] if axis in map_axes else 1 for axis in range(4)]
            wanted = torch.arange(1.0, count + 1, device=numbers.device).view(size)
            if bool((numbers == wanted).all()):
                return True
    return False
