"""The anatomy of a toy bird: five parts in 26 variants, as shapes in object coordinates.

The bird looks to the right and lies within -1 to 1; x points right, y down.
"""

from __future__ import annotations

from collections.abc import Iterable

from ibd.data.toybirds.raster import Ellipse, Polygon, Shape
from ibd.errors import ConfigError, did_you_mean

PARTS = ("beak", "eye", "foot", "tail", "wing")

BACKGROUND, BODY, FIRST_PART, FIRST_DISTRACTOR, TAG = 0, 1, 2, 20, 100
"""Numbers in an index map: parts follow from FIRST_PART in the order of PARTS, distractors from FIRST_DISTRACTOR."""

FACTORS: dict[str, dict[str, tuple[str, ...]]] = {
    "beak": {"shape": ("cone", "needle", "hook", "flat")},
    "eye": {"shape": ("dark", "ring", "slit")},
    "foot": {"color": ("orange", "blue"), "shape": ("webbed", "claw")},
    "tail": {"color": ("red", "green", "blue"), "shape": ("fan", "fork", "spike")},
    "wing": {"color": ("red", "yellow", "blue"), "shape": ("oval", "pointed")},
}
"""What a variant of each part is made of; every combination exists."""

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.99, 0.85, 0.85),
    "orange": (0.075, 0.90, 0.97),
    "yellow": (0.14, 0.85, 0.98),
    "green": (0.36, 0.75, 0.65),
    "blue": (0.61, 0.80, 0.85),
}
"""Hue, saturation and value of the colors by name."""

BEAK_COLOR = (0.11, 0.80, 0.95)
WHITE, BLACK, AMBER = (0.97, 0.97, 0.95), (0.05, 0.05, 0.07), (0.98, 0.80, 0.20)

ANCHORS: dict[str, tuple[float, float]] = {
    "beak": (0.62, -0.42),
    "eye": (0.46, -0.47),
    "foot": (0.02, 0.36),
    "tail": (-0.48, 0.18),
    "wing": (0.12, 0.02),
}
"""Where each part is attached: the point that its jitter turns about."""

EXTENT = ((1.0, -0.36), (0.40, -0.70), (-0.62, -0.46), (-1.0, 0.05), (-0.97, 0.50), (-0.20, 0.82), (0.36, 0.82))
"""Points around the whole bird, whatever its variants."""

BODY_SHAPES = (
    Shape(
        Ellipse(-0.06, 0.06, 0.52, 0.36, -18),
        Ellipse(0.40, -0.42, 0.28),
        Polygon((0.14, -0.40), (0.642, -0.285), (0.40, 0.135), (0.02, -0.24)),
        outline=True,
    ),
    Shape(Ellipse(0.14, 0.16, 0.30, 0.18, -24), shade=1.25),
)


def _feet(*toes: Polygon) -> tuple[Shape, ...]:
    legs = [Polygon((x - 0.03, 0.32), (x + 0.03, 0.32), (x + 0.03, 0.68), (x - 0.03, 0.68)) for x in (-0.14, 0.16)]
    return (Shape(*legs, *toes),)


def _toes(x: float) -> list[Polygon]:
    return [
        Polygon((x - 0.03, 0.62), (x + 0.04, 0.62), (x + 0.24, 0.80), (x + 0.17, 0.82)),
        Polygon((x - 0.035, 0.62), (x + 0.035, 0.62), (x + 0.05, 0.82), (x - 0.02, 0.82)),
        Polygon((x - 0.04, 0.62), (x + 0.03, 0.62), (x - 0.12, 0.81), (x - 0.18, 0.78)),
    ]


