"""What there is to say of a model without an account of its own: which explainer is best, and which beat noise."""

from __future__ import annotations

from torch import Tensor

from ibd.comparison.report import names
from ibd.comparison.report.differences import LEAST_IMAGES, Difference, differences, many_intervals
from ibd.comparison.report.numbers import digits_for, listed, number, span
from ibd.comparison.report.outcomes import outcome_of
from ibd.comparison.report.tables import Table, family_values, higher_is_better, metric_title, reference_of
from ibd.comparison.report.wording import chance_of
from ibd.comparison.results import Comparison


def ranking(comparison: Comparison, table: Table, metric: str) -> tuple[str, str]:
    """Return the best explainer of a family under a metric, beside the others, and which are better than noise.

    The best one is picked by its scores, so that its leads are corrected (Holm) for all pairs there are.

    Returns:
        Two sentences or more; the second is empty where there is no noise to compare with.
    """
    if chance := chance_of(comparison, table):
        return chance, ""
    higher = higher_is_better(metric)
    scores = _scores(comparison, table, metric)
    if not scores:
        return f"No explainer of the {table.title} was measured by {metric_title(metric)}.", ""
    if higher is None:
        return f"{metric_title(metric)} does not say which explainer is better.", ""
    titles = list(scores)
    intervals = dict(zip(titles, many_intervals(list(scores.values())), strict=True))
    order = sorted(titles, key=lambda title: intervals[title].mean, reverse=higher)
    best, others = order[0], order[1:]
    interval = intervals[best]
    digits = digits_for([interval.mean])
    between = span(interval.low, interval.high, digits)
    lead = f"By {metric_title(metric)}, {best} {'is best with' if others else 'scores'} {number(interval.mean, digits)}"
    lead += f" {between}" if between else ""
    pairs = len(titles) * (len(titles) - 1) // 2
    told = differences([(scores[best], scores[other]) for other in others], ["best"] * len(others), {"best": pairs})
    return f"{lead}{_beside(others, told, higher)}.", _over_noise(comparison, table, metric, scores, higher)


def _scores(comparison: Comparison, table: Table, metric: str) -> dict[str, Tensor]:
    """Return title -> (M, N) scores of the explainers that were measured."""
    return {
        names.explainer_title(explainer.name): values
        for explainer in comparison.explainers
        if explainer.kind == "posthoc"
        and (values := family_values(comparison, table.models, explainer.name, metric)) is not None
    }


def _beside(others: list[str], told: list[Difference], higher: bool) -> str:
    if not others:
        return ""
    if not any(difference.enough for difference in told):
        return f"; {LEAST_IMAGES} images or more are needed to say how far ahead"
    clear = [other for other, one in zip(others, told, strict=True) if outcome_of(one, higher, False)[0] == "better"]
    same = [other for other in others if other not in clear]
    words = [f"ahead of {listed(clear)}"] if clear else []
    words += [f"without a clear difference from {listed(same)}"] if same else []
    return ", " + ", and ".join(words)


def _over_noise(comparison: Comparison, table: Table, metric: str, scores: dict[str, Tensor], higher: bool) -> str:
    """Return which explainers are better than noise."""
    reference = reference_of(comparison, "reference")
    noise = family_values(comparison, table.models, reference, metric) if reference else None
    alike = {title: values for title, values in scores.items() if noise is not None and values.shape == noise.shape}
    if noise is None or not alike:
        return ""
    told = differences([(values, noise) for values in alike.values()], ["noise"] * len(alike))
    above = [t for t, one in zip(alike, told, strict=True) if outcome_of(one, higher, False)[0] == "better"]
    rest = [title for title in alike if title not in above]
    if not rest:
        return "All of them are better than noise." if len(above) > 1 else "It is better than noise."
    if not above:
        return "None is clearly better than noise."
    return f"Better than noise: {listed(above)}; not clearly: {listed(rest)}."
