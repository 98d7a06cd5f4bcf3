"""Drawing scenes: scene i of a split depends on (seed, split, i) alone."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

import numpy as np

from ibd.data.base import SPLITS, Split
from ibd.data.toybirds.classes import Bird, ToyClasses
from ibd.data.toybirds.parts import EXTENT, PARTS, VARIANTS
from ibd.data.toybirds.presets import Settings
from ibd.data.toybirds.raster import Color, Frame
from ibd.data.toybirds.scene import Background, Distractor, DistractorShape, Jitter, Layer, Pose, Scene, Tag, TagKind

T = TypeVar("T")
TagMode = Literal["rho", "aligned", "absent", "flipped"]

Stream = Literal["scene", "tag", "label", "concepts"]
PLUMAGES: tuple[Color, ...] = (
    (0.62, 0.49, 0.38), (0.45, 0.45, 0.50), (0.78, 0.68, 0.52), (0.36, 0.30, 0.27), (0.80, 0.78, 0.74),
)  # fmt: skip


class Draws:
    """Random draws from a stream of their own; what one is used for changes nothing in another.

    Args:
        seed: seed of the dataset.
        split: split of the data.
        index: index of the scene in the split.
        stream: purpose of the draws.
    """

    def __init__(self, seed: int, split: Split, index: int, stream: Stream = "scene") -> None:
        key = [seed, SPLITS.index(split), index, *([] if stream == "scene" else [get_args(Stream).index(stream)])]
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        self._pool: list[float] = []

    def unit(self) -> float:
        """Return a number in [0, 1); a block is drawn at once, which is many times faster."""
        if not self._pool:
            self._pool = self._rng.random(64).tolist()
        return self._pool.pop()

    def between(self, low: float, high: float) -> float:
        """Return a number, to 4 digits, which keeps scenes readable as JSON."""
        return round(low + (high - low) * (self._pool.pop() if self._pool else self.unit()), 4)

    def within(self, bound: float) -> float:
        """Return a number between -bound and bound."""
        return self.between(-bound, bound)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.unit() < probability

    def below(self, n: int) -> int:
        """Return one of 0 .. n - 1."""
        return int(self.unit() * n)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]


def sample_scene(classes: ToyClasses, settings: Settings, seed: int, split: Split, index: int) -> Scene:
    """Draw one scene, without a tag; the classes take turns."""
    draws = Draws(seed, split, index)
    cls = index % len(classes.names)
    return Scene(
        cls=cls,
        label=cls,
        parts={**sample_parts(draws, classes, cls)},
        pose=_pose(draws, settings),
        jitter={part: _jitter(draws, settings.jitter) for part in PARTS},
        plumage=_plumage(draws, settings.jitter),
        light=_light(draws, settings.light),
        background=Background(draws.below(2**32), draws.choice(settings.backgrounds)),
        distractors=_distractors(draws, settings),
    )


def sample_parts(draws: Draws, classes: ToyClasses, cls: int) -> Bird:
    """Draw the variants of a bird of class `cls`: its own, but those of parts that do not decide may be re-drawn."""
    bird = draws.choice(classes.birds[cls])
    redrawn = {part for part in PARTS if part not in classes.deciding and draws.chance(classes.redraw)}
    return {part: draws.choice(VARIANTS[part]) if part in redrawn else bird[part] for part in PARTS}


def sample_tag(draws: Draws, kind: TagKind, cls: int, num_classes: int, mode: TagMode, rho: float) -> Tag | None:
    """Draw the tag of an image of class `cls`: the code of the class, or of another one.

    Args:
        draws: random draws of the scene.
        kind: kind of the tag.
        cls: the class.
        num_classes: number of codes.
        mode: "rho" takes the class's own code with probability `rho`, "aligned" always, "flipped" never;
            "absent" makes no tag.
        rho: probability of the class's own code, see `mode`.
    """
    own, other, position = draws.chance(rho), draws.below(num_classes - 1), draws.below(4)
    if mode == "absent":
        return None
    if mode == "aligned" or (mode == "rho" and own):
        return Tag(kind, cls, position)
    return Tag(kind, (cls + 1 + other) % num_classes, position)


def _pose(draws: Draws, settings: Settings) -> Pose:
    """Draw a pose in which the whole bird is in the image."""
    rotation, flip = draws.within(settings.rotation), draws.chance(0.5)
    turn = Frame.make(0, 0, 1, rotation, flip)
    x, y = zip(*(turn.apply(*point) for point in EXTENT), strict=True)
    fits = 2 / max(max(x) - min(x), max(y) - min(y))
    scale = round(fits * draws.between(settings.scale, 1.0), 4)
    free_x, free_y = (1 - scale * (max(v) - min(v)) / 2 for v in (x, y))
    center_x, center_y = (-scale * (max(v) + min(v)) / 2 for v in (x, y))
    shift = settings.shift
    return Pose(
        rotation,
        flip,
        scale,
        round(center_x + draws.within(shift) * free_x, 4),
        round(center_y + draws.within(shift) * free_y, 4),
    )


def _jitter(draws: Draws, amount: float) -> Jitter:
    return Jitter(
        dx=draws.within(0.025 * amount),
        dy=draws.within(0.025 * amount),
        rotation=draws.within(8 * amount),
        scale=draws.between(1 - 0.08 * amount, 1 + 0.08 * amount),
        hue=draws.within(0.025 * amount),
        value=draws.between(1 - 0.15 * amount, 1 + 0.10 * amount),
    )


def _plumage(draws: Draws, amount: float) -> Color:
    base = draws.choice(PLUMAGES)
    red, green, blue = (round(min(channel * (1 + draws.within(0.12 * amount)), 1.0), 4) for channel in base)
    return red, green, blue


def _light(draws: Draws, amount: float) -> Color:
    gain = 1 + draws.within(amount)
    red, green, blue = (round(gain * (1 + draws.within(amount / 3)), 4) for _ in range(3))
    return red, green, blue


def _distractors(draws: Draws, settings: Settings) -> tuple[Distractor, ...]:
    behind = [_distractor(draws, 1.0, (0.05, 0.16), "back") for _ in range(draws.below(settings.distractors + 1))]
    if not draws.chance(settings.occlusion):
        return tuple(behind)
    front = [_distractor(draws, 0.7, (0.08, 0.18), "front") for _ in range(1 + draws.below(settings.occluders))]
    return (*behind, *front)


def _distractor(draws: Draws, reach: float, size: tuple[float, float], layer: Layer) -> Distractor:
    red, green, blue = colorsys.hsv_to_rgb(draws.unit(), draws.between(0.4, 0.95), draws.between(0.3, 1.0))
    return Distractor(
        shape=draws.choice(get_args(DistractorShape)),
        x=draws.within(reach),
        y=draws.within(reach),
        size=draws.between(*size),
        rotation=draws.between(0, 180),
        color=(round(red, 4), round(green, 4), round(blue, 4)),
        layer=layer,
    )
