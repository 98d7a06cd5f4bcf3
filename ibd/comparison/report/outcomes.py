"""What a comparison of two explanations comes to, and what keeps it from coming to anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ibd.comparison.groups import VARIANTS
from ibd.comparison.report.differences import LEVEL, Difference
from ibd.comparison.results import Comparison, ModelInfo
from ibd.metrics.functional.bootstrap import Interval
from ibd.metrics.functional.student import at_least

Outcome = Literal["better", "worse", "no clear difference", "depends", "unknown"]
Reason = Literal["", "chance", "images", "noise", "small", "many"]
"""Why no more is said: a network at chance; too few images; neither, or not the better one, is better than noise; a
difference that is too small to matter; one that the number of comparisons explains."""


@dataclass(frozen=True)
class Verdict:
    """The intrinsic explanation of a family against another one, under one metric.

    Attributes:
        family: family of the models.
        metric: name of the metric.
        intrinsic: name of the intrinsic explainer.
        other: name of the other one.
        kind: kind of the other one.
        interval: interval of the intrinsic score minus other, paired over models and images, by itself.
        p: p value of no difference; corrected (Holm) for all explainers compared under the metric. Reference maps and
            the oracle stand alone.
        compared: number of comparisons that `p` is corrected for.
        images: number of images for which both have a score.
        outcome: outcome for the intrinsic explainer. "depends": the ways of scoring a part do not agree; "unknown": it
            cannot be told, or neither direction is better.
        reason: reason for which no difference is stated, where the interval alone does not say so.
        other_above_noise: whether the other one is better than noise; None where that is not asked.
        ways: metric -> outcome of the metrics that must agree; empty where there is one alone.
        sentence: sentence that says all that.
        short: same sentence under a headline that says what is compared.
    """

    family: str
    metric: str
    intrinsic: str
    other: str
    kind: str
    interval: Interval
    p: float
    compared: int
    images: int
    outcome: Outcome
    reason: Reason
    other_above_noise: bool | None
    ways: dict[str, Outcome]
    sentence: str = ""
    short: str = ""


def at_chance(comparison: Comparison, models: Sequence[ModelInfo]) -> list[ModelInfo]:
    """Return the models whose accuracy is not above chance, or not above naming the most frequent class every time.

    One-sided binomial test at 5 % over the images of the split; a model of which their number is unknown is not tested.
    """
    classes = len(comparison.class_names)
    if classes < 2:
        return []
    return [
        model
        for model in models
        if model.images > 0
        and at_least(round(model.accuracy * model.images), model.images, max(1 / classes, model.majority)) >= LEVEL
    ]


def outcome_of(difference: Difference, higher: bool | None, chance: bool) -> tuple[Outcome, Reason]:
    """Return what a difference comes to by itself, for the first of the two.

    Args:
        difference: mean of one minus other.
        higher: whether higher values are better; None where neither is.
        chance: whether a network is at chance.
    """
    if higher is None or difference.p != difference.p:
        return "unknown", "" if higher is None or difference.enough else "images"
    if chance or not difference.enough:
        return "unknown", "chance" if chance else "images"
    if difference.apart:
        return "better" if (difference.interval.mean > 0) == higher else "worse", ""
    reason: Reason = "small" if difference.p < LEVEL else "many" if difference.interval.excludes_zero else ""
    return "no clear difference", reason


def beside_noise(verdict: Verdict, above: bool | None) -> Verdict:
    """Return a verdict that calls nothing better which is itself no better than noise.

    Args:
        verdict: verdict against an explainer.
        above: whether the intrinsic explanation is better than noise; None where that is not asked.
    """
    winner = {"better": above, "worse": verdict.other_above_noise}.get(verdict.outcome)
    return replace(verdict, outcome="no clear difference", reason="noise") if winner is False else verdict


def settled(verdicts: list[Verdict]) -> list[Verdict]:
    """Return verdicts of which those under a metric with variants say only what all of them say."""
    outcomes = {(verdict.metric, verdict.other): verdict.outcome for verdict in verdicts}
    settled = []
    for verdict in verdicts:
        variants = VARIANTS[verdict.metric].metrics if verdict.metric in VARIANTS else ()
        ways = {name: told for name in variants if (told := outcomes.get((name, verdict.other)))}
        if len(ways) > 1:
            agree = len(set(ways.values())) == 1
            verdict = replace(verdict, ways=ways, outcome=verdict.outcome if agree else "depends")
        settled.append(verdict)
    return settled
