"""The score table cut into tabs: one for each question, narrow enough for a screen."""

from __future__ import annotations

from dataclasses import dataclass

from ibd.comparison.report import names
from ibd.comparison.report.tables import Column, Table

_WIDE = 6
"""Columns of a table beside the verdict's metric, at most: more stand in a table below."""


@dataclass(frozen=True)
class ScoreTab:
    """The metrics of a question.

    Attributes:
        key: the question as part of an id.
        title: title of the tab.
        asked: question in words.
        tables: columns of each table, the verdict's metric left out.
        side: whether sanity checks and costs stand here.
    """

    key: str
    title: str
    asked: str
    tables: list[list[Column]]
    side: bool = False


def score_tabs(table: Table, main: Column | None, side: bool) -> list[ScoreTab]:
    """Return the tabs of a family, the one of the verdict's metric first.

    Args:
        table: scores of the family.
        main: column of the verdict's metric, which begins every table; None without one.
        side: whether there are sanity checks or costs.
    """
    first = main.question if main else ""
    order = sorted(table.columns, key=lambda question: question != first)
    tabs = []
    for question in order:
        columns = [column for column in table.columns[question] if column != main]
        tables = [columns[start : start + _WIDE] for start in range(0, len(columns), _WIDE)] or [[]]
        tabs.append(ScoreTab(question.lower(), question, names.ASKED[question], tables))
    if side:
        asked = f"{names.ASKED['Sanity']} {names.ASKED['Cost']}"
        tabs.append(ScoreTab("sanity-and-cost", "Sanity and cost", asked, [[]], side=True))
    return tabs
