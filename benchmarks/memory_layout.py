"""Training steps with ``channels_last`` beside the same steps with torch's default layout."""

from __future__ import annotations

from typing import Any

from benchmarks.parts import make_batch, make_spec, plain_step
from benchmarks.timing import Row, side_by_side

CASES: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "small_cnn": ({"width": 16}, 64, 64, 4),
    "cifar_resnet": ({"depth": 20, "width": 16}, 128, 32, 1),
    "resnet18": ({}, 16, 224, 1),
}
"""Backbone -> its options, images of a step, pixels, repetitions for each one that is asked for."""


def measure(repetitions: int = 14, backbones: tuple[str, ...] = tuple(CASES)) -> list[Row]:
    """Compare plain training steps in both layouts."""
    rows = []
    for name in backbones:
        options, count, size, rounds = CASES[name]
        batch = make_batch(make_spec([1], 10, size), count)
        steps = {
            layout: plain_step({"name": name, **options}, batch, 10, channels_last=layout == "channels_last")
            for layout in ("contiguous", "channels_last")
        }
        timed = side_by_side(steps, rounds * repetitions)
        before, after = timed["contiguous"], timed["channels_last"]
        what = "training step, contiguous / channels_last"
        shapes = f"{name}, {count} x 3 x {size} x {size}"
        rows.append(Row(what, shapes, f"{before} / {after}", *before.ratio(after), ">= 1"))
    return rows
