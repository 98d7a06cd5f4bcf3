"""The five figures on a model's own account that tell most, each with a verdict by a stated criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ibd.comparison.report.names import CHECKS
from ibd.comparison.report.numbers import digits_for, listed, number, percent
from ibd.comparison.report.side_tables import SanityRow
from ibd.comparison.report.tables import Table
from ibd.comparison.results import Comparison, ModelInfo

Told = Literal["good", "bad", "cannot be told"]
Value = Callable[[Mapping[str, float], float], float | None]
"""(figures of a model, accuracy by chance) -> what is judged; None where that is not known."""
_MOST = 5


@dataclass(frozen=True)
class Judge:
    """How a figure is judged.

    Attributes:
        title: what is asked, in a few words.
        value: what is judged.
        good: from where on it is good: above `bad` if more is better, else below.
        bad: from where on it is bad; what lies between cannot be told.
        sentences: what it comes to, for "good", "bad" and "cannot be told".
        measure: what the value is, for the criterion.
        shown: how the value is written.
    """

    title: str
    value: Value
    good: float
    bad: float
    sentences: dict[Told, str]
    measure: str
    shown: Callable[[float], str] = lambda value: number(value, digits_for([value]))

    def told(self, value: float) -> Told:
        """Return what a value comes to."""
        sign = 1 if self.good > self.bad else -1
        if sign * value >= sign * self.good:
            return "good"
        return "bad" if sign * value <= sign * self.bad else "cannot be told"

    @property
    def criterion(self) -> str:
        """The criterion in words."""
        more, less = ("or more", "or less") if self.good > self.bad else ("or less", "or more")
        ends = f"good at {self.shown(self.good)} {more}, bad at {self.shown(self.bad)} {less}"
        return f"{self.measure}: {ends}; between them it cannot be told"


@dataclass(frozen=True)
class Judged:
    """A figure with its verdict: what is asked, what it comes to in a sentence, its value, and the criterion."""

    title: str
    told: Told
    sentence: str
    value: str
    criterion: str


def judged_figures(comparison: Comparison, table: Table, own: SanityRow | None) -> list[Judged]:
    """Return up to five figures on a family's own account, those that tell most first.

    Args:
        comparison: comparison of explanations.
        table: scores of the family.
        own: sanity checks of its own map; None where there were none.
    """
    accounts = comparison.self_consistency
    figures = [_of_units(model, accounts[model.name].figures) for model in table.models if model.name in accounts]
    chance = max([1 / max(len(comparison.class_names), 1), *(model.majority for model in table.models)])
    found = []
    for judge in _JUDGES:
        values = [judge.value(each, chance) for each in figures]
        known = [value for value in values if value is not None and value == value]
        if known:
            found.append(_judged(judge, known))
    checked = _sanity(own, int(comparison.settings.get("probe_images", 0))) if own is not None else None
    if checked:
        found.insert(min(len(found), _MOST - 1), checked)
    return found[:_MOST]


def _of_units(model: ModelInfo, figures: Mapping[str, float]) -> Mapping[str, float]:
    """Return the figures of a model without what is said of names where its units, prototypes, are shown, not named."""
    named = model.unit_kind != "prototype"
    return {name: value for name, value in figures.items() if named or name != "named_share"}


def _judged(judge: Judge, values: list[float]) -> Judged:
    """Return the verdict that all trainings share; without one it cannot be told."""
    told = {judge.told(value) for value in values}
    outcome: Told = told.pop() if len(told) == 1 else "cannot be told"
    criterion = judge.criterion + (", as where trainings differ" if len(values) > 1 else "")
    return Judged(
        judge.title,
        outcome,
        judge.sentences[outcome],
        judge.shown(sum(values) / len(values)),
        criterion,
    )


def _sanity(row: SanityRow, images: int) -> Judged | None:
    passed, asked = row.passed
    if not asked:
        return None
    title, value = "Does its map depend on the model?", f"{passed} of {asked}"
    by: dict[str, list[str]] = {"fail": [], "mixed": []}
    for name, cell in row.cells.items():
        if cell.outcome in by:
            by[cell.outcome].append((CHECKS[name][0] if name in CHECKS else name).lower())
    if by["fail"] and images >= _PROBES:
        return Judged(title, "bad", f"Its own map does not pass: {listed(by['fail'])}.", value, _SANITY)
    if by["fail"] or by["mixed"]:
        where = "on these few images" if by["fail"] else "in some trainings"
        sentence = f"Its own map does not pass, {where}: {listed(by['fail'] or by['mixed'])}."
        return Judged(title, "cannot be told", sentence, value, _SANITY)
    return Judged(title, "good", "Its own map changes with the model, the class and the image.", value, _SANITY)


_PROBES = 8
_SANITY = (
    f"Sanity checks passed in all trainings: good if all, bad if one is passed in none, on {_PROBES} images or more; "
    "else it cannot be told"
)


def _figure(name: str) -> Value:
    return lambda figures, _: figures.get(name)


def _locality(figures: Mapping[str, float], _: float) -> float | None:
    """Return the locality of units that are named after parts; of prototypes, what they frame says more."""
    return None if "prototype_alignment" in figures else figures.get("locality")


def _bypass(figures: Mapping[str, float], chance: float) -> float | None:
    """Return the share of the accuracy above chance that is left without the units that have a name."""
    whole, without = figures.get("accuracy_whole"), figures.get("accuracy_without_named")
    if whole is None or without is None or not whole > chance:
        return None
    return max(0.0, without - chance) / (whole - chance)


def _handle(figures: Mapping[str, float], _: float) -> float | None:
    """Return how far setting a concept does what drawing it does, from what doing nothing does, 0, to the same, 1."""
    same, still = (figures.get(f"intervention_consistency{end}") for end in ("", "_unchanged"))
    return None if same is None or still is None or not still < 1 else (same - still) / (1 - still)


_JUDGES = (
    Judge(
        "Do its units see their own part?", _locality, 0.8, 0.6,
        {
            "good": "A unit changes when its own part is drawn anew, and hardly when another one is.",
            "bad": "A unit changes nearly as much when another part is drawn anew as when its own is.",
            "cannot be told": "A unit changes more with its own part than with others, but with these, too.",
        },
        "Locality, 1 for its own part alone, 0.5 for others as much",
    ),
    Judge(
        "Do its prototypes see what they frame?", _figure("prototype_alignment"), 0.8, 0.6,
        {
            "good": "A prototype changes with the part that it frames, and hardly with others.",
            "bad": "A prototype changes nearly as much with parts outside of its frame as with the one inside.",
            "cannot be told": "A prototype changes most with the part that it frames, but with others, too.",
        },
        "Change inside of the frame, of that inside and outside",
    ),
    Judge(
        "Does anything pass the names by?", _bypass, 0.05, 0.2,
        {
            "good": "Without the units that have a name, the model knows next to nothing of the class.",
            "bad": "Without the units that have a name, the model still knows the class: it does not rest on them.",
            "cannot be told": "Without the units that have a name, the model may still know something of the class.",
        },
        "Accuracy above chance that is left when all units with a name are at their mean, of the whole", percent,
    ),
    Judge(
        "Do classes rest on what concepts say?", _figure("leakage_gap"), 0.02, 0.05,
        {
            "good": "Concepts rounded to true and false classify as well: nothing hides in their shades.",
            "bad": "Concepts rounded to true and false classify worse: shades of them say what their names do not.",
            "cannot be told": "Concepts rounded to true and false classify a little worse.",
        },
        "Accuracy lost by rounding", percent,
    ),
    Judge(
        "Is a concept a handle on the picture?", _handle, 0.6, 0.2,
        {
            "good": "Setting a concept does what drawing the part accordingly does.",
            "bad": "Setting a concept does not do what drawing the part accordingly does.",
            "cannot be told": "Setting a concept does some of what drawing the part accordingly does.",
        },
        "Likeness of both, 0 for a bottleneck that ignores what is set, 1 for the same",
    ),
    Judge(
        "Do its prototypes stay where they look?", _figure("prototype_location_change"), 0.1, 0.3,
        {
            "good": "The frame of a prototype stays when a part outside of it is drawn anew.",
            "bad": "The frame of a prototype jumps when a part outside of it is drawn anew.",
            "cannot be told": "The frame of a prototype sometimes jumps when a part outside of it is drawn anew.",
        },
        "Mean change of the frame, 1 - IoU",
    ),
    Judge(
        "Does a prototype mean one part?", _figure("consistency"), 0.8, 0.5,
        {
            "good": "Most prototypes lie on the same part in nearly all images of their class.",
            "bad": "At least half of the prototypes lie now on this part, now on that.",
            "cannot be told": "Some prototypes lie on the same part in nearly all images of their class, some not.",
        },
        "Prototypes that lie on one part in 80 % of the images", percent,
    ),
    Judge(
        "Do units with a name carry the class?", _figure("named_share"), 0.9, 0.5,
        {
            "good": "The prediction is made of units that have a name.",
            "bad": "The prediction is made of units that nobody named.",
            "cannot be told": "The prediction is made of units with and without a name.",
        },
        "Share of a prediction that units with a name carry", percent,
    ),
    Judge(
        "Does its account leave nothing out?", _figure("completeness_error"), 1e-3, 1e-2,
        {
            "good": "What its units add makes up the logit, up to rounding.",
            "bad": "What its units add does not make up the logit.",
            "cannot be told": "What its units add makes up the logit nearly.",
        },
        "Largest difference from the logit",
    ),
    Judge(
        "Can a person read its account?", _figure("units_for_90"), 10, 30,
        {
            "good": "A few units make up nearly all of what speaks for and against a class.",
            "bad": "It takes many units to make up what speaks for and against a class.",
            "cannot be told": "It takes more units than a glance sees to make up what speaks for a class.",
        },
        "Units that make up 90 %", lambda value: number(value, 0),
    ),
)  # fmt: skip
