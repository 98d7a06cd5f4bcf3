"""Which axis of a map holds the channels: told by what made it and what takes it, never by sizes alone.

A convolution, a batch normalization or a pooling has them first; a linear layer or a layer normalization of one axis
has them last. Whatever leaves the axes in place hands that on, in both directions; permutations and reshapes move it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.explain.calls import Call

Layout = Literal["auto", "channels_first", "channels_last"]
"""Layout of the output of a layer: (B, C, h, w), (B, h, w, C), or whichever it is found to be."""
_FIRST = (
    *("conv", "batch_norm", "group_norm", "instance_norm", "max_pool", "avg_pool", "adaptive_", "lp_pool"),
    *("fractional_max_pool", "max_unpool", "interpolate", "upsample", "pixel_shuffle", "pixel_unshuffle"),
    *("channel_shuffle", "dropout2d", "local_response_norm", "grid_sample"),
)
PERMUTES = ("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "mT", "mH")
_RESHAPES = ("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "unsafe_view")
_REDUCES = ("mean", "sum", "amax", "amin", "std", "var", "logsumexp", "norm")
_APART = (
    *("matmul", "rmatmul", "mm", "bmm", "baddbmm", "einsum", "tensordot", "scaled_dot_product_attention"),
    *("multi_head_attention_forward", "stack", "unsqueeze", "squeeze", "fold", "unfold", "rot90", "expand_as"),
)
"""Functions of which nothing is known about axes."""
Axes = dict[int, tuple[int, ...]]
"""Axis of one tensor -> axes of another that hold the same."""


class Links:
    """Which axes of the nodes of a pass are the same, and which are known to be the channels."""

    def __init__(self) -> None:
        self._links: dict[int, list[tuple[int, Axes]]] = defaultdict(list)
        self._strong: dict[int, set[int]] = defaultdict(set)
        self._weak: dict[int, set[int]] = defaultdict(set)

    def evident(self, node: int, axis: int) -> None:
        """Note that an axis holds the channels."""
        self._strong[node].add(axis)

    def note(
        self,
        call: Call,
        given: Sequence[tuple[int | None, Tensor]],
        made: tuple[int, Tensor],
    ) -> None:
        """Note what a call says of the axes of its arguments and of one of its results.

        Args:
            call: call of a function.
            given: nodes of the tensors in the arguments, and these.
            made: node of a result, and this.
        """
        maps = [(node, tensor) for node, tensor in given if node is not None and tensor.dim() in (3, 4)]
        if not maps:
            return
        name, (node, tensor) = call.bare, maps[0]
        if name.startswith(_FIRST):
            self._strong[node].add(1)
            if made[1].dim() in (3, 4):
                self._strong[made[0]].add(1)
        elif name in PERMUTES:
            self._permuted(node, made[0], order_of(call, tensor.dim()))
        elif name in _RESHAPES:
            self._reshaped(node, tuple(tensor.shape), made[0], tuple(made[1].shape))
        elif name in _REDUCES and (axis := _left(call, tensor.dim())) is not None:
            self._weak[node].add(axis)
        elif name not in _APART and not (name == "getitem" and not _slices(call)):
            self._in_place(call, maps, made)

    def _in_place(self, call: Call, maps: Sequence[tuple[int, Tensor]], made: tuple[int, Tensor]) -> None:
        """Note a call that leaves axes where they are; of a linear layer all but the last."""
        name, last = call.bare, made[1].dim() - 1
        on_last = name == "linear" or (name in ("layer_norm", "rms_norm") and normalized_axes(call) == 1)
        if on_last and last in (2, 3):
            self._strong[made[0]].add(last)
            self._strong[maps[0][0]].add(last)
        kept: Axes = {axis: (axis,) for axis in range(1, last + (name != "linear"))}
        for node, tensor in maps:
            if tensor.dim() == last + 1:
                self._link(node, made[0], kept)

    def _permuted(self, node: int, made: int, order: tuple[int, ...]) -> None:
        if not order:
            return
        self._link(node, made, {axis: (order.index(axis),) for axis in range(len(order))})
        if order == (0, 3, 1, 2):
            self._weak[node].add(3)
        elif order == (0, 2, 3, 1):
            self._weak[node].add(1)

    def _reshaped(self, node: int, before: tuple[int, ...], made: int, after: tuple[int, ...]) -> None:
        """Note a reshape that joins or parts two axes that lie beside each other."""
        if before == after:
            self._link(node, made, {axis: (axis,) for axis in range(1, len(before))})
        elif len(before) == 4 and (joined := _joined(before, after)):
            self._link(node, made, joined)
        elif len(after) == 4 and (joined := _joined(after, before)):
            self._link(made, node, joined)

    def _link(self, one: int, other: int, axes: Axes) -> None:
        back: dict[int, tuple[int, ...]] = {}
        for axis, sources in axes.items():
            for source in sources:
                back[source] = (*back.get(source, ()), axis)
        self._links[one].append((other, axes))
        self._links[other].append((one, back))

    def channels(self, node: int, shape: tuple[int, ...], picture: tuple[int, int]) -> int | None:
        """Return the axis of a 4-dimensional node that holds the channels, 1 or 3; None where that cannot be told.

        Args:
            node: node that is asked about.
            shape: shape of the node.
            picture: (H, W) of the images, which places have to fit where the evidence could also be of attention heads.
        """
        if shape[2:] == (1, 1) or shape[1:3] == (1, 1):
            return 1 if shape[2:] == (1, 1) else 3
        strong, weak = set[int](), set[int]()
        for axis in range(1, 4):
            for other, there in self._followed(node, axis):
                strong |= {axis} if there in self._strong[other] else set()
                weak |= {axis} if there in self._weak[other] else set()
        channels = strong or weak
        if channels == {1}:
            return 1 if strong or _fits(shape[2:], picture) else None
        return 3 if channels == {3} and _fits(shape[1:3], picture) else None

    def _followed(self, node: int, axis: int) -> set[tuple[int, int]]:
        """Return the nodes and axes that hold what an axis of a node holds."""
        followed, waiting = {(node, axis)}, [(node, axis)]
        while waiting:
            at, here = waiting.pop()
            new = {(other, there) for other, axes in self._links[at] for there in axes.get(here, ())} - followed
            followed |= new
            waiting += new
        return followed


def check_layout(layout: str) -> Layout:
    """Return a layout.

    Raises:
        ConfigError: another one.
    """
    for known in get_args(Layout):
        if layout == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"layout: '{layout}' is not one of {', '.join(get_args(Layout))}")


def to_first(values: Tensor) -> Tensor:
    """Return (..., h, w, C) as (..., C, h, w)."""
    return values.movedim(-1, -3)


def to_last(values: Tensor) -> Tensor:
    """Return (..., C, h, w) as (..., h, w, C)."""
    return values.movedim(-3, -1)


def order_of(call: Call, dims: int) -> tuple[int, ...]:
    """Return where each axis of a permutation's result comes from; nothing if that cannot be told."""
    shape = _tried(call, dims)
    return tuple(size - 2 for size in shape) if len(shape) == dims and set(shape) == set(range(2, dims + 2)) else ()


