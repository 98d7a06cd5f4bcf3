"""Where the cells of a map lie: whether they are, row by row and column by column, where the image has them.

A map is drawn over the whole image. Cropping, padding, flipping, rolling or transposing moves its cells, and what is
computed from them keeps the places that they were moved to, until they are moved back (the shifted windows of Swin).
"""

from __future__ import annotations

from collections.abc import Callable

from ibd.explain.flow import Flow
from ibd.explain.moved_axes import Moved

Frame = tuple[tuple[int, ...], ...]
"""For rows and columns: which of the two they were, how many there were, and which of these lies at each place now,
-1 for padding."""
EVEN: Frame = ()
"""Cells lie where the image has them, within a cell; tokens, and what they are made from, within half of one."""
LOST: Frame = ((-1,),)
"""They do not, or in different ways, and moving them back does not bring that together."""

Even = Callable[[tuple[int, ...]], bool]
"""Whether rows, or columns, of a frame, shared out evenly over the image, lie where they were."""


def frames(flow: Flow) -> list[Frame | None]:
    """Return where the cells of each node lie; None for what has no places."""
    lie = _followed(flow, _even)
    if not flow.grids:
        return lie
    close = _followed(flow, _close)
    tokens = set(flow.grids).union(*(flow.needed(source) for source in {grid.source for grid in flow.grids.values()}))
    return [close[node] if node in tokens else frame for node, frame in enumerate(lie)]


def _followed(flow: Flow, even: Even) -> list[Frame | None]:
    """Return where the cells of each node lie, by what passes for even in a map; pixels may be one off."""
    per_step: list[Frame | None] = [EVEN]
    for node in range(1, len(flow.nodes)):
        per_step.append(_frame(flow, node, per_step, _even if flow.nodes[node].pixels else even))
    return per_step


def is_vector(shape: tuple[int, ...], images: int) -> bool:
    """Return whether each image has one axis of numbers; the images are the first axis, or the second of three."""
    if shape[:1] == (images,):
        shape = shape[1:]
    elif len(shape) == 3 and shape[1] == images:
        shape = (shape[0], shape[2])
    return sum(size > 1 for size in shape) <= 1


def _frame(flow: Flow, node: int, known: list[Frame | None], even: Even) -> Frame | None:
    made = flow.nodes[node]
    if is_vector(made.shape, flow.images):
        return None
    if node in flow.scattered:
        return LOST
    if node in flow.grids:  # tokens, whose cells are known one by one
        return known[flow.grids[node].source]
    below = {frame for parent in made.parents if (frame := known[parent]) is not None}
    if len(below) != 1:
        return LOST if below else None
    (frame,) = below
    if frame != LOST and node in flow.moves:
        source, moved = flow.moves[node]
        shape = flow.nodes[source].shape
        channels = _channels(flow, source)
        return frame if channels is None else _after(frame, moved, shape, channels, even)
    if frame not in (EVEN, LOST) and len(made.shape) == 4 and node in flow.reaches:
        return _seen(frame, flow.reaches[node], made.shape, even)
    return frame


def _channels(flow: Flow, node: int) -> int | None:
    """Return the axis with the channels of a map; None for what is none."""
    shape, picture = flow.nodes[node].shape, flow.nodes[0].shape
    if len(shape) != 4 or shape[0] != flow.images:
        return None
    return flow.links.channels(node, shape, (picture[2], picture[3]))


def _after(frame: Frame, moved: Moved, shape: tuple[int, ...], channels: int, even: Even) -> Frame:
    """Return the frame after cells were moved, that before being of a map of this shape."""
    axes = [axis for axis in range(1, 4) if axis != channels]
    if any(axis not in moved for axis in axes):
        return LOST
    before = frame or tuple((which, shape[axis], *range(shape[axis])) for which, axis in enumerate(axes))
    if any(len(line) - 2 != shape[axis] for line, axis in zip(before, axes, strict=True)):
        return LOST
    lines = [
        (moved[axis][0], *line[:2], *(line[2 + index] if index >= 0 else -1 for index in moved[axis][1]))
        for line, axis in zip(before, axes, strict=True)
    ]
    after = tuple(line[1:] for line in sorted(lines))
    return EVEN if all(line[0] == which and even(line) for which, line in enumerate(after)) else after


def _even(line: tuple[int, ...]) -> bool:
    """Return whether rows, or columns, shared out evenly over the image, lie within one of where they were."""
    count, now = line[1], line[2:]
    off = (abs(index / count - place / len(now)) for place, index in enumerate(now) if index >= 0)
    return max(off, default=0.0) < 1.001 / count


def _close(line: tuple[int, ...]) -> bool:
    """Return whether the middles of rows, or columns, shared out evenly lie within half of one of where they were."""
    count, now = line[1], line[2:]
    off = (abs((index + 0.5) / count - (place + 0.5) / len(now)) for place, index in enumerate(now) if index >= 0)
    return max(off, default=0.0) < 0.499 / min(count, len(now))


def _seen(frame: Frame, reach: tuple[int, int], shape: tuple[int, ...], even: Even) -> Frame:
    """Return the frame after a convolution or pooling, that takes away again what was padded for it."""
    lines = list(enumerate(frame))
    if all(line[0] == which and (even(line) or _padded(line, reach[which])) for which, line in lines):
        return EVEN
    return frame if all(len(line) - 2 == shape[2 + which] for which, line in lines) else LOST


def _padded(line: tuple[int, ...], reach: int) -> bool:
    """Return whether all rows, or columns, are there in order, between fewer of padding than are seen at once."""
    kept = [place for place, index in enumerate(line[2:]) if index >= 0]
    whole = [line[2 + place] for place in kept] == list(range(line[1]))
    return whole and kept[0] < reach and len(line) - 3 - kept[-1] < reach and kept[-1] - kept[0] == line[1] - 1
