"""How hard the pictures are: the settings that scenes are sampled with, and named sets of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ibd.data.toybirds.classes import Structure
from ibd.data.toybirds.scene import BackgroundKind
from ibd.errors import ConfigError

PresetName = Literal["tiny", "small", "standard", "wide", "hard", "hans", "correlated"]
TagChoice = Literal["none", "patch", "frame", "texture"]


def one_of(key: str, given: str, allowed: Iterable[str]) -> None:
    """Check a choice.

    Raises:
        ConfigError: `given` is not among the allowed.
    """
    names = tuple(allowed)
    if given not in names:
        raise ConfigError(f"data.{key}: '{given}' given, one of {', '.join(names)} is needed")


def within(key: str, given: float, low: float, high: float) -> None:
    """Check a number.

    Raises:
        ConfigError: `given` is not between `low` and `high`.
    """
    if not low <= given <= high:
        raise ConfigError(f"data.{key}: {given} given, {low} to {high} is needed")


@dataclass(frozen=True)
class Settings:
    """What a preset stands for; an argument of `ToyBirds` of the same name overrides it.

    Attributes:
        image_size: image size in pixels.
        num_classes: number of classes.
        train_size: number of images for training.
        val_size: images for validation.
        test_size: images for the test.
        structure: structure of the classes.
        rotation: the bird is turned by up to so many degrees either way.
        scale: size of the smallest bird, 1 being as large as fits into the image.
        jitter: 0 gives every bird the same shapes and colors, 1 shifts, turns, scales and recolors each part.
        distractors: the largest number of shapes behind the bird.
        occlusion: probability of shapes in front of the bird.
        occluders: the largest number of these.
        tag: kind of the shortcut.
        tag_rho: probability in training and validation that the tag is the one of the class.
        shift: 0 centers the bird, 1 lets it go wherever it is in the image as a whole.
        light: factors on brightness and on each color, up to so much either way.
        min_visible: a part of which a smaller share can be seen, because of occluders, counts as hidden; 0 labels parts
            that cannot be seen as what they are.
        backgrounds: the kinds of background.

    Raises:
        ConfigError: a value is out of its range.
    """

    image_size: int
    num_classes: int
    train_size: int
    val_size: int
    test_size: int
    structure: Structure = "random"
    rotation: float = 35.0
    scale: float = 0.7
    jitter: float = 1.2
    distractors: int = 8
    occlusion: float = 0.3
    occluders: int = 2
    tag: TagChoice = "none"
    tag_rho: float = 0.95
    shift: float = 1.0
    light: float = 0.15
    min_visible: float = 0.2
    backgrounds: tuple[BackgroundKind, ...] = ("noise", "noise", "gradient")

    def __post_init__(self) -> None:
        """Check the ranges."""
        within("image_size", self.image_size, 32, 1024)
        within("num_classes", self.num_classes, 2, 1_000_000)
        for name in ("train_size", "val_size", "test_size"):
            within(name, getattr(self, name), 1, 10_000_000)
        one_of("structure", self.structure, get_args(Structure))
        within("rotation", self.rotation, 0, 180)
        within("scale", self.scale, 0.2, 1)
        within("jitter", self.jitter, 0, 3)
        within("distractors", self.distractors, 0, 60)
        within("occlusion", self.occlusion, 0, 1)
        within("occluders", self.occluders, 1, 60)
        within("min_visible", self.min_visible, 0, 1)
        one_of("tag", self.tag, get_args(TagChoice))
        within("tag_rho", self.tag_rho, 0, 1)

    def override(self, **given: Any) -> Settings:
        """Return the settings with every value that is given (is not None) in place of its own."""
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})


PRESETS: dict[PresetName, Settings] = {
    "tiny": Settings(
        32, 6, 800, 200, 200,
        rotation=6.0, scale=0.9, jitter=0.3, distractors=2, occlusion=0.0, shift=0.5, light=0.05,
    ),
    "small": Settings(48, 10, 2000, 500, 500),
    "standard": Settings(64, 20, 4000, 1000, 1000, scale=0.6, distractors=10, occlusion=0.4),
    "wide": Settings(64, 50, 6000, 1500, 1500),
    "hard": Settings(
        128, 20, 4000, 1000, 1000,
        rotation=60.0, scale=0.5, jitter=1.5, distractors=12, occlusion=0.3, light=0.3, backgrounds=("noise",),
    ),
    "hans": Settings(64, 8, 3000, 1000, 1000, structure="double", tag="patch", tag_rho=0.95),
    "correlated": Settings(
        64, 12, 4000, 1000, 1000,
        structure="linked", scale=0.6, distractors=10, occlusion=1.0, occluders=8, min_visible=0.0,
    ),
}  # fmt: skip
