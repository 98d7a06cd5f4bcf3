"""Which pixels a cell of a feature map can see.

The module runs once on the ``meta`` device (shapes without numbers: 0.1 s for a ResNet-18), and every tensor on the way
carries the arithmetic of Dumoulin & Visin (2016): cell i of an axis sees the pixels low + i * stride to
high + i * stride, before they are clipped to the image. Nothing depends on the architecture; branches that meet unite.
"""

from __future__ import annotations

import functools
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ibd.errors import UnsupportedError


@dataclass(frozen=True)
class ReceptiveField:
    """The geometry of a feature map, rows before columns.

    Attributes:
        size: pixels that a cell sees, before clipping to the image; of the local path where `whole_image`.
        stride: pixels between neighboring cells.
        offset: center of cell (0, 0), where pixel i spans i .. i + 1; negative for much padding.
        grid: (h, w) of the feature map.
        image_size: (H, W) of the image.
        whole_image: whether some layer (squeeze-and-excitation, group normalization, attention) lets every cell see
            every pixel.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[float, float]
    grid: tuple[int, int]
    image_size: tuple[int, int]
    whole_image: bool

    def center(self, row: int, column: int) -> tuple[float, float]:
        """Return the (y, x) in pixels that a cell is centered on."""
        return self.offset[0] + row * self.stride[0], self.offset[1] + column * self.stride[1]

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of what a cell sees, the last two exclusive, clipped to the image."""
        if self.whole_image:
            return 0, 0, *self.image_size
        low = [round(center - size / 2) for center, size in zip(self.center(row, column), self.size, strict=True)]
        top, left = (max(0, value) for value in low)
        bottom, right = (min(a + b, c) for a, b, c in zip(low, self.size, self.image_size, strict=True))
        return top, left, bottom, right


