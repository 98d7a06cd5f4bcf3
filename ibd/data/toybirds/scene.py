"""A scene: every factor that a toy-bird image is made from, and the interventions that change one of them."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from ibd.data.toybirds.parts import PARTS, check_parts, check_variant
from ibd.errors import ConfigError

BackgroundKind = Literal["noise", "gradient", "flat"]
DistractorShape = Literal["disc", "square", "triangle", "bar", "leaf"]
Layer = Literal["back", "front"]
TagKind = Literal["patch", "frame", "texture"]


@dataclass(frozen=True)
class Pose:
    """Where the bird is: degrees, mirrored or not, and size and position in half image sides (0, 0 the center)."""

    rotation: float = 0.0
    flip: bool = False
    scale: float = 0.95
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Jitter:
    """How one part differs from its type: shift in object units, degrees, factor on size, shift of hue, brightness."""

    dx: float = 0.0
    dy: float = 0.0
    rotation: float = 0.0
    scale: float = 1.0
    hue: float = 0.0
    value: float = 1.0


@dataclass(frozen=True)
class Background:
    """What is behind everything; the picture depends on these two alone."""

    seed: int = 0
    kind: BackgroundKind = "noise"


@dataclass(frozen=True)
class Distractor:
    """A shape that means nothing, behind the bird or, as an occluder, in front of it."""

    shape: DistractorShape
    x: float
    y: float
    size: float
    rotation: float
    color: tuple[float, float, float]
    layer: Layer = "back"


@dataclass(frozen=True)
class Tag:
    """A mark that is no part of the bird: a shortcut where `code` goes with the class.

    Attributes:
        kind: a colored square in a corner, a tinted frame, or stripes all over the background.
        code: number of the tag; it decides the color, or the direction of the stripes.
        position: the corner of a patch, 0 to 3 (top left, top right, bottom left, bottom right).
    """

    kind: TagKind
    code: int
    position: int = 0


@dataclass(frozen=True)
class Scene:
    """One image as data; ``render(scene, size)`` makes the picture.

    Interventions return a new scene and leave every other factor as it is.

    Attributes:
        cls: the class that the bird was made for.
        label: the class that the annotation says; another one under label noise.
        parts: part -> variant, or None where the part is removed.
        pose: pose of the bird.
        jitter: part -> its deviation.
        plumage: color of the body.
        light: factors on red, green and blue.
        background: background behind everything.
        distractors: distractors in the order of painting within each layer.
        tag: the shortcut, if there is one.
    """

    cls: int
    label: int
    parts: dict[str, str | None]
    pose: Pose = Pose()
    jitter: dict[str, Jitter] = field(default_factory=lambda: {part: Jitter() for part in PARTS})
    plumage: tuple[float, float, float] = (0.6, 0.5, 0.42)
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    background: Background = Background()
    distractors: tuple[Distractor, ...] = ()
    tag: Tag | None = None

    @property
    def occluders(self) -> tuple[int, ...]:
        """The indices of the distractors that are in front of the bird."""
        return tuple(i for i, distractor in enumerate(self.distractors) if distractor.layer == "front")

    def remove(self, *parts: str) -> Scene:
        """Return the scene without these parts.

        Raises:
            ConfigError: one of them is no part.
        """
        return dataclasses.replace(self, parts=self.parts | dict.fromkeys(check_parts(parts)))

    def replace(self, part: str, variant: str) -> Scene:
        """Return the scene with `part` in `variant`, also where the part was removed.

        Raises:
            ConfigError: there is no such part or variant.
        """
        check_variant(part, variant)
        return dataclasses.replace(self, parts=self.parts | {part: variant})

    def subset_grid(self) -> list[Scene]:
        """Return the 2^P scenes with every subset of the parts; in scene ``s`` part p is kept if bit p of s is set."""
        kept = itertools.product((False, True), repeat=len(PARTS))
        return [self.remove(*(p for p, keep in zip(PARTS, reversed(bits), strict=True) if not keep)) for bits in kept]

    def drop_distractor(self, index: int) -> Scene:
        """Return the scene without one distractor.

        Raises:
            ConfigError: there is none of that index.
        """
        if not 0 <= index < len(self.distractors):
            raise ConfigError(f"distractor {index} given, the scene has {len(self.distractors)}, counted from 0")
        rest = self.distractors[:index] + self.distractors[index + 1 :]
        return dataclasses.replace(self, distractors=rest)

    def set_background(self, background: int | Literal["flat"]) -> Scene:
        """Return the scene before another background, by its seed, or before plain gray ("flat").

        Raises:
            ConfigError: a string other than "flat", or a negative seed.
        """
        if isinstance(background, int) and background >= 0:
            kind: BackgroundKind = "noise" if self.background.kind == "flat" else self.background.kind
            return dataclasses.replace(self, background=Background(background, kind))
        if background != "flat":
            raise ConfigError(f"background {background!r} given, a seed of 0 or more or 'flat' is needed")
        return dataclasses.replace(self, background=Background(self.background.seed, "flat"))

    def set_tag(self, tag: Tag | None) -> Scene:
        """Return the scene with another tag, or with none."""
        return dataclasses.replace(self, tag=tag)

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as dicts, lists, strings and numbers only."""
        plain: dict[str, Any] = dataclasses.asdict(self)
        plain["distractors"] = [d | {"color": list(d["color"])} for d in plain["distractors"]]
        return plain | {name: list(plain[name]) for name in ("plumage", "light")}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Scene:
        """Rebuild a scene from what `to_dict` returned, also after a passage through JSON."""
        return cls(
            cls=plain["cls"],
            label=plain["label"],
            parts=dict(plain["parts"]),
            pose=Pose(**plain["pose"]),
            jitter={part: Jitter(**values) for part, values in plain["jitter"].items()},
            plumage=_color(plain["plumage"]),
            light=_color(plain["light"]),
            background=Background(**plain["background"]),
            distractors=tuple(Distractor(**d | {"color": _color(d["color"])}) for d in plain["distractors"]),
            tag=None if plain["tag"] is None else Tag(**plain["tag"]),
        )


def _color(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
