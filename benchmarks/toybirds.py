"""Whether the built-in birds are rendered as fast as a training step uses them up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.parts import cbm_module, make_batch, module_step
from benchmarks.timing import Row, side_by_side
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.types import stack_samples

CASES: dict[int, tuple[dict[str, Any], int]] = {
    64: ({"name": "small_cnn", "width": 16}, 64),
    128: ({"name": "resnet18"}, 16),
    224: ({"name": "resnet18"}, 16),
}
"""Pixels -> backbone, images of a step."""


def measure(repetitions: int = 14, sizes: tuple[int, ...] = tuple(CASES)) -> list[Row]:
    """Compare the time in which a CBM training step uses a batch up with the time in which one process makes it.

    Once as in the first epoch, where every image is rendered, and once as in those after it, where it is in memory.
    """
    rows = []
    for size in sizes:
        backbone, count = CASES[size]
        for title, cache in (("rendered", False), ("from memory", True)):
            data = ToyBirds("standard", image_size=size, train_size=count * (repetitions + 2), cache=cache)
            network = cbm_module(backbone, data.spec)
            step = module_step(network, make_batch(data.spec, count))
            timed = side_by_side({"step": step, "batch": _make_batch(data, count)}, repetitions)
            cpu, wall = timed["step"].ratio(timed["batch"])
            supply, demand = (count / timed[name].medians[0] for name in ("batch", "step"))
            what = f"ToyBirds, {title}: images made / used up by a {backbone['name']} step"
            times = f"{supply:.0f} / {demand:.0f} images/s"
            rows.append(Row(what, f"{count} x 3 x {size} x {size}", times, cpu, wall, ">= 1" if size < 224 else ""))
    return rows


def _make_batch(data: ToyBirds, count: int) -> Callable[[], object]:
    dataset = data.dataset("train")
    if data.cache:
        for index in range(len(dataset)):
            dataset[index]
    indices: Iterator[int] = itertools.cycle(range(len(dataset)))
    return lambda: stack_samples([dataset[next(indices)] for _ in range(count)])
