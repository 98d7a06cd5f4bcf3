"""What a group of metrics is: what each of them means, what it needs, and how all of them are measured together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ibd.comparison.asked import Asked
from ibd.comparison.results import Floats, Sanity

Need = Literal[
    "map", "units", "unit_maps", "masks", "concepts", "scene", "model", "explainer", "contrast", "scene_model"
]
"""What a metric reads: an explanation's map, its contributions of units, or the units' maps; the images' masks or
concepts; scenes that can be drawn anew; the model, to be asked again; the explainer, to explain again; of pasted
pictures the network of the other labels, or that of the scenes."""

Question = Literal["Faithfulness", "Parts", "Localization", "Robustness", "Sanity", "Properties", "Units", "Agreement"]
"""What a metric answers: the heading of its column."""

Chance = float | Literal["mask_share", "mask_share_iou", "one_part"] | None
INFINITE = float("inf")
UNIT, SIGNED, ANY, POSITIVE = (0.0, 1.0), (-1.0, 1.0), (-INFINITE, INFINITE), (0.0, INFINITE)
"""Ranges that many metrics have."""


class Finding(NamedTuple):
    """How a verdict speaks of a metric."""

    does: str
    """What an explanation that scores well does, such as "ranks the parts by importance"."""
    score: str
    """What the score is called within a sentence."""


@dataclass(frozen=True)
class Metric:
    """A metric of explanations.

    Attributes:
        name: name of the metric in `metrics=` of a configuration.
        title: title of its column.
        definition: definition of the metric in a sentence.
        range: ends of its range; infinite where there is none.
        higher_is_better: whether higher values are better; None where neither is.
        source: paper that it is from.
        needs: needs of the metric, as `Need`s with blanks between; where one is not met it is skipped, and the report
            says why.
        function: function that computes it from what was measured.
        chance: score of an explanation by chance, where theory knows it: a number, the share of the pixels that lie in
            the mask, or what follows from it.
        per_sample: whether there is a value for each image; otherwise there is one of all images together.
        scale_free: whether an explanation times a positive number scores the same, so that explainers with other units
            can be compared; otherwise the score is about the very unit.
        question: question that it answers, where it is not that of its group.
        validated: whether it has a threshold, which is chosen on the validation split.
        by_painting: whether the report shows it for every painting of a model's own map.
        finding: name of the metric in a verdict; by default its title.
    """

    name: str
    title: str
    definition: str
    range: tuple[float, float]
    higher_is_better: bool | None
    source: str
    needs: str
    function: Callable[..., Any]
    chance: Chance = None
    per_sample: bool = True
    scale_free: bool = True
    question: Question | None = None
    validated: bool = False
    by_painting: bool = False
    finding: Finding | None = None

    @property
    def arrow(self) -> str:
        """The direction as a sign for a column's head; empty where there is none."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def described(self) -> str:
        """Definition, range and direction in a line."""
        better = {True: "higher is better", False: "lower is better", None: "neither is better"}[self.higher_is_better]
        low, high = self.range
        return f"{self.definition} {low:g} to {high:g}, {better}"

    @property
    def by_chance(self) -> str:
        """What an explanation by chance scores, in words; empty where it is not known."""
        if self.chance is None:
            return ""
        words = f"{self.chance:g}" if isinstance(self.chance, float) else _CHANCES[self.chance]
        return f"{words} by chance"


_CHANCES = {
    "mask_share": "the mask's share m of the pixels",
    "mask_share_iou": "m / (2 - m) for a mask with a share m of the pixels",
    "one_part": "1 / the number of parts",
}


@dataclass(frozen=True)
class CurveOf:
    """A curve that a group measures beside its scores.

    Attributes:
        name: name of the curve.
        title: title of its chart.
        x_label: label of the x axis.
        y_label: label of the y axis.
        line: name among the lines of one chart, of a curve that belongs to the model alone and not to its explainers.
        chart: name of that chart, which several curves share.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    line: str = ""
    chart: str = ""

    @property
    def drawn_in(self) -> str:
        """Name of the chart that it is drawn in."""
        return self.chart or self.name


class FigureOf(NamedTuple):
    """A figure that a group measures of the model alone."""

    name: str
    reading: str
    """How to read it, in a sentence or two."""
    metric: str = ""
    """Metric that it is shown for; "" for any of the group."""


class Points(NamedTuple):
    """The points of a curve of every image."""

    x: Floats
    """(n,)."""
    values: Floats
    """(N, n), NaN where undefined."""


@dataclass(frozen=True)
class Measured:
    """What measuring a group gives for one model and one row of the tables.

    Attributes:
        scores: metric -> (n,) values of the first n images, NaN where undefined.
        curves: name of a `CurveOf` of the group -> its points.
        sanity: sanity checks, of the group that makes them.
        seconds: seconds that measuring took.
    """

    scores: dict[str, Floats] = field(default_factory=dict)
    curves: dict[str, Points] = field(default_factory=dict)
    sanity: Sanity | None = None
    seconds: float = 0.0


class Variants(NamedTuple):
    """Several ways to score the same: better or worse is said only where all that were measured agree."""

    metrics: tuple[str, ...]
    """Metrics that score it, the main one first."""
    what: str
    """Difference between them, in words."""


def needs_a_map(asked: Asked) -> str | None:
    """Return why a row is left out that has no map: that goes without saying; None where it has one."""
    return "" if asked.attributions.maps is None else None


@dataclass(frozen=True)
class Group:
    """Metrics that are measured together.

    Attributes:
        name: name that stands for all of its metrics in `metrics=` of a configuration.
        question: question that its metrics answer.
        metrics: metrics in the order of the tables.
        measure: function that measures one row of the tables, for one model; None where it is measured of all rows
            together, or of the model alone.
        why_not: function that returns why a row cannot be measured, None where it can, "" where that goes without
            saying.
        curves: curves that are measured beside the scores.
        variants: metrics that are ways to score the same.
        main: metrics that a verdict may rest on: the first choice of which something was measured.
        by_default: whether it is measured unless it is named.
        figures: figures that it gives of the model alone, in the place of scores.
    """

    name: str
    question: Question
    metrics: tuple[Metric, ...]
    measure: Callable[[Asked], Measured] | None = None
    why_not: Callable[[Asked], str | None] = needs_a_map
    curves: tuple[CurveOf, ...] = ()
    variants: Variants | None = None
    main: tuple[tuple[str, ...], ...] = ()
    by_default: bool = True
    figures: tuple[FigureOf, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of its metrics."""
        return [metric.name for metric in self.metrics]

    @property
    def by_painting(self) -> bool:
        """Whether it is measured of every painting of a model's own map."""
        return any(metric.by_painting for metric in self.metrics)

    @property
    def validated(self) -> bool:
        """Whether a threshold of it is chosen on the validation split."""
        return any(metric.validated for metric in self.metrics)
