"""Verdicts in words."""

from __future__ import annotations

from ibd.comparison.groups import METRICS, VARIANTS
from ibd.comparison.groups.record import Finding
from ibd.comparison.report import names
from ibd.comparison.report.differences import LEAST_IMAGES
from ibd.comparison.report.names import called
from ibd.comparison.report.numbers import digits_for, listed, number, percent, span
from ibd.comparison.report.outcomes import Outcome, Verdict, at_chance
from ibd.comparison.report.tables import REAL, Table, metric_title, reference_of
from ibd.comparison.results import Comparison

_DIGITS = 5
_WORDS: dict[Outcome, str] = {"better": "better than", "worse": "less well than"}
_TOLD: dict[Outcome, str] = {"better": "better", "worse": "worse", "no clear difference": "no clear difference"}
_NOTHING = "Explanations of a network at chance mean nothing"


def headline(comparison: Comparison, table: Table, verdicts: list[Verdict], metric: str) -> str:
    """Return one sentence on a family: what its own map is worth under a metric, doubts about the question first."""
    if chance := chance_of(comparison, table):
        return chance
    does, owner = finding(metric)[0], f"the {table.title}'s own map"
    against = [verdict for verdict in verdicts if verdict.metric == metric and verdict.kind in REAL]
    if against and all(verdict.reason == "images" for verdict in against):
        images = max(verdict.images for verdict in against)
        some = f"{images} image is" if images == 1 else f"{images} images are"
        return f"{some} too few to tell how well {owner} {does}: at least {LEAST_IMAGES} are needed."
    noise = next((v for v in verdicts if v.metric == metric and v.other == reference_of(comparison, "reference")), None)
    parts = [*_beside_noise(noise), *(part for way in ("better", "worse") if (part := _ahead(against, way)))]
    rest = [*_unsettled(noise, against, metric), *_too_few(against)]
    text = _sentence(owner, does, parts, listed(_titles(against, "no clear difference")), rest)
    return names.capital(f"in one training, {text}" if len(table.models) == 1 else text)


def sentences(verdict: Verdict) -> tuple[str, str]:
    """Return a verdict in words, on its own and under a headline."""
    title, who = names.family_title(verdict.family), called(verdict.other)
    does = finding(verdict.metric).does
    owner = f"the {title}'s own map"
    if verdict.outcome == "unknown":
        text = f"better or worse than {who} is unknown{because(verdict)}."
        return f"Whether {owner} {does} {text}", f"Whether it does {text}"
    if verdict.outcome == "depends":
        ways = "; ".join(f"{_TOLD.get(told, told)} by {metric_title(name)}" for name, told in verdict.ways.items())
        text = f"better or worse than {who} depends on {VARIANTS[verdict.metric].what}: {ways}."
        return f"Whether {owner} {does} {text}", f"Whether it does {text}"
    if verdict.outcome == "no clear difference":
        text = f"{who}: {amount(verdict)}{because(verdict)}."
        return (
            f"In how well {owner} {does}, it shows no clear difference from {text}",
            f"No clear difference from {text}",
        )
    text = f"{_WORDS[verdict.outcome]} {who}: {amount(verdict)}."
    return names.capital(f"{owner} {does} {text}"), names.capital(text)


def finding(metric: str) -> Finding:
    """Return what an explanation that scores well under a metric does, and what the score is called."""
    title = metric_title(metric)
    known = METRICS.get(metric)
    return known.finding if known and known.finding else Finding(f"scores in {title}", title)


def chance_of(comparison: Comparison, table: Table) -> str:
    """Return what there is to say of networks at chance; empty where none is."""
    models = at_chance(comparison, table.models)
    if not models:
        return ""
    classes, shares = len(comparison.class_names), listed(percent(model.accuracy) for model in models)
    most = max(model.majority for model in models)
    likely = f"chance with {classes} classes"
    if most > 1.5 / classes:
        likely = f"naming the most frequent class every time, which is right for {percent(most)}"
    if len(table.models) == 1:
        images = f"{shares} of {models[0].images} images"
        return f"{_NOTHING}: the {table.title} classifies {images} correctly, no more than {likely}."
    which = f"{len(models)} of the {len(table.models)} trainings of the {table.title}"
    verb = "classifies" if len(models) == 1 else "classify"
    return f"{_NOTHING}: {which} {verb} no more images correctly than {likely} ({shares})."


