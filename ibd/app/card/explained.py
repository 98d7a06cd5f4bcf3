"""What a card says of explanations: what the model's own account is worth, and where explanations fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ibd.app.card.blocks import Absent, Block, Grid, Stale, Words
from ibd.app.card.pieces import cut, number, spread
from ibd.app.card.reading import CardRun
from ibd.app.card.report import ReportOf, of_model
from ibd.comparison.groups import FIGURES
from ibd.comparison.report.names import explainer_title
from ibd.comparison.report.tables import metric_title

_OWN = "intrinsic"
_REAL = ("posthoc", "reference")
"""Kinds of explanations that an own account is held against here; an oracle knows what no method can."""
_CHECKS = {
    "cascade_top_down": "weights made random from the last layer on",
    "cascade_bottom_up": "weights made random from the first layer on",
    "other_target": "asked about another class",
    "other_input": "asked about another image",
    "input_shift": "the same network with shifted inputs",
}
"""Name of a check of sanity -> what is changed in it."""


def account(run: CardRun) -> list[Block]:
    """Return what a comparison says of the model's own account, and of other explanations of it."""
    return _of_report(run, "What the model's own account is worth", _account)


def failing(run: CardRun) -> list[Block]:
    """Return where explanations of the model fail: checks of sanity, and verdicts against its own account."""
    return _of_report(run, "Where explanations of it fail", _failing)


def honesty(run: CardRun) -> list[Block]:
    """Return the figures of a comparison on whether concepts mean what they say."""
    return _of_report(run, "Whether its units mean what they say", _honesty)


def _of_report(run: CardRun, what: str, say: Any) -> list[Block]:
    command = f"ibd compare {run.given} --out REPORT; ibd card {run.given} --compare REPORT"
    if run.report is None:
        return [Absent(f"{what} was not measured, or no report was named.", command)]
    if run.report.stale:
        return [Stale(what, run.report.source, run.report.stale, command)]
    blocks: list[Block] = list(say(run.report))
    return blocks or [Absent(f"{what} is not in the report.", command)]


def _account(report: ReportOf) -> Iterator[Block]:
    plain, scores = report.plain, of_model(report, "scores")
    mains = [str(metric) for metric in plain.get("main_metrics") or ()]
    for metric in mains:
        said = plain.get("metrics", {}).get(metric, {})
        rows = [[explainer_title(name), spread(own[metric], "mean")] for name, own in scores.items() if metric in own]
        if rows:
            better = {True: "higher is better", False: "lower is better"}.get(
                said.get("higher_is_better"), "no direction"
            )
            title = f"{said.get('title', metric)} ({better}) of {plain.get('images')} images"
            yield Grid(title, ["explanation", "mean and 95 % interval"], rows, report.source)
            if definition := said.get("definition"):
                yield Words(
                    f"{said.get('title', metric)}: {definition} {said.get('source') or ''}".strip(), report.source
                )
    verdicts = [v for v in _verdicts(report) if v.get("metric") in mains and v.get("kind") == "posthoc"]
    for verdict in verdicts:
        yield Words(str(verdict.get("sentence", "")), report.source)
    if verdicts and report.trainings > 1:
        yield Words(f"These verdicts are over {report.trainings} trainings, of which this is one.", report.source)


def _verdicts(report: ReportOf) -> list[dict[str, Any]]:
    found = [v for v in report.plain.get("verdicts") or () if isinstance(v, dict)]
    return [verdict for verdict in found if verdict.get("family") == report.family]


def _failing(report: ReportOf) -> Iterator[Block]:
    kinds = {one["name"]: one.get("kind") for one in report.plain.get("explainers") or ()}
    sanity = {
        n: c for n, c in of_model(report, "sanity").items() if kinds.get(n) not in ("null", "reference", "oracle")
    }
    if sanity:
        checks = [
            check for check in _CHECKS if any((c.get("passed") or {}).get(check) is not None for c in sanity.values())
        ]
        rows = [[explainer_title(name), *(_passed(c, check) for check in checks)] for name, c in sanity.items()]
        title = "Checks of sanity: does an explanation change (or stay) as it must?"
        yield Grid(title, ["explanation", *(_CHECKS[check] for check in checks)], rows, report.source)
        own = sanity.get(_OWN, {}).get("passed") or {}
        failed = [_CHECKS.get(check, check) for check, passed in own.items() if passed is False]
        if failed:
            yield Words(f"The model's own account fails where it is: {'; '.join(failed)}.", report.source)
    worse = [v for v in _verdicts(report) if v.get("outcome") == "worse" and v.get("kind") in _REAL]
    rows = [
        [explainer_title(v["other"]), metric_title(v["metric"]), str(v.get("short") or v["sentence"])] for v in worse
    ]
    yield from _some(rows, "Where another explanation is better than its own", ["than", "metric", "verdict"], report)
    skipped = [one for one in report.plain.get("skipped") or () if one.get("model") in (None, "", report.model)]
    if skipped:
        left_out = [[_plain(value) for value in one.values()] for one in skipped]
        columns = [str(key).replace("_", " ") for key in skipped[0]]
        yield from _some(left_out, "What was left out of the comparison", columns, report)


def _some(rows: list[list[str]], title: str, columns: list[str], report: ReportOf) -> Iterator[Block]:
    """Yield a table of rows, where there are any."""
    if rows:
        shown, said = cut(rows, title)
        yield Grid(said, columns, shown, report.source)


def _passed(check: dict[str, Any], name: str) -> str:
    passed, value = (check.get("passed") or {}).get(name), (check.get("values") or {}).get(name)
    word = "-" if passed is None else "passed" if passed else "failed"
    return word if value is None else f"{word} ({number(value)})"


def _honesty(report: ReportOf) -> Iterator[Block]:
    figures = {name: value for name, value in of_model(report, "self_consistency").items() if value is not None}
    if figures:
        said = {name: FIGURES[name].reading if name in FIGURES else "" for name in figures}
        rows = [[name.replace("_", " "), _figure(value), said[name]] for name, value in figures.items()]
        yield Grid("Figures of self-consistency", ["figure", "value", "what it is"], rows, report.source)


def _figure(value: float) -> str:
    """Return a figure; counts, which a report keeps as floats too, without decimals."""
    return str(int(value)) if abs(value) > 1 and float(value).is_integer() else number(value)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "-" if value in (None, "") else str(value)