def _left(call: Call, dims: int) -> int | None:
    """Return the one axis, beside that of the images, that a reduction leaves."""
    kept = [axis for axis in kept_axes(call, dims) if axis > 0]
    return kept[0] if len(kept) == 1 else None


def kept_axes(call: Call, dims: int) -> list[int]:
    """Return for each axis of what a reduction makes the axis that it was; -1 for one of size 1 in its place."""
    return [size - 2 if size > 1 else -1 for size in _tried(call, dims)]


def _tried(call: Call, dims: int) -> tuple[int, ...]:
    """Return the shape of what a function makes of a tensor whose axes have the sizes 2, 3, 4 and so on."""
    if not call.args:
        return ()
    try:
        made = call.func(torch.empty(tuple(range(2, dims + 2)), device="meta"), *call.args[1:], **call.kwargs)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        return ()
    return tuple(made.shape) if isinstance(made, Tensor) else ()


def _joined(apart: tuple[int, ...], together: tuple[int, ...]) -> Axes:
    """Return which axes of (B, a, b, c) are which of (B, a, b c) or (B, a b, c); nothing for another shape."""
    images, a, b, c = apart
    if b > 1 and together == (images, a, b * c):
        return {1: (1,), 2: (2,), 3: (2,)}
    return {1: (1,), 2: (1,), 3: (2,)} if b > 1 and together == (images, a * b, c) else {}


def _slices(call: Call) -> bool:
    """Return whether an index leaves every axis where it is."""
    index = call.args[1] if len(call.args) > 1 else None
    return all(
        isinstance(part, slice) or part is Ellipsis for part in (index if isinstance(index, tuple) else (index,))
    )


def normalized_axes(call: Call) -> int:
    """Return over how many axes a layer normalization goes."""
    given = call.argument(1, "normalized_shape", ())
    return 1 if isinstance(given, int) else len(given)


def _fits(places: Sequence[int], picture: tuple[int, int]) -> bool:
    """Return whether rows and columns are those of the images at one stride, up to what paddings add or take."""
    least = max(pixels / (cells + 2) for cells, pixels in zip(places, picture, strict=True))
    most = min(pixels / max(cells - 2, 1e-9) for cells, pixels in zip(places, picture, strict=True))
    return least < most
