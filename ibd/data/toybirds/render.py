"""From a scene to pixels: the picture and, from the same strokes, what each pixel shows."""

from __future__ import annotations

import colorsys
import functools

import numpy as np
import numpy.typing as npt

from ibd.data.toybirds.parts import (
    ANCHORS,
    BEAK_COLOR,
    BODY,
    BODY_SHAPES,
    COLORS,
    FIRST_DISTRACTOR,
    FIRST_PART,
    PARTS,
    SHAPES,
    TAG,
    factors_of,
)
from ibd.data.toybirds.raster import (
    Array,
    Canvas,
    Color,
    Ellipse,
    Frame,
    Polygon,
    Shape,
    Stroke,
    pixel_centers,
    to_uint8,
)
from ibd.data.toybirds.scene import Background, Distractor, Jitter, Layer, Pose, Scene, Tag

Index = npt.NDArray[np.int16]
Picture = npt.NDArray[np.uint8]

BEHIND_BODY, BEFORE_BODY = ("tail", "foot"), ("beak", "eye", "wing")
DISTRACTORS = {
    "disc": Shape(Ellipse(0, 0, 1)),
    "square": Shape(Polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))),
    "triangle": Shape(Polygon((0, -1.1), (1.1, 0.8), (-1.1, 0.8))),
    "bar": Shape(Polygon((-1.6, -0.3), (1.6, -0.3), (1.6, 0.3), (-1.6, 0.3))),
    "leaf": Shape(Ellipse(0, 0, 1.4, 0.6)),
}
SQUARE = Shape(Polygon((-1, -1), (1, -1), (1, 1), (-1, 1)))
PATCH_SIDE, FRAME_WIDTH = 0.11, 0.03
"""Shares of the image's side."""
VISIBILITY_GRID = 48


def render(scene: Scene, size: int) -> tuple[Picture, Index]:
    """Draw a scene.

    Args:
        scene: scene to draw.
        size: side of the square image in pixels.

    Returns:
        The (size, size, 3) uint8 image and the (size, size) int16 index map of what each pixel shows: 0 background,
        1 body, 2 to 6 the parts in the order of `PARTS`, 20 + i distractor i, 100 the tag. A pixel shows what was
        painted last over half of it or more; what else changes it, by a soft edge, is in the masks (`part_masks`).
    """
    canvas = ground(scene, size)
    paint(canvas, scene)
    assert canvas.image is not None
    return to_uint8(canvas.image, scene.light), canvas.index


def ground(scene: Scene, size: int) -> Canvas:
    """Return a canvas with what is behind everything: the background, and the stripes of a texture tag."""
    canvas = Canvas(size, _background(scene.background, size))
    if scene.tag is not None and scene.tag.kind == "texture":
        _texture(canvas, scene.tag)
    return canvas


def paint(canvas: Canvas, scene: Scene) -> None:
    """Paint on a scene's `ground` what stands before it: distractors, the bird, a patch or a frame."""
    _distractors(canvas, scene, "back")
    _bird(canvas, scene, _bird_frame(scene.pose, canvas.size))
    _distractors(canvas, scene, "front")
    if scene.tag is not None and scene.tag.kind != "texture":
        _mark(canvas, scene.tag)


def visible_fraction(scene: Scene) -> dict[str, float]:
    """Return part -> the share of it that is in the image and not behind an occluder, 0 for a removed part.

    It is measured on a grid of its own, so that it does not depend on the size of the image.
    """
    size, margin = VISIBILITY_GRID, VISIBILITY_GRID // 2
    whole, seen = Canvas(size + 2 * margin), Canvas(size)
    frame = _bird_frame(scene.pose, size)
    _bird(whole, scene, frame._replace(x=frame.x + margin, y=frame.y + margin))
    seen.index[:] = whole.index[margin:-margin, margin:-margin]
    _distractors(seen, scene, "front")
    areas, shown = (np.bincount(c.index.ravel(), minlength=FIRST_PART + len(PARTS)) for c in (whole, seen))
    numbers = {part: FIRST_PART + i for i, part in enumerate(PARTS)}
    return {part: float(shown[n] / max(areas[n], 1)) for part, n in numbers.items()}


def _bird_frame(pose: Pose, size: int) -> Frame:
    half = size / 2
    return Frame.make(half * (1 + pose.x), half * (1 + pose.y), half * pose.scale, pose.rotation, pose.flip)


def _bird(canvas: Canvas, scene: Scene, frame: Frame) -> None:
    for part in BEHIND_BODY:
        _part(canvas, scene, part, frame)
    for shape in BODY_SHAPES:
        canvas.fill(shape, frame, scene.plumage, BODY)
    for part in BEFORE_BODY:
        _part(canvas, scene, part, frame)


