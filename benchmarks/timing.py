"""Measuring several things side by side, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of every repetition.

    Attributes:
        cpu: of the process, all its threads together; other processes do not disturb it.
        wall: by the clock.
    """

    cpu: list[float]
    wall: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        """The median CPU time and the median time by the clock, in seconds."""
        return statistics.median(self.cpu), statistics.median(self.wall)

    def __str__(self) -> str:
        """Return the median CPU time, such as "3.2 ms"."""
        seconds = self.medians[0]
        return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"

    def ratio(self, other: Times) -> tuple[float, float]:
        """Return the median over repetitions of these times divided by the other's, by CPU time and by the clock."""
        pairs = ((self.cpu, other.cpu), (self.wall, other.wall))
        cpu, wall = (statistics.median(a / b for a, b in zip(*pair, strict=True)) for pair in pairs)
        return cpu, wall

    def times(self, factor: float, plus: tuple[float, float] = (0.0, 0.0)) -> Times:
        """Return the times of `factor` as much work and once of something else: its CPU time, and by the clock."""
        return Times([factor * t + plus[0] for t in self.cpu], [factor * t + plus[1] for t in self.wall])

    def plus(self, other: Times) -> Times:
        """Return the times of both, round by round."""
        sums = (
            [a + b for a, b in zip(*pair, strict=True)] for pair in ((self.cpu, other.cpu), (self.wall, other.wall))
        )
        return Times(*sums)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is divided by what.
        shapes: of the inputs.
        times: the times themselves, in words.
        cpu: ratio of the CPU times.
        wall: ratio of the times by the clock.
        bar: what the CPU ratio should be, such as "<= 1.02"; empty where nothing is promised.
    """

    what: str
    shapes: str
    times: str
    cpu: float
    wall: float
    bar: str = ""

    @property
    def verdict(self) -> str:
        """Whether the bar is met."""
        if not self.bar:
            return ""
        sign, limit = self.bar.split()
        return "yes" if (self.cpu <= float(limit) if sign == "<=" else self.cpu >= float(limit)) else "no"

    def __str__(self) -> str:
        """Return the line in Markdown."""
        ratios = [f"{value:.3f}" if value < 10 else f"{value:.0f}" for value in (self.cpu, self.wall)]
        cells = [self.what, self.shapes, self.times, *ratios, self.bar.replace("<=", "≤").replace(">=", "≥")]
        return f"| {' | '.join([*cells, self.verdict])} |"


HEADER = (
    "| what / against what | shapes | CPU time | ratio, CPU | ratio, clock | bar | met |\n|---|---|---|---|---|---|---|"
)


def side_by_side(
    candidates: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1
) -> dict[str, Times]:
    """Time every candidate `repetitions` times, in turns; the order is reversed in every other round.

    Args:
        candidates: name -> what to call.
        repetitions: rounds that count.
        warm_up: rounds before those.
    """
    times = {name: Times([], []) for name in candidates}
    for turn in range(warm_up + repetitions):
        names = list(candidates)[:: 1 if turn % 2 == 0 else -1]
        for name in names:
            cpu, wall = _time(candidates[name])
            if turn >= warm_up:
                times[name].cpu.append(cpu)
                times[name].wall.append(wall)
    return times


def _time(call: Callable[[], object]) -> tuple[float, float]:
    gc.collect()
    gc.disable()
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        return time.process_time() - cpu, time.perf_counter() - wall
    finally:
        gc.enable()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, so that CPU time is work and not waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