SHAPES: dict[str, dict[str, tuple[Shape, ...]]] = {
    "beak": {
        "cone": (
            Shape(Polygon((0.60, -0.58), (0.92, -0.40), (0.61, -0.26))),
            Shape(Polygon((0.61, -0.38), (0.91, -0.395), (0.62, -0.27)), shade=0.75),
        ),
        "needle": (Shape(Polygon((0.64, -0.47), (1.0, -0.36), (1.0, -0.34), (0.64, -0.36))),),
        "hook": (
            Shape(
                Polygon((0.60, -0.58), (0.74, -0.57), (0.84, -0.49), (0.86, -0.40), (0.62, -0.34)),
                Polygon((0.73, -0.45), (0.87, -0.42), (0.84, -0.16)),
            ),
            Shape(Polygon((0.62, -0.36), (0.76, -0.37), (0.72, -0.26), (0.63, -0.26)), shade=0.75),
        ),
        "flat": (
            Shape(
                Polygon((0.60, -0.50), (0.74, -0.42), (0.74, -0.28), (0.62, -0.28)), Ellipse(0.82, -0.35, 0.17, 0.10, 8)
            ),
            Shape(Polygon((0.66, -0.34), (0.97, -0.32), (0.95, -0.29), (0.66, -0.31)), shade=0.65),
        ),
    },
    "eye": {
        "dark": (Shape(Ellipse(0.46, -0.47, 0.115), color=BLACK), Shape(Ellipse(0.50, -0.51, 0.035), color=WHITE)),
        "ring": (Shape(Ellipse(0.46, -0.47, 0.14), color=WHITE), Shape(Ellipse(0.48, -0.47, 0.06), color=BLACK)),
        "slit": (
            Shape(Ellipse(0.46, -0.47, 0.14), color=AMBER),
            Shape(Ellipse(0.47, -0.47, 0.04, 0.12), color=BLACK),
        ),
    },
    "foot": {
        "webbed": _feet(
            *(Polygon((x - 0.04, 0.60), (x + 0.05, 0.60), (x + 0.24, 0.82), (x - 0.14, 0.82)) for x in (-0.14, 0.16))
        ),
        "claw": _feet(*_toes(-0.14), *_toes(0.16)),
    },
    "tail": {
        "fan": (
            Shape(
                Polygon(
                    (-0.40, 0.14),
                    (-0.78, -0.06),
                    (-0.93, 0.06),
                    (-0.98, 0.26),
                    (-0.92, 0.44),
                    (-0.80, 0.54),
                    (-0.42, 0.28),
                )
            ),
            Shape(
                Polygon((-0.50, 0.18), (-0.95, 0.14), (-0.965, 0.20)),
                Polygon((-0.50, 0.23), (-0.94, 0.36), (-0.91, 0.42)),
                shade=0.6,
            ),
        ),
        "fork": (
            Shape(
                Polygon((-0.42, 0.08), (-1.0, -0.08), (-0.60, 0.24), (-0.44, 0.28)),
                Polygon((-0.42, 0.12), (-0.62, 0.18), (-0.97, 0.56), (-0.44, 0.30)),
            ),
        ),
        "spike": (
            Shape(Polygon((-0.38, 0.12), (-0.62, 0.14), (-1.0, 0.33), (-0.64, 0.32), (-0.40, 0.27))),
            Shape(Polygon((-0.50, 0.20), (-0.96, 0.325), (-0.62, 0.27)), shade=0.6),
        ),
    },
    "wing": {
        "oval": (
            Shape(Ellipse(-0.12, 0.04, 0.34, 0.21, -10), outline=True),
            Shape(Ellipse(-0.20, 0.10, 0.20, 0.03, -10), Ellipse(-0.16, 0.0, 0.20, 0.03, -10), shade=0.6),
        ),
        "pointed": (
            Shape(Polygon((0.20, -0.06), (0.16, 0.12), (-0.02, 0.22), (-0.22, 0.18), (-0.62, -0.46)), outline=True),
            Shape(Polygon((0.06, 0.02), (-0.02, 0.10), (-0.50, -0.36)), shade=0.6),
        ),
    },
}


def _combine(values: list[tuple[str, ...]]) -> tuple[str, ...]:
    names = [""]
    for options in values:
        names = [f"{name}_{option}" if name else option for name in names for option in options]
    return tuple(names)


VARIANTS: dict[str, tuple[str, ...]] = {part: _combine(list(factors.values())) for part, factors in FACTORS.items()}
"""The names of the variants of each part: ``cone``, ``red_oval``, ..."""


def factors_of(part: str, variant: str) -> dict[str, str]:
    """Return what a variant is made of: ``{"color": "red", "shape": "oval"}``."""
    return dict(zip(FACTORS[part], variant.split("_"), strict=True))


def check_parts(parts: Iterable[str]) -> tuple[str, ...]:
    """Return the part names as a tuple.

    Raises:
        ConfigError: one of them is no part.
    """
    names = tuple(parts)
    for name in names:
        if name not in PARTS:
            raise ConfigError(f"'{name}' is not a part of a toy bird.{did_you_mean(name, PARTS)}")
    return names


def check_variant(part: str, variant: str) -> None:
    """Check that `part` comes in `variant`.

    Raises:
        ConfigError: it does not, or there is no such part.
    """
    check_parts([part])
    if variant not in VARIANTS[part]:
        raise ConfigError(f"'{variant}' is not a variant of the {part}.{did_you_mean(variant, VARIANTS[part])}")
