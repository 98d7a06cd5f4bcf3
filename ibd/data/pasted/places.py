"""Places that something is pasted on: patterns that are told by their structure, whatever their colors."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ibd.data.toybirds.raster import Array, pixel_centers

Rng = np.random.Generator
Pattern = npt.NDArray[np.float64]
_TURN = 2 * np.pi


def draw_place(kind: int, size: int, rng: Rng) -> Array:
    """Draw a place: two colors, mixed by the pattern of its kind, under a little grain.

    Args:
        kind: number of the kind, its place in `PLACES`.
        size: side in pixels.
        rng: random numbers of the colors, of phases and widths, and of the grain.

    Returns:
        (3, size, size) float32 in [0, 1].
    """
    at = (pixel_centers(size) / np.float32(size)).astype(np.float64)
    mixed = PLACES[list(PLACES)[kind]](
        np.broadcast_to(at, (size, size)), np.broadcast_to(at[:, None], (size, size)), rng
    )
    one, other = _color(rng, 0.30, 0.55), _color(rng, 0.65, 0.90)
    if rng.random() < 0.5:
        one, other = other, one
    image = one[:, None, None] + (other - one)[:, None, None] * mixed
    image = image + 0.06 * (rng.random((1, size, size)) - 0.5)
    drawn: Array = np.clip(image, 0, 1).astype(np.float32)
    return drawn


def _color(rng: Rng, low: float, high: float) -> Pattern:
    """Return a pale color of a brightness between two."""
    hue, saturation, value = rng.random(), 0.35 * rng.random(), low + (high - low) * rng.random()
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _sea(u: Pattern, v: Pattern, rng: Rng) -> Pattern:
    """Level waves."""
    phase, count = rng.random(2), 4 + 3 * rng.random()
    bent = v + 0.02 * np.sin(_TURN * (2 * u + phase[0]))
    mixed: Pattern = 0.5 + 0.5 * np.sin(_TURN * (count * bent + phase[1]))
    return mixed


def _forest(u: Pattern, v: Pattern, rng: Rng) -> Pattern:
    """Upright trunks."""
    phase, count = rng.random(2), 4 + 3 * rng.random()
    bent = u + 0.02 * np.sin(_TURN * (v + phase[0]))
    mixed: Pattern = (np.sin(_TURN * (count * bent + phase[1])) > 0.2).astype(np.float64)
    return mixed


def _dunes(u: Pattern, v: Pattern, rng: Rng) -> Pattern:
    """Slanting bands."""
    phase, count = rng.random(), 3 + 2 * rng.random()
    side = 1.0 if rng.random() < 0.5 else -1.0
    mixed: Pattern = np.mod(count * (u + side * v) + phase, 1.0)
    return mixed


def _hills(u: Pattern, v: Pattern, rng: Rng) -> Pattern:
    """One edge between a light and a dark half."""
    phase, height = rng.random(), 0.35 + 0.3 * rng.random()
    mixed: Pattern = (v > height + 0.08 * np.sin(_TURN * (1.5 * u + phase))).astype(np.float64)
    return mixed


def _city(u: Pattern, v: Pattern, rng: Rng) -> Pattern:
    """Rows of windows."""
    phase, count = rng.random(2), 5 + 2 * rng.random()
    mixed: Pattern = ((np.mod(count * u + phase[0], 1) < 0.5) & (np.mod(count * v + phase[1], 1) < 0.5)).astype(
        np.float64
    )
    return mixed


def _meadow(u: Pattern, v: Pattern, rng: Rng) -> Pattern:
    """Scattered round flowers."""
    spots, radius = rng.random((40, 2)), 0.025 + 0.015 * rng.random()
    nearest = np.min([(u - x) ** 2 + (v - y) ** 2 for x, y in spots], axis=0)
    mixed: Pattern = (nearest < radius**2).astype(np.float64)
    return mixed


PLACES: dict[str, Callable[[Pattern, Pattern, Rng], Pattern]] = {
    "sea": _sea,
    "forest": _forest,
    "dunes": _dunes,
    "hills": _hills,
    "city": _city,
    "meadow": _meadow,
}
"""Kind of a place -> its pattern: (size, size) coordinates from the left and from the top in [0, 1] -> in [0, 1]."""