def receptive_field(module: nn.Module, image_size: int | tuple[int, int]) -> ReceptiveField:
    """Return what the cells of a module's (B, D, h, w) output see of its (B, 3, H, W) input.

    Args:
        module: a backbone, or one with further layers on top; it is left as it is, and no weight is read.
        image_size: H and W, or one number for both.

    Raises:
        UnsupportedError: the output is no feature map, or a layer enlarges its input.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    with torch.inference_mode(False), torch.no_grad():  # in inference mode a convolution is not seen as one operation
        state = {name: _meta(tensor) for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        image = torch.empty(2, 3, height, width, device="meta")
        with (tracer := _Tracer(image)):
            output = torch.func.functional_call(module, state, (image,))
    trace = tracer.trace_of(output)
    if trace is None or trace.axes is None or output.dim() != 4:
        raise UnsupportedError(f"{type(module).__name__} does not return a feature map: it has no receptive field")
    rows, columns = trace.axes
    return ReceptiveField(
        size=(rows.high - rows.low + 1, columns.high - columns.low + 1),
        stride=(rows.stride, columns.stride),
        offset=((rows.low + rows.high + 1) / 2, (columns.low + columns.high + 1) / 2),
        grid=(output.shape[-2], output.shape[-1]),
        image_size=(height, width),
        whole_image=trace.whole_image,
    )


class _Axis(NamedTuple):
    """Cell i sees the pixels ``low + i * stride`` to ``high + i * stride``, both included."""

    stride: int
    low: int
    high: int

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
        """Return the axis after a window has moved over it."""
        low = self.low - padding * self.stride
        high = self.high + (dilation * (kernel - 1) - padding) * self.stride
        return _Axis(self.stride * stride, low, high)


class _Trace(NamedTuple):
    """What is known of one tensor; without axes it has no position any more."""

    axes: tuple[_Axis, _Axis] | None
    whole_image: bool
    channels: int | None = 1
    """The axis of the tensor that is its channels; None where that cannot be told."""

    def window(
        self,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
    ) -> _Trace:
        """Return the trace after a convolution or pooling."""
        if self.axes is None:
            return self
        settings = zip(*map(_pair, (kernel, stride or kernel, padding, dilation)), strict=True)
        rows, columns = (axis.window(*values) for axis, values in zip(self.axes, settings, strict=True))
        return _Trace((rows, columns), self.whole_image, self.channels)

    def unite(self, other: _Trace) -> _Trace:
        """Return the trace of an operation on two tensors, cell by cell."""
        channels = self.channels if self.channels == other.channels else None
        if self.axes is None or other.axes is None:
            return _Trace(self.axes or other.axes, self.whole_image or other.whole_image, channels)
        if any(a.stride != b.stride for a, b in zip(self.axes, other.axes, strict=True)):
            raise UnsupportedError("receptive field: two branches of different stride meet")
        rows, columns = (
            _Axis(a.stride, min(a.low, b.low), max(a.high, b.high)) for a, b in zip(self.axes, other.axes, strict=True)
        )
        return _Trace((rows, columns), self.whole_image or other.whole_image, channels)


_POOLS = ("max_pool2d", "max_pool2d_with_indices", "avg_pool2d")
_ADAPTIVE = ("_adaptive_avg_pool2d", "adaptive_max_pool2d")
_REDUCTIONS = ("mean", "sum", "amax", "amin", "var", "std", "var_mean")
_PRODUCTS = ("mm", "addmm", "bmm")
_MIXING = ("native_group_norm", "bmm", "dot_product_attention")


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every tensor that depends on the image."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._traces: MutableMapping[Tensor, _Trace] = WeakTensorKeyDictionary()
        self._traces[image] = _Trace((_Axis(1, 0, 0), _Axis(1, 0, 0)), whole_image=False)

    def trace_of(self, value: object) -> _Trace | None:
        """Return the trace of a tensor that depends on the image; None for anything else."""
        return self._traces.get(value) if isinstance(value, Tensor) else None

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        """Run one operation and work out the trace of its result."""
        result = func(*args, **(kwargs or {}))
        traces = [trace for leaf in tree_leaves((args, kwargs)) if (trace := self.trace_of(leaf))]
        if traces:
            name = func.overloadpacket.__name__
            trace = _step(name, args, functools.reduce(_Trace.unite, traces), len(traces))
            given = next(leaf for leaf in tree_leaves((args, kwargs)) if self.trace_of(leaf))
            if name in _PRODUCTS and len(traces) == 1:
                trace = _product(trace, given, left=given is args[-2])
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self._traces[leaf] = trace._replace(channels=_channels(name, args, given, trace.channels, leaf))
        return result


def _step(name: str, args: Sequence[Any], trace: _Trace, dependent: int) -> _Trace:
    """Return the trace after the aten operation `name`; one that is not listed works cell by cell.

    Args:
        name: name of the operation.
        args: arguments of the call.
        trace: traces of its arguments, united.
        dependent: number of its arguments that depend on the image; a product with a constant mixes channels alone.
    """
    if "upsample" in name or (name == "convolution" and args[6]):
        raise UnsupportedError(f"receptive field: cannot follow {name} where it enlarges its input")
    if name == "convolution":
        return trace.window(args[1].shape[2:], *args[3:6])
    if name in _POOLS:
        return trace.window(*args[1 : 4 if name == "avg_pool2d" else 5])
    if "_pad" in name and len(args[1]) == 4:
        left, _, top, _ = args[1]
        return trace.window(1, 1, (top, left))
    if name == "slice" and args[1] >= 2 and args[0].dim() == 4:
        return _sliced(trace, *args)
    if name in _ADAPTIVE or (name in _REDUCTIONS and _over_space(args)):
        return _Trace(None, whole_image=True)
    if name == "im2col":  # kernel, dilation, padding, stride
        return trace.window(args[1], args[4], args[3], args[2])
    if any(part in name for part in _MIXING) and not (name == "bmm" and dependent == 1):
        return trace._replace(whole_image=True)
    return trace


def _product(trace: _Trace, given: Tensor, left: bool) -> _Trace:
    """Return the trace after a product with a constant matrix: over the channels, or else over the whole image."""
    summed = given.dim() - (1 if left else 2)
    mixes = trace.axes is not None and trace.channels != summed
    return trace._replace(whole_image=trace.whole_image or mixes)


def _channels(name: str, args: Sequence[Any], given: Tensor, channels: int | None, result: Tensor) -> int | None:
    """Return which axis of a result is the channels, where that of the `given` argument is known; else None."""
    if channels is None:
        return None
    if name in _PRODUCTS:
        return result.dim() - 1
    if name == "permute":
        return [axis % given.dim() for axis in args[1]].index(channels)
    if name in ("transpose", "t"):
        one, two = (axis % given.dim() for axis in (args[1:3] if name == "transpose" else (0, 1)))
        return {one: two, two: one}.get(channels, channels)
    if result.shape == given.shape:
        return channels
    if channels == given.dim() - 1 and result.shape[-1] == given.shape[-1]:
        return result.dim() - 1
    if channels == 1 and (result.shape[:2] == given.shape[:2] or result.dim() == given.dim()):
        return 1
    return channels if result.dim() == given.dim() and "view" not in name else None


def _sliced(trace: _Trace, tensor: Tensor, dim: int, start: int | None = 0, _: object = None, step: int = 1) -> _Trace:
    """Return the trace after ``tensor[..., start::step]`` along the rows or the columns."""
    start = (start or 0) + (tensor.shape[dim] if (start or 0) < 0 else 0)
    kept = [(0, 1), (0, 1)]
    kept[dim - 2] = (-start, step)
    (above, down), (before, across) = kept
    return trace.window(1, (down, across), (above, before))


def _over_space(args: Sequence[Any]) -> bool:
    """Return whether a reduction of a (B, D, ...) tensor is over more than its batch and its channels."""
    tensor, given = args[0], args[1] if len(args) > 1 else None
    if not isinstance(given, list | int):
        return True
    return any(dim % tensor.dim() >= 2 for dim in ([given] if isinstance(given, int) else given))


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Return a number, or one or two in a sequence, for rows and columns."""
    if isinstance(value, int):
        return value, value
    return value[0], value[-1]


def _meta(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, device="meta", dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype)
