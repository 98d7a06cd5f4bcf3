"""The verdict: is a model's own explanation better than what can be had afterwards, and than nothing?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ibd.comparison.report import names
from ibd.comparison.report.numbers import digits_for, listed, number, span
from ibd.comparison.report.tables import (
    REAL,
    Table,
    families,
    family_values,
    higher_is_better,
    many_intervals,
    metric_title,
    reference_of,
)
from ibd.comparison.results import Comparison
from ibd.metrics.functional.bootstrap import Interval

Outcome = Literal["better", "worse", "no difference", "unknown"]
_DIGITS = 5
_WORDS: dict[str, str] = {"better": "better than", "worse": "less well than"}


@dataclass(frozen=True)
class Verdict:
    """The intrinsic explanation of a family against another one, under one metric.

    Attributes:
        family: of the models.
        metric: name.
        intrinsic: name of the intrinsic explainer.
        other: name of the other one.
        kind: of the other one.
        interval: of intrinsic minus other, paired over models and images.
        outcome: for the intrinsic explainer; "unknown" where fewer than two images can tell, or neither direction is
            better.
        sentence: all that in words.
        short: the same under a headline that says what is compared.
    """

    family: str
    metric: str
    intrinsic: str
    other: str
    kind: str
    interval: Interval
    outcome: Outcome
    sentence: str
    short: str


def main_metrics(comparison: Comparison) -> list[str]:
    """Return what the verdict rests on: part importance where images can be drawn anew, else deletion and insertion."""
    intrinsic = [each.name for each in comparison.explainers if each.kind == "intrinsic"]
    measured = {key[2] for key in comparison.scores if key[1] in intrinsic} & set(comparison.metrics)
    wanted = comparison.settings.get("main_metric")
    for choice in ([wanted], ["part_spearman"], ["deletion", "insertion"], ["abpc"]):
        if found := [metric for metric in choice if metric in measured]:
            return found
    return [metric for metric in comparison.metrics if metric in measured and higher_is_better(metric) is not None][:1]


def verdicts(comparison: Comparison, family: str) -> list[Verdict]:
    """Return the verdicts of a family under every metric: against every explainer, the nulls, and the oracle."""
    models = families(comparison)[family]
    own = intrinsic_of(comparison, family)
    if own is None:
        return []
    keys, values = [], []
    for metric in comparison.metrics:
        mine = family_values(comparison, models, own, metric)
        for other in comparison.explainers:
            theirs = family_values(comparison, models, other.name, metric)
            if mine is not None and theirs is not None and other.name != own and mine.shape == theirs.shape:
                keys.append((metric, other))
                values.append(mine - theirs)
    found = []
    for (metric, other), interval in zip(keys, many_intervals(values), strict=True):
        outcome = _outcome(interval, higher_is_better(metric))
        texts = _sentences(family, metric, other.name, interval, outcome)
        found.append(Verdict(family, metric, own, other.name, other.kind, interval, outcome, *texts))
    return found


def from_the_best(found: list[Verdict]) -> list[Verdict]:
    """Return verdicts in order: where the intrinsic explanation is furthest ahead first."""
    return sorted(
        found,
        key=lambda each: -each.interval.mean if higher_is_better(each.metric) is not False else each.interval.mean,
    )


def intrinsic_of(comparison: Comparison, family: str) -> str | None:
    """Return the first intrinsic explainer that was measured on a family; None where there is none."""
    models = {model.name for model in comparison.models if model.family == family}
    there = {key[1] for key in comparison.scores if key[0] in models}
    return next((each.name for each in comparison.explainers if each.kind == "intrinsic" and each.name in there), None)


def headline(table: Table, found: list[Verdict], metric: str) -> str:
    """Return one sentence on a family: which explainers its own map beats under a metric, and which beat it."""
    against = [each for each in found if each.metric == metric and each.kind in REAL]
    does = names.FINDS.get(metric, (f"scores in {metric_title(metric)}", ""))[0]
    who = {
        outcome: listed(names.explainer_title(each.other) for each in against if each.outcome == outcome)
        for outcome in (*_WORDS, "no difference")
    }
    parts = [f"{words} {who[outcome]}" for outcome, words in _WORDS.items() if who[outcome]]
    subject = f"The {table.title}'s own map {does}"
    if not who["no difference"]:
        unknown = f"Whether the {table.title}'s own map {does} better or worse than another cannot be told."
        return f"{subject} {'; '.join(parts)}." if parts else unknown
    same = f"no difference shows from {who['no difference']}."
    if not parts:
        return f"In how well the {table.title}'s own map {does}, {same}"
    return f"{subject} {'; '.join([*parts, same])}"


def standing(comparison: Comparison, table: Table, metric: str) -> str:
    """Return where a family's own map stands between noise and the oracle; empty where that is unknown."""
    own = intrinsic_of(comparison, table.family)
    row = table.row(own) if own else None
    cell = row.cells.get(metric) if row else None
    if cell is None:
        return ""
    digits = digits_for([cell.interval.mean])
    text = f"{metric_title(metric)} of its own map is {number(cell.interval.mean, digits)}"
    between = span(cell.interval.low, cell.interval.high, digits)
    text += f" {between}" if between else ""
    for kind, words in (("null", "{} scores"), ("oracle", "the {} scores")):
        name = reference_of(comparison, kind)
        reference = table.row(name) if name else None
        if reference and name and metric in reference.cells:
            title = names.explainer_title(name).lower()
            text += f"; {words.format(title)} {number(reference.cells[metric].interval.mean, digits)}"
    share = cell.normalised
    if share == share:
        text += f". On the way from noise to the oracle that is {number(100 * share, 0)} %"
    return text + "."


def _outcome(interval: Interval, higher: bool | None) -> Outcome:
    if higher is None or interval.low != interval.low:
        return "unknown"
    if not interval.excludes_zero:
        return "no difference"
    return "better" if (interval.mean > 0) == higher else "worse"


def _sentences(family: str, metric: str, other: str, interval: Interval, outcome: Outcome) -> tuple[str, str]:
    """Return a verdict in words, on its own and under a headline."""
    title, who = names.family_title(family), names.explainer_title(other)
    does, score = names.FINDS.get(metric, (f"scores in {metric_title(metric)}", metric_title(metric)))
    if outcome == "unknown":
        text = f"better or worse than {who} cannot be told."
        return f"Whether the {title}'s own map {does} {text}", f"Whether it does {text}"
    digits = digits_for([interval.low, interval.high])
    if outcome == "no difference":
        ends = span(interval.low, interval.high, digits)
        difference = f"{who}: {score} differs by {number(interval.mean, digits)} {ends}."
        return f"In how well the {title}'s own map {does}, no difference shows from {difference}", (
            f"No difference shows from {difference}"
        )
    near, far = sorted(abs(end) for end in (interval.low, interval.high))
    while digits < _DIGITS and round(near, digits) == 0:
        digits += 1  # an interval that excludes 0 must not be printed as one that ends there
    ends = span(near, far, digits)
    way = "higher" if interval.mean > 0 else "lower"
    text = f"{_WORDS[outcome]} {who}: {score} {number(abs(interval.mean), digits)} {way} {ends}."
    return f"The {title}'s own map {does} {text}", names.capital(text)
