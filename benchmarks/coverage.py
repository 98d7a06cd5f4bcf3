"""How often an interval that is called 95 % holds the truth, over made-up trainings: ``python -m benchmarks.coverage``.

Prints the tables of docs/comparison.md: coverage and mean width of `two_level_intervals`, by scenario and number of
trainings, and beside it what else could be done.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.metrics.functional.random_effects import two_level_intervals
from ibd.metrics.functional.student import t_quantile

TRAININGS = (1, 2, 3, 5, 10)
IMAGES = 48
REPETITIONS = 4000
_IMAGE, _NOISE = 0.5, 0.5  # standard deviations
_HIT, _LOSS = 1.0, 0.03  # where hits begin, and how far correlations are from 1
_UNDEFINED = 0.2  # of the scores
_RESAMPLES = 1000

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Scenario:
    """A kind of score whose true mean is known.

    Attributes:
        title: in the table.
        training: standard deviation of trainings.
        make: the generator, the shape (R, M, N) and that deviation -> scores.
        truth: what their mean estimates; with one training, that of other images alone.
    """

    title: str
    training: float
    make: Callable[[torch.Generator, Shape, float], Tensor]
    truth: float = 0.0


def normal(generator: torch.Generator, shape: Shape, training: float) -> Tensor:
    """Return (R, M, N) of trainings + images + the rest, all normal."""
    repetitions, models, images = shape

    def drawn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    parts = training * drawn(repetitions, models, 1), _IMAGE * drawn(repetitions, 1, images), _NOISE * drawn(*shape)
    return sum(parts, torch.zeros(()))


def paired(generator: torch.Generator, shape: Shape, training: float) -> Tensor:
    """Return differences of two explainers that share what is hard about a training and an image."""
    shared = normal(generator, shape, 3 * training)
    one, other = (shared + normal(generator, shape, training) / math.sqrt(2) for _ in range(2))
    return one - other


def gaps(generator: torch.Generator, shape: Shape, training: float) -> Tensor:
    """Return normal scores of which a fifth are undefined."""
    undefined = torch.rand(*shape, generator=generator) < _UNDEFINED
    return normal(generator, shape, training).where(~undefined, torch.nan)


def hits(generator: torch.Generator, shape: Shape, training: float) -> Tensor:
    """Return 0 or 1: whether a normal score is above what one in ten or so misses."""
    return (normal(generator, shape, training) > -_HIT).double()


def near_one(generator: torch.Generator, shape: Shape, training: float) -> Tensor:
    """Return correlations near 1, with a tail to lower ones."""
    return 1 - _LOSS * normal(generator, shape, training).exp()


def _variance(training: float) -> float:
    return training**2 + _IMAGE**2 + _NOISE**2


SCENARIOS = (
    Scenario("trainings 0.3", 0.3, normal),
    Scenario("trainings alike", 0.0, normal),
    Scenario("trainings 0.05", 0.05, normal),
    Scenario("trainings 1", 1.0, normal),
    Scenario("paired differences", 0.3, paired),
    Scenario("a fifth undefined", 0.3, gaps),
    Scenario("hits, 0 or 1", 0.3, hits, 0.5 * math.erfc(-_HIT / math.sqrt(2 * _variance(0.3)))),
    Scenario("correlations near 1", 0.3, near_one, 1 - _LOSS * math.exp(_variance(0.3) / 2)),
)


def coverage(scenario: Scenario, trainings: int, repetitions: int = REPETITIONS) -> tuple[float, float]:
    """Return the share of 95 % intervals that hold the truth, and their mean width."""
    intervals = two_level_intervals(_scores(scenario, trainings, repetitions))
    held = sum(interval.low <= scenario.truth <= interval.high for interval in intervals)
    return held / len(intervals), sum(interval.high - interval.low for interval in intervals) / len(intervals)


def rivals(scenario: Scenario, trainings: int, repetitions: int = REPETITIONS) -> dict[str, tuple[float, float]]:
    """Return the same of other intervals, by name; scores must have no gaps and several trainings."""
    scores = _scores(scenario, trainings, repetitions)
    ends = {"bootstrap of both": bootstrap(scores), "t of training means": means(scores), "Satterthwaite": sums(scores)}
    return {
        name: (
            ((low <= scenario.truth) & (scenario.truth <= high)).double().mean().item(),
            (high - low).mean().item(),
        )
        for name, (low, high) in ends.items()
    }


def bootstrap(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends by drawing trainings and images with replacement (Owen 2007)."""
    generator = torch.Generator().manual_seed(1)
    drawn = [
        torch.nn.functional.one_hot(torch.randint(n, (_RESAMPLES, n), generator=generator), n).double().mean(1)
        for n in scores.shape[1:]
    ]
    resampled = torch.einsum("rmb,bm->rb", scores @ drawn[1].T, drawn[0])
    low, high = torch.quantile(resampled, torch.tensor([0.025, 0.975], dtype=torch.float64), 1).unbind(0)
    return low, high


