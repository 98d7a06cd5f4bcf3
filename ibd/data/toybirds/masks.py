"""Which pixels are a part's, or a distractor's: all those that change in the picture when it alone is taken away.

Edges are soft, so a pixel may be owned by two: masks overlap. A pixel that shows a part but would look the same without
it, for what is behind it has its very color, is not owned. `render` tells by its index map what a pixel shows most of.

Nothing is drawn again: a scene without an object has the same strokes but the object's own, and it looks the same but
where those lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ibd.data.toybirds.parts import FIRST_DISTRACTOR, FIRST_PART, PARTS
from ibd.data.toybirds.raster import Array, Stroke, to_uint8
from ibd.data.toybirds.render import Picture, ground, paint
from ibd.data.toybirds.scene import Scene

Mask = npt.NDArray[np.bool_]


class TakenApart(NamedTuple):
    """A scene, drawn with everything, with nothing, and without each of some objects.

    Attributes:
        picture: (H, W, 3) uint8.
        behind: (H, W, 3) uint8, the ground alone: no bird, no distractor, no patch and no frame.
        without: (O, H, W, 3) uint8: without one object each.
        masks: (O, H, W) bool: the pixels that each object changes.
    """

    picture: Picture
    behind: Picture
    without: npt.NDArray[np.uint8]
    masks: Mask


def part_masks(scene: Scene, size: int) -> Mask:
    """Return the (P, H, W) pixels that each part changes in the picture of that size, in the order of `PARTS`."""
    return take_apart(scene, size, distractors=False).masks


def take_apart(scene: Scene, size: int, distractors: bool = True) -> TakenApart:
    """Return a scene with everything, with nothing, and without each object.

    Args:
        scene: scene to draw.
        size: side in pixels.
        distractors: the objects are the P parts, in the order of `PARTS`, and then the distractors; otherwise the
            parts alone.
    """
    canvas = ground(scene, size)
    assert canvas.image is not None
    behind = canvas.image.copy()
    paint(canvas, scene)
    picture = to_uint8(canvas.image, scene.light)
    numbers = [FIRST_PART + p for p in range(len(PARTS))]
    numbers += [FIRST_DISTRACTOR + i for i in range(len(scene.distractors) if distractors else 0)]
    without = np.stack([picture] * len(numbers))
    for lacking, number in zip(without, numbers, strict=True):
        _take_away(lacking, canvas.strokes, number, behind, scene)
    return TakenApart(picture, to_uint8(behind, scene.light), without, (without != picture).any(axis=3))


def _take_away(picture: Picture, strokes: Sequence[Stroke], number: int, behind: Array, scene: Scene) -> None:
    """Paint into a picture, in place, what it shows without the strokes of a number."""
    boxes = [stroke[1:5] for stroke in strokes if stroke.number == number]
    if not boxes:
        return
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    left, top, right, bottom = min(lefts), min(tops), max(rights), max(bottoms)
    region = behind[:, top:bottom, left:right].copy()
    for drawn in strokes:
        part = drawn.within(left, top, right, bottom)
        if part is not None and drawn.number != number:
            part.apply(region)
    picture[top:bottom, left:right] = to_uint8(region, scene.light)
