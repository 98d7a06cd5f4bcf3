"""An anti-aliased rasterizer of convex polygons and ellipses in float32 numpy, the same on every machine.

Only element-wise arithmetic is used (no BLAS, no transcendental functions on arrays), and the final rounding stays
away from ties, so that an image has one hash everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Color = tuple[float, float, float]

OUTLINE_SHADE = 0.45
OUTLINE_WIDTH = 0.012
"""Share of the image's side."""


class Frame(NamedTuple):
    """A similarity (rotation, mirror, scale, shift) that takes object coordinates to others, at last to pixels."""

    xx: float
    xy: float
    yx: float
    yy: float
    x: float
    y: float
    scale: float

    @classmethod
    def make(cls, x: float, y: float, scale: float, rotation: float = 0.0, flip: bool = False) -> Frame:
        """Return the frame that mirrors if `flip`, then rotates (degrees, clockwise on screen), scales and shifts."""
        cos, sin = scale * math.cos(math.radians(rotation)), scale * math.sin(math.radians(rotation))
        sign = -1.0 if flip else 1.0
        return cls(sign * cos, -sin, sign * sin, cos, x, y, scale)

    def apply(self, x: float, y: float) -> tuple[float, float]:
        """Map a point."""
        return self.xx * x + self.xy * y + self.x, self.yx * x + self.yy * y + self.y

    def then(self, outer: Frame) -> Frame:
        """Return the frame that maps by this one first and by `outer` next."""
        x, y = outer.apply(self.x, self.y)
        return Frame(
            outer.xx * self.xx + outer.xy * self.yx,
            outer.xx * self.xy + outer.xy * self.yy,
            outer.yx * self.xx + outer.yy * self.yx,
            outer.yx * self.xy + outer.yy * self.yy,
            x,
            y,
            outer.scale * self.scale,
        )


class Polygon:
    """A convex polygon; its distance is the largest of its edges' half planes."""

    def __init__(self, *points: tuple[float, float]) -> None:
        turns = [_turn(points[i - 2], points[i - 1], points[i]) for i in range(len(points))]
        if not (all(t > 0 for t in turns) or all(t < 0 for t in turns)):
            raise ValueError(f"the polygon {points} is not convex")
        p = np.array(points if turns[0] > 0 else points[::-1], dtype=np.float64)
        edge = np.roll(p, -1, axis=0) - p
        normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1) / np.hypot(edge[:, 0], edge[:, 1])[:, None]
        self.nx, self.ny = (n[:, None, None].astype(np.float32) for n in normal.T)
        self.offset = (normal * p).sum(axis=1)[:, None, None].astype(np.float32)
        self.box = (*p.min(axis=0).tolist(), *p.max(axis=0).tolist())

    def distance(self, frame: Frame, dx: Array, dy: Array) -> Array:
        """Return the (h, w) signed distance in pixels, negative inside.

        Args:
            frame: transformation from object coordinates to pixels.
            dx: (w,) columns, counted from the frame's origin.
            dy: (h, 1) rows, likewise.
        """
        nx = self.nx * (frame.xx / frame.scale) + self.ny * (frame.xy / frame.scale)
        ny = self.nx * (frame.yx / frame.scale) + self.ny * (frame.yy / frame.scale)
        rows = ny * dy - self.offset * frame.scale
        signed: Array = np.maximum.reduce(nx * dx + rows, axis=0)
        return signed


class Ellipse:
    """An ellipse, its first axis turned by `angle` degrees; the distance is right to first order at its edge."""

    def __init__(self, x: float, y: float, rx: float, ry: float | None = None, angle: float = 0.0) -> None:
        self.x, self.y, self.rx, self.ry = x, y, rx, rx if ry is None else ry
        self.cos, self.sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        width, height = math.hypot(rx * self.cos, self.ry * self.sin), math.hypot(rx * self.sin, self.ry * self.cos)
        self.box = (x - width, y - height, x + width, y + height)

    def distance(self, frame: Frame, dx: Array, dy: Array) -> Array:
        """Return the (h, w) signed distance in pixels, negative inside; arguments as for `Polygon.distance`."""
        u = self._along(frame, dx, dy, self.cos, self.sin, self.rx)
        v = self._along(frame, dx, dy, -self.sin, self.cos, self.ry)
        u *= u
        v *= v
        radius: Array = np.sqrt(u + v)
        if self.rx == self.ry:
            radius -= 1
            radius *= self.rx * frame.scale
            return radius
        u *= (self.rx * frame.scale) ** -2
        v *= (self.ry * frame.scale) ** -2
        u += v
        np.sqrt(u, out=u)
        u += 1e-6
        signed: Array = radius * (radius - 1) / u
        return signed

    def _along(self, frame: Frame, dx: Array, dy: Array, x: float, y: float, extent: float) -> Array:
        """Return the (h, w) position along the axis of direction (x, y), from the center, in units of `extent`."""
        unit = 1 / (frame.scale * frame.scale * extent)
        along_x, along_y = (frame.xx * x + frame.xy * y) * unit, (frame.yx * x + frame.yy * y) * unit
        center = (self.x * x + self.y * y) / extent
        return dx * along_x + (dy * along_y - np.float32(center))