def _beside_noise(noise: Verdict | None) -> list[str]:
    """Return what to say first where an own map is not better than noise."""
    words: dict[Outcome, str] = {
        "no clear difference": "no better than noise, as far as these images show",
        "worse": "less well than noise",
    }
    return [words[noise.outcome]] if noise and noise.outcome in words else []


def _ahead(against: list[Verdict], outcome: str) -> str:
    """Return "better than A, and than B, which shows no clear difference from noise"; empty where nothing is ahead."""
    some = [verdict for verdict in against if verdict.outcome == outcome]
    good = [called(verdict.other) for verdict in some if verdict.other_above_noise is not False]
    poor = [called(verdict.other) for verdict in some if verdict.other_above_noise is False]
    said = [listed(good)] if good else []
    if poor:
        said.append(f"{listed(poor)}, which {'shows' if len(poor) == 1 else 'show'} no clear difference from noise")
    words = "better than" if outcome == "better" else "less well than"
    return f"{words} {', and than '.join(said)}" if said else ""


def _unsettled(noise: Verdict | None, against: list[Verdict], metric: str) -> list[str]:
    """Return what to say of that in which the ways of scoring do not agree."""
    who = [*(["noise"] if noise and noise.outcome == "depends" else []), *_titles(against, "depends")]
    return [f"whether it does better or worse than {listed(who)} depends on {VARIANTS[metric].what}"] if who else []


def _too_few(against: list[Verdict]) -> list[str]:
    who = [called(verdict.other) for verdict in against if verdict.reason == "images"]
    return [f"too few images have a score for a comparison with {listed(who)}"] if who else []


def _titles(against: list[Verdict], outcome: Outcome) -> list[str]:
    return [called(verdict.other) for verdict in against if verdict.outcome == outcome]


def _sentence(owner: str, does: str, parts: list[str], same: str, rest: list[str]) -> str:
    """Return the parts of a headline as a sentence, without its capital letter."""
    if parts:
        told = [f"{owner} {does} {'; '.join(parts)}", *([f"it shows no clear difference from {same}"] if same else [])]
    elif same:
        told = [f"in how well {owner} {does}, it shows no clear difference from {same}"]
    elif rest:
        told = [f"how well {owner} {does} remains open"]
    else:
        return f"whether {owner} {does} better or worse than another is unknown."
    return f"{'; '.join([*told, *rest])}."


def amount(verdict: Verdict) -> str:
    """Return what is measured, and how far it is higher or lower, with its interval."""
    score = finding(verdict.metric).score
    if verdict.outcome in _WORDS:
        return f"{score} {_by(verdict)}"
    digits = digits_for([verdict.interval.low, verdict.interval.high])
    ends = span(verdict.interval.low, verdict.interval.high, digits)
    return f"{score} differs by {number(verdict.interval.mean, digits)} {ends}"


def because(verdict: Verdict) -> str:
    """Return why no more is said, as the end of a sentence; empty where the interval says it."""
    images = f"{verdict.images} image" + ("" if verdict.images == 1 else "s")
    return {
        "": "",
        "chance": ": a network is at chance",
        "images": f": {images} with a score, at least {LEAST_IMAGES} are needed",
        "noise": "; the better of the two shows no clear difference from noise",
        "small": "; that is too small to matter",
        "many": f"; among {verdict.compared} comparisons, chance explains a difference this large",
    }[verdict.reason]


def _by(verdict: Verdict) -> str:
    """Return how far a score is higher or lower."""
    low, high, mean = verdict.interval.low, verdict.interval.high, verdict.interval.mean
    digits = digits_for([low, high])
    near, far = sorted(abs(end) for end in (low, high))
    while digits < _DIGITS and round(near, digits) == 0:
        digits += 1  # an interval that excludes 0 must not be printed as one that ends there
    return f"{number(abs(mean), digits)} {'higher' if mean > 0 else 'lower'} {span(near, far, digits)}"