def _part(canvas: Canvas, scene: Scene, part: str, frame: Frame) -> None:
    variant = scene.parts[part]
    if variant is None:
        return
    jitter, (x, y) = scene.jitter[part], ANCHORS[part]
    factors = factors_of(part, variant)
    turn = Frame.make(0, 0, jitter.scale, jitter.rotation)
    back_x, back_y = turn.apply(-x, -y)
    local = turn._replace(x=x + jitter.dx + back_x, y=y + jitter.dy + back_y).then(frame)
    color = _jittered(COLORS[factors["color"]] if "color" in factors else BEAK_COLOR, jitter)
    for shape in SHAPES[part][factors["shape"]]:
        canvas.fill(shape, local, color, FIRST_PART + PARTS.index(part))


def _jittered(hsv: Color, jitter: Jitter) -> Color:
    hue, saturation, value = hsv
    return colorsys.hsv_to_rgb((hue + jitter.hue) % 1.0, saturation, min(value * jitter.value, 1.0))


def _distractors(canvas: Canvas, scene: Scene, layer: Layer) -> None:
    for i, item in enumerate(scene.distractors):
        if item.layer == layer:
            canvas.fill(DISTRACTORS[item.shape], _distractor_frame(item, canvas.size), item.color, FIRST_DISTRACTOR + i)


def _distractor_frame(item: Distractor, size: int) -> Frame:
    half = size / 2
    return Frame.make(half * (1 + item.x), half * (1 + item.y), half * item.size, item.rotation)


def _background(background: Background, size: int) -> Array:
    """Return (3, size, size): smooth patches of color under finer grain, from the background's own seed."""
    if background.kind == "flat":
        return np.full((3, size, size), 0.5, dtype=np.float32)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([background.seed])))
    hue, saturation, value = (float(v) for v in rng.random(3))
    base = np.array(colorsys.hsv_to_rgb(hue, 0.4 * saturation, 0.35 + 0.5 * value), dtype=np.float32)
    if background.kind == "gradient":
        ends = np.repeat(base[:, None, None] + np.array([[-0.08], [0.08]], dtype=np.float32), 2, axis=2)
        return _enlarged(ends, size)
    patches = rng.random((3, 5, 5), dtype=np.float32) - np.float32(0.5)
    grain = rng.random((1, 14, 14), dtype=np.float32) - np.float32(0.5)
    image = _enlarged(patches * np.float32(0.22) + base[:, None, None], size)
    image += _enlarged(grain * np.float32(0.16), size)
    return image


def _enlarged(values: Array, size: int) -> Array:
    """Enlarge (C, n, n) smoothly to (C, size, size)."""
    low, weight = _weights(values.shape[-1], size)
    left = values.take(low, axis=2)  # unlike indexing, `take` lays the result out row by row, which is 3 times faster
    rows = left + (values.take(low + 1, axis=2) - left) * weight
    image: Array = np.diff(rows, axis=1).take(low, axis=1)
    image *= weight[:, None]
    image += rows.take(low, axis=1)
    return image


@functools.lru_cache(maxsize=64)
def _weights(n: int, size: int) -> tuple[npt.NDArray[np.intp], Array]:
    position = pixel_centers(size) * np.float32((n - 1) / size)
    low = position.astype(np.intp)
    weight: Array = position - low.astype(np.float32)
    return low, weight * weight * (3 - 2 * weight)


def _tag_color(code: int) -> Color:
    return colorsys.hsv_to_rgb(code * 0.618034 % 1.0, 0.95, 0.95)


def _mark(canvas: Canvas, tag: Tag) -> None:
    """Paint a patch or a frame over everything."""
    size = canvas.size
    if tag.kind == "patch":
        half = PATCH_SIDE * size / 2
        x, y = (half * 1.3 if near else size - half * 1.3 for near in (tag.position % 2 == 0, tag.position < 2))
        canvas.fill(SQUARE, Frame.make(x, y, half), _tag_color(tag.code), TAG)
        return
    inside = np.zeros((size, size), dtype=np.bool_)
    width = max(round(FRAME_WIDTH * size), 1)
    inside[width:-width, width:-width] = True
    weight = np.where(inside, np.float32(0), np.float32(0.7))
    canvas.stroke(Stroke(TAG, 0, 0, size, size, weight, _tag_color(tag.code)))
    canvas.index[~inside] = TAG


def _texture(canvas: Canvas, tag: Tag) -> None:
    """Paint faint stripes all over the background, in a direction that tells the code."""
    frame = Frame.make(0, 0, 1, 180 * (tag.code * 0.618034 % 1.0))
    centers = pixel_centers(canvas.size) * np.float32(8 / canvas.size)
    phase = centers * np.float32(frame.xx) + (centers * np.float32(frame.yx))[:, None]
    stripes: Array = np.abs(phase - np.floor(phase) - np.float32(0.5)) - np.float32(0.25)
    assert canvas.image is not None
    canvas.image += stripes * np.float32(0.5)
    canvas.index[:] = TAG