def means(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends by Student's t on the mean of each training, as if images did not vary."""
    of_trainings = scores.mean(2)
    repetitions, count = of_trainings.shape
    return _ends(of_trainings.mean(1), of_trainings.var(1) / count, torch.full((repetitions,), count - 1))


def sums(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends by the mean squares of a two-way analysis, degrees of freedom by Satterthwaite (1946)."""
    _, models, images = scores.shape
    of_trainings, of_images = scores.mean(2), scores.mean(1)
    mean = scores.mean((1, 2))
    rest = scores - of_trainings[:, :, None] - of_images[:, None] + mean[:, None, None]
    freedom = (models - 1, images - 1, (models - 1) * (images - 1))
    parts = (
        of_trainings.var(1) / models,
        of_images.var(1) / images,
        rest.square().sum((1, 2)) / (freedom[2] * models * images),
    )
    error = (parts[0] + parts[1] - parts[2]).clamp(min=1e-12)
    df = error.square() / sum(part.square() / free for part, free in zip(parts, freedom, strict=True))
    return _ends(mean, error, df.clamp(min=1))


def table(repetitions: int = REPETITIONS) -> str:
    """Return coverage (mean width) by scenario and number of trainings, in Markdown."""
    rows = [
        [
            scenario.title,
            *(_cell(coverage(scenario, count, repetitions)) if _fits(scenario, count) else "" for count in TRAININGS),
        ]
        for scenario in SCENARIOS
    ]
    return _markdown(["scores", *map(_counted, TRAININGS)], rows)


def table_of_rivals(repetitions: int = REPETITIONS) -> str:
    """Return the same of other intervals, in the first scenario and where trainings are alike."""
    rows = []
    for scenario in SCENARIOS[:2]:
        by_count = [rivals(scenario, count, repetitions) for count in TRAININGS[1:]]
        rows += [[f"{name}, {scenario.title}", *(_cell(ends[name]) for ends in by_count)] for name in by_count[0]]
    return _markdown(["interval", *map(_counted, TRAININGS[1:])], rows)


def _scores(scenario: Scenario, trainings: int, repetitions: int) -> Tensor:
    shape = (repetitions, trainings, IMAGES)
    return scenario.make(torch.Generator().manual_seed(trainings), shape, scenario.training)


def _fits(scenario: Scenario, trainings: int) -> bool:
    """Return whether the scenario has a truth for so many: one training says nothing of others."""
    return trainings > 1 or scenario.training == 0


def _ends(mean: Tensor, variance: Tensor, df: Tensor) -> tuple[Tensor, Tensor]:
    half = t_quantile(0.95, df) * variance.sqrt()
    return mean - half, mean + half


def _cell(coverage_and_width: tuple[float, float]) -> str:
    held, width = coverage_and_width
    return f"{100 * held:.1f} % ({width:.2g})"


def _counted(trainings: int) -> str:
    return f"{trainings} training" + ("" if trainings == 1 else "s")


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="data sets made up for each figure")
    options = parser.parse_args(arguments)
    print(table(options.repetitions), table_of_rivals(options.repetitions), sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
