"""The verdict: is a model's own explanation better than what can be had afterwards, and than nothing?"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ibd.comparison.groups import MAIN
from ibd.comparison.report import names
from ibd.comparison.report.differences import differences
from ibd.comparison.report.marks import OVER_NOISE
from ibd.comparison.report.numbers import digits_for, number, span
from ibd.comparison.report.outcomes import Verdict, at_chance, beside_noise, outcome_of, settled
from ibd.comparison.report.tables import (
    REAL,
    Table,
    families,
    family_values,
    higher_is_better,
    metric_title,
    question_of,
    reference_of,
)
from ibd.comparison.report.wording import sentences
from ibd.comparison.results import Comparison, ExplainerInfo, ModelInfo


def main_metrics(comparison: Comparison) -> list[str]:
    """Return what the verdict rests on: part importance where images can be drawn anew, else deletion and insertion."""
    measured = {key[2] for key in comparison.scores if key[1] in _judged(comparison)} & set(comparison.metrics)
    wanted = comparison.settings.get("main_metric")
    for choice in ([wanted], *MAIN):
        if chosen := [metric for metric in choice if metric in measured]:
            return chosen
    return [metric for metric in comparison.metrics if metric in measured and higher_is_better(metric) is not None][:1]


def _judged(comparison: Comparison) -> set[str]:
    """Return the names of the explainers that verdicts are on: the models' own, else all."""
    own = {explainer.name for explainer in comparison.explainers if explainer.kind == "intrinsic"}
    own &= {key[1] for key in comparison.scores}
    return own or {explainer.name for explainer in comparison.explainers if explainer.kind == "posthoc"}


def verdicts(comparison: Comparison, family: str) -> list[Verdict]:
    """Return the verdicts of a family under every metric: against every explainer, the reference maps, and the oracle.

    A difference is stated where it holds after Holm's correction for all explainers that are compared under the metric,
    and where the better one of the two is better than noise. Of networks at chance, and of too few images, none is.
    """
    models = families(comparison)[family]
    own = intrinsic_of(comparison, family)
    if own is None:
        return []
    scores = _Scores(comparison, models)
    keys = [key for metric in comparison.metrics for key in scores.pairs(metric, own)]
    pairs = [(scores[own, metric], scores[other.name, metric]) for metric, other in keys]
    alone = [metric if other.kind in REAL else (metric, other.name) for metric, other in keys]
    chance, above = bool(at_chance(comparison, models)), scores.above_noise(own)
    made = []
    for (metric, other), difference in zip(keys, differences(pairs, alone), strict=True):
        outcome, reason = outcome_of(difference, higher_is_better(metric), chance)
        facts = (difference.interval, difference.p, difference.compared, difference.images, outcome, reason)
        verdict = Verdict(family, metric, own, other.name, other.kind, *facts, above.get((other.name, metric)), {})
        made.append(beside_noise(verdict, above.get((own, metric))) if other.kind in REAL else verdict)
    told = [(one, *sentences(one)) for one in settled(made)]
    return [replace(one, sentence=sentence, short=short) for one, sentence, short in told]


class _Scores:
    """The scores of a family, by explainer and metric, and what can be compared."""

    def __init__(self, comparison: Comparison, models: list[ModelInfo]) -> None:
        self._comparison = comparison
        self._values = {
            (explainer.name, metric): values
            for explainer in comparison.explainers
            for metric in comparison.metrics
            if (values := family_values(comparison, models, explainer.name, metric)) is not None
        }

    def __getitem__(self, key: tuple[str, str]) -> Tensor:
        return self._values[key]

    def pairs(self, metric: str, one: str) -> list[tuple[str, ExplainerInfo]]:
        """Return (metric, other) of the explainers, reference maps included, that one can be compared with."""
        mine = self._values.get((one, metric))
        there = {key: values.shape for key, values in self._values.items()}
        return [
            (metric, explainer)
            for explainer in self._comparison.explainers
            if explainer.name != one and mine is not None and there.get((explainer.name, metric)) == mine.shape
        ]

    def above_noise(self, own: str) -> dict[tuple[str, str], bool]:
        """Return whether each explainer is better than noise, by (name, metric), where noise is what chance scores.

        The own one is compared by itself, the others are corrected for each other.
        """
        noise = reference_of(self._comparison, "reference")
        if noise is None:
            return {}
        asked = [metric for metric in self._comparison.metrics if question_of(metric) in OVER_NOISE]
        keys = [
            (other.name, metric)
            for metric in asked
            for metric, other in self.pairs(metric, noise)
            if other.kind in REAL
        ]
        pairs = [(self[key], self[noise, key[1]]) for key in keys]
        results = differences(pairs, [(metric, name == own) for name, metric in keys])
        return {
            key: outcome_of(difference, higher_is_better(key[1]), chance=False)[0] == "better"
            for key, difference in zip(keys, results, strict=True)
        }


def from_the_best(family_verdicts: list[Verdict]) -> list[Verdict]:
    """Return verdicts in order: where the intrinsic explanation is furthest ahead first."""
    return sorted(
        family_verdicts,
        key=lambda verdict: (
            -verdict.interval.mean if higher_is_better(verdict.metric) is not False else verdict.interval.mean
        ),
    )


def intrinsic_of(comparison: Comparison, family: str) -> str | None:
    """Return the first intrinsic explainer that was measured on a family; None where there is none."""
    models = {model.name for model in comparison.models if model.family == family}
    there = {key[1] for key in comparison.scores if key[0] in models}
    return next(
        (
            explainer.name
            for explainer in comparison.explainers
            if explainer.kind == "intrinsic" and explainer.name in there
        ),
        None,
    )


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
    for kind, words in (("reference", "{} scores"), ("oracle", "the {} scores")):
        name = reference_of(comparison, kind)
        reference = table.row(name) if name else None
        if reference and name and metric in reference.cells:
            title = names.explainer_title(name).lower()
            text += f"; {words.format(title)} {number(reference.cells[metric].interval.mean, digits)}"
    share = cell.normalized
    if share == share:
        text += f". On the way from noise to the oracle that is {number(100 * share, 0)} %"
    return text + "."
