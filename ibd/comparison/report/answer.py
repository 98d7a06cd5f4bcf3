"""What a report opens with: a sentence on a family's own map beside the best post-hoc one, and a picture of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ibd.comparison.groups import VARIANTS
from ibd.comparison.report import names
from ibd.comparison.report.differences import LEAST_IMAGES
from ibd.comparison.report.numbers import digits_for, listed, number
from ibd.comparison.report.outcomes import Verdict
from ibd.comparison.report.pictures import Picture, map_picture, outlined, picture
from ibd.comparison.report.ranking import ranking
from ibd.comparison.report.tables import Table, higher_is_better, metric_title, question_of, reference_of
from ibd.comparison.report.verdict import intrinsic_of
from ibd.comparison.report.wording import amount, because, chance_of, finding
from ibd.comparison.results import Comparison, ShownImage

_SIDE = 384
_QUESTIONS = ("Faithfulness", "Parts")
_NOTHING = "Nothing was measured that tells which explanation is better."


@dataclass(frozen=True)
class AnswerTile:
    """A picture of the answer, its title, and its score in words, "" where it has none."""

    title: str
    picture: Picture
    score: str


@dataclass(frozen=True)
class Answer:
    """One sentence, one picture in tiles, and a line on which image it is."""

    sentence: str
    tiles: list[AnswerTile]
    caption: str


def make_answer(comparison: Comparison, table: Table, verdicts: list[Verdict], metrics: list[str]) -> Answer:
    """Return what the report opens with for a family.

    Args:
        comparison: comparison of explanations.
        table: scores of the family.
        verdicts: verdicts on the family.
        metrics: metrics that the verdict rests on, the first one first.
    """
    own = intrinsic_of(comparison, table.family)
    best = {metric: name for metric in metrics if (name := best_of(table, metric)) is not None}
    against = [v for metric in metrics for v in verdicts if v.metric == metric and v.other == best.get(metric)]
    sentence = _sentence(comparison, table, verdicts, against, metrics)
    drawn = _typical(comparison, table, own, best.get(metrics[0]), metrics[0]) if metrics else None
    if drawn is None:
        return Answer(sentence, [], "")
    tiles = _tiles(comparison, table, drawn, [name for name in (own, best.get(metrics[0])) if name], metrics[0])
    return Answer(sentence, tiles, _caption(table, drawn, own))


def best_of(table: Table, metric: str) -> str | None:
    """Return the post-hoc explainer with the best mean under a metric; None where there is none."""
    sign = -1 if higher_is_better(metric) is False else 1
    means = {
        row.explainer.name: sign * row.cells[metric].interval.mean
        for row in table.rows
        if row.explainer.kind == "posthoc" and metric in row.cells
    }
    return max(means, key=lambda name: means[name]) if means and higher_is_better(metric) is not None else None


def _sentence(
    comparison: Comparison, table: Table, verdicts: list[Verdict], against: list[Verdict], metrics: list[str]
) -> str:
    """Return one sentence, or two short ones."""
    if chance := chance_of(comparison, table):
        return chance
    if intrinsic_of(comparison, table.family) is None:
        return " ".join(filter(None, ranking(comparison, table, metrics[0]))) if metrics else _NOTHING
    owner = f"the {table.title}'s own map"
    if not metrics:
        return _NOTHING
    does = _does(metrics[0])
    if against and all(verdict.reason == "images" for verdict in against):
        images = max(verdict.images for verdict in against)
        text = f"Whether {owner} {does} cannot be told from {images} image{'s' * (images != 1)}"
        return f"{text}: at least {LEAST_IMAGES} are needed."
    asked = [verdict.metric for verdict in against] or [v.metric for v in verdicts if v.metric in metrics]
    above = _above_noise(comparison, verdicts, asked)
    text = _said(owner, does, against, above) if against else _alone(owner, does, above)
    return names.capital(f"in one training, {text}" if len(table.models) == 1 else text)


def _does(metric: str) -> str:
    """Return what a map does that scores well under a metric."""
    return "points to what the model uses" if question_of(metric) in _QUESTIONS else finding(metric).does


def _said(owner: str, does: str, against: list[Verdict], above: bool | None) -> str:
    """Return the sentence, without its capital letter.

    Args:
        owner: whose map it is.
        does: what is asked of it.
        against: verdicts against the best post-hoc explainer, by the metrics that the answer rests on.
        above: whether the own map is better than noise by all of these, or by none; None where that is not known.
    """
    first, rival = against[0], _rival(against)
    outcomes = {verdict.outcome for verdict in against}
    how = {"better": "better than", "worse": "less well than"}.get(first.outcome) if len(outcomes) == 1 else None
    beside = {"worse": "does better", "no clear difference": "shows no clear difference from it"}.get(first.outcome)
    if above is False and beside is not None and len(outcomes) == 1:
        lead = f"{owner} {does} no better than noise, as far as these images show"
        return f"{lead}; {rival}, {beside}: {_amounts(against)}."
    if how is not None:
        link = {True: {"better": ", and ", "worse": ", but "}[first.outcome], None: " "}.get(above, " ")
        return f"{owner} {does}{link}{how} {rival}: {_amounts(against)}."
    if above:
        return f"{owner} {does}. Whether better or worse than {rival}, cannot be told: {_why(against)}."
    return f"it cannot be told whether {owner} {does} better or worse than {rival}. {names.capital(_why(against))}."


def _alone(owner: str, does: str, above: bool | None) -> str:
    """Return the sentence where no post-hoc explainer was measured, without its capital letter."""
    if above is None:
        return (
            f"it cannot be told whether {owner} {does}: neither noise nor a post-hoc explainer was measured beside it."
        )
    how = "better than noise" if above else "no better than noise, as far as these images show"
    return f"{owner} {does} {how}. No post-hoc explainer was measured beside it."


def _rival(against: list[Verdict]) -> str:
    """Return the best post-hoc explainer, or that of each metric where these are several."""
    if len({verdict.other for verdict in against}) == 1:
        return f"the best post-hoc explainer here, {names.explainer_title(against[0].other)}"
    each = (f"{names.explainer_title(verdict.other)} by {metric_title(verdict.metric)}" for verdict in against)
    return f"the best post-hoc explainer here, {listed(each)}"


def _why(against: list[Verdict]) -> str:
    """Return why nothing can be told, without a capital letter."""
    first = against[0]
    if len({verdict.outcome for verdict in against}) > 1:
        return "; ".join(f"by {metric_title(verdict.metric)} {_in_words(verdict)}" for verdict in against)
    if first.outcome == "depends":
        return f"that depends on {VARIANTS[first.metric].what} ({_ways(first)})"
    return f"{_amounts(against)}{because(first)}"


def _ways(verdict: Verdict) -> str:
    """Return by how many ways of scoring an outcome is better, worse or neither; the verdict names them."""
    told = list(verdict.ways.values())
    return ", ".join(f"{outcome} in {told.count(outcome)} of {len(told)} ways" for outcome in dict.fromkeys(told))


def _amounts(against: list[Verdict]) -> str:
    return listed(amount(verdict) for verdict in against)


def _in_words(verdict: Verdict) -> str:
    """Return an outcome, as part of a list."""
    if verdict.outcome == "depends":
        return f"it depends on {VARIANTS[verdict.metric].what}"
    if verdict.outcome == "unknown":
        return f"it is unknown{because(verdict)}"
    return {"better": "it is better", "worse": "it is worse"}.get(verdict.outcome, "there is no clear difference")


def _above_noise(comparison: Comparison, verdicts: list[Verdict], metrics: list[str]) -> bool | None:
    """Return whether the own map is better than noise by all of some metrics, or by none; None else."""
    noise = reference_of(comparison, "reference")
    found = [v.outcome for v in verdicts if v.metric in metrics and v.other == noise]
    told = {{"better": True, "worse": False, "no clear difference": False}.get(outcome) for outcome in found}
    return told.pop() if len(told) == 1 and len(found) == len(set(metrics)) else None


def _typical(comparison: Comparison, table: Table, own: str | None, best: str | None, metric: str) -> ShownImage | None:
    """Return the shown image whose difference of the two maps, or score of the one, is nearest to the mean."""
    model, wanted = table.models[0].name, [name for name in (own, best) if name]
    shown = [image for image in comparison.shown if wanted and set(wanted) <= set(image.maps.get(model, {}))]
    values = [comparison.scores.get((model, name, metric)) for name in wanted]
    if not shown or any(each is None or len(each) != len(comparison.image_ids) for each in values):
        return None
    known = [each for each in values if each is not None]
    gap = known[0] - known[-1] if len(known) > 1 else known[0]
    mean = float(np.nanmean(gap)) if np.isfinite(gap).any() else 0.0
    shown = [image for image in shown if np.isfinite(gap[image.position])]
    return min(shown, key=lambda image: abs(float(gap[image.position]) - mean), default=None)


def _tiles(
    comparison: Comparison, table: Table, image: ShownImage, explainers: list[str], metric: str
) -> list[AnswerTile]:
    model = table.models[0].name
    maps, predicted = image.maps[model], image.predicted.get(model, "")
    seen = image.image if image.masks is None else outlined(image.image, image.masks)
    what = f"an image of {image.label}" + ("" if image.masks is None else " with the outlines of its parts")
    tiles = [AnswerTile("The image" + ("" if image.masks is None else ", its parts"), picture(seen, what, _SIDE), "")]
    truth = reference_of(comparison, "oracle")
    if truth in maps:
        alt = f"what truly drives the prediction {predicted}: for it in red, against it in blue"
        drawn = picture(map_picture(image.image, maps[truth]), alt, _SIDE)
        tiles.append(AnswerTile("The truth", drawn, "what drives the prediction"))
    for name in explainers:
        kind = next(explainer.kind for explainer in comparison.explainers if explainer.name == name)
        called = names.explainer_title(name)
        title = "The model's own map" if kind == "intrinsic" else f"The best post-hoc map, {called}"
        alt = f"{title}: what speaks for {predicted} in red, against it in blue"
        value = float(comparison.scores[model, name, metric][image.position])
        score = f"{finding(metric).score.removeprefix('the ')} {number(value, digits_for([value]))}"
        tiles.append(AnswerTile(title, picture(map_picture(image.image, maps[name]), alt, _SIDE), score))
    return tiles


def _caption(table: Table, image: ShownImage, own: str | None) -> str:
    predicted = image.predicted.get(table.models[0].name, "")
    right = "rightly" if predicted == image.label else f"wrongly: it is {image.label}"
    why = "in which the two maps differ as much as they do on average" if own else "whose score is nearest to the mean"
    return f"Of the images drawn, the one {why}; the model takes it for {predicted}, {right}."