class Shape:
    """A union of convex pieces, painted at once.

    Args:
        pieces: polygons and ellipses in object coordinates.
        shade: factor on the color that the shape is painted in.
        color: a color of its own instead.
        outline: whether to draw a darker rim inside the edge.
    """

    def __init__(
        self, *pieces: Polygon | Ellipse, shade: float = 1.0, color: Color | None = None, outline: bool = False
    ) -> None:
        self.pieces, self.shade, self.color, self.outline = pieces, shade, color, outline
        left, top, right, bottom = zip(*(piece.box for piece in pieces), strict=True)
        self.center = (min(left) + max(right)) / 2, (min(top) + max(bottom)) / 2
        self.half = (max(right) - min(left)) / 2, (max(bottom) - min(top)) / 2

    def bounds(self, frame: Frame, size: int) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of the pixels that the shape can touch."""
        (x, y), (w, h) = frame.apply(*self.center), self.half
        dx, dy = abs(frame.xx) * w + abs(frame.xy) * h + 1, abs(frame.yx) * w + abs(frame.yy) * h + 1
        return max(int(x - dx), 0), max(int(y - dy), 0), min(int(x + dx) + 1, size), min(int(y + dy) + 1, size)


class Stroke(NamedTuple):
    """A color that is mixed into the pixels of a box.

    Attributes:
        number: number of the thing that is painted.
        left: first column of the box.
        top: first row of the box.
        right: column after the last of the box.
        bottom: row after the last of the box.
        alpha: (bottom - top, right - left) weight of the color, in [0, 1].
        color: red, green and blue.
    """

    number: int
    left: int
    top: int
    right: int
    bottom: int
    alpha: Array
    color: Sequence[float]

    def within(self, left: int, top: int, right: int, bottom: int) -> Stroke | None:
        """Return what of the stroke lies in a box, in coordinates of that box; None if nothing does."""
        x, y = max(self.left, left), max(self.top, top)
        u, v = min(self.right, right), min(self.bottom, bottom)
        if x >= u or y >= v:
            return None
        alpha = self.alpha[y - self.top : v - self.top, x - self.left : u - self.left]
        return self._replace(left=x - left, top=y - top, right=u - left, bottom=v - top, alpha=alpha)

    def apply(self, image: Array) -> None:
        """Mix the color into a (3, H, W) image, in place."""
        blend(image[:, self.top : self.bottom, self.left : self.right], self.alpha, self.color)


class Canvas:
    """An image under construction and, for each pixel, the number of what was painted there last.

    Attributes:
        image: (3, size, size) float32, or None where only the index map is wanted.
        index: (size, size) int16, the number of the thing that was painted last at each pixel.
        strokes: strokes that `stroke` painted into the image, in order.
    """

    def __init__(self, size: int, image: Array | None = None) -> None:
        self.size, self.image = size, image
        self.index = np.zeros((size, size), dtype=np.int16)

        self.strokes: list[Stroke] = []

    def fill(self, shape: Shape, frame: Frame, color: Color, number: int) -> None:
        """Paint `shape`; a pixel that it covers by half or more is numbered `number`."""
        left, top, right, bottom = shape.bounds(frame, self.size)
        if left >= right or top >= bottom:
            return
        centers = pixel_centers(self.size)
        dx, dy = centers[left:right] - np.float32(frame.x), (centers[top:bottom] - np.float32(frame.y))[:, None]
        distance = shape.pieces[0].distance(frame, dx, dy)
        for piece in shape.pieces[1:]:
            np.minimum(distance, piece.distance(frame, dx, dy), out=distance)
        self.index[top:bottom, left:right][distance <= 0] = number
        if self.image is None:
            return
        box = number, left, top, right, bottom
        base = shape.color or (color[0] * shape.shade, color[1] * shape.shade, color[2] * shape.shade)
        if shape.outline:
            self.stroke(Stroke(*box, _coverage(distance), [c * OUTLINE_SHADE for c in base]))
            distance += OUTLINE_WIDTH * self.size
        self.stroke(Stroke(*box, _coverage(distance), base))

    def stroke(self, stroke: Stroke) -> None:
        """Paint a stroke into the image, and remember it."""
        assert self.image is not None
        stroke.apply(self.image)
        self.strokes.append(stroke)


def blend(region: Array, alpha: Array | float, color: Sequence[float]) -> None:
    """Mix `color` into `region` (3, h, w), in place, with weight `alpha` (h, w)."""
    difference = np.array(color, dtype=np.float32)[:, None, None] - region
    difference *= alpha
    region += difference


def to_uint8(image: Array, gain: Color = (1.0, 1.0, 1.0)) -> npt.NDArray[np.uint8]:
    """Return (3, H, W) in [0, 1], times `gain`, as (H, W, 3) uint8; what would be a tie rounds down everywhere."""
    levels = image * np.array([255 * g for g in gain], dtype=np.float32)[:, None, None]
    levels += np.float32(0.4983)
    np.maximum(levels, 0, out=levels)
    np.minimum(levels, 255, out=levels)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))


@functools.lru_cache(maxsize=32)
def pixel_centers(size: int) -> Array:
    """Return 0.5, 1.5, ... (not to be written to)."""
    return np.arange(size, dtype=np.float32) + np.float32(0.5)


def _coverage(distance: Array) -> Array:
    alpha: Array = np.float32(0.5) - distance
    np.maximum(alpha, 0, out=alpha)
    np.minimum(alpha, 1, out=alpha)
    return alpha


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
