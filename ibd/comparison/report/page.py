"""The page: what each of its sections shows, handed to the template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from markupsafe import Markup

from ibd.comparison.probes.sanity import SAME, UNCHANGED
from ibd.comparison.report import names, numbers
from ibd.comparison.report.answer import Answer, make_answer
from ibd.comparison.report.charts import Style, difference_chart
from ibd.comparison.report.clusters import ClusterRow, cluster_rows
from ibd.comparison.report.coherency import CoherencyRow, coherency_rows
from ibd.comparison.report.curves import Chart, family_charts, family_styles
from ibd.comparison.report.differences import LEAST_IMAGES
from ibd.comparison.report.environment import page_environment
from ibd.comparison.report.grids import ROWS, GridPage, make_grids
from ibd.comparison.report.honesty import Judged, judged_figures
from ibd.comparison.report.matrices import (
    Matrix,
    agreement_matrix,
    coherency_matrix,
    concepts_matrix,
    locality_matrix,
)
from ibd.comparison.report.outcomes import Verdict
from ibd.comparison.report.paintings import PaintingTable, painting_table
from ibd.comparison.report.pictures import part_colors, side_for
from ibd.comparison.report.places import places_chart
from ibd.comparison.report.ranking import ranking
from ibd.comparison.report.score_tabs import ScoreTab, score_tabs
from ibd.comparison.report.side_tables import (
    CostRow,
    SanityRow,
    SelfConsistencyRow,
    cost_rows,
    metric_seconds,
    sanity_rows,
    self_consistency_rows,
    shortcut_rows,
    skipped_rows,
)
from ibd.comparison.report.svg import inline
from ibd.comparison.report.tables import REAL, Column, Table, families, make_table, metric_title
from ibd.comparison.report.units import UnitsPage, make_units
from ibd.comparison.report.verdict import (
    from_the_best,
    intrinsic_of,
    main_metrics,
    standing,
    verdicts,
)
from ibd.comparison.report.wording import headline
from ibd.comparison.results import Comparison


@dataclass(frozen=True)
class VerdictView:
    """The verdict of a family under one metric: a headline, sentences, and a chart."""

    metric: str
    headline: str
    standing: str
    verdicts: list[Verdict]
    chart: Chart | None


@dataclass(frozen=True)
class FamilyView:
    """All that the page shows of a family of models."""

    table: Table
    answer: Answer
    accuracy: str
    intrinsic: str | None
    main: Column | None
    tabs: list[ScoreTab]
    views: list[VerdictView]
    verdicts: list[Verdict]
    by_metric: list[tuple[str, dict[str, Verdict]]]
    charts: list[Chart]
    legend: list[tuple[str, Style]]
    matrices: list[Matrix]
    coherency: list[CoherencyRow]
    locality: Matrix | None
    concepts: Matrix | None
    grids: GridPage | None
    units: UnitsPage | None
    honesty: list[Judged]
    self_consistency: list[SelfConsistencyRow]
    sanity: list[SanityRow]
    costs: list[CostRow]
    seconds: list[tuple[str, float]]
    paintings: PaintingTable | None
    places: Chart | None
    clusters: list[ClusterRow]

    @property
    def key(self) -> str:
        """The family's name as an id in the page."""
        return "".join(c if c.isalnum() else "-" for c in self.table.family)

    @property
    def judged(self) -> list[Column]:
        """The metrics by which explanations are better or worse, the verdict's first."""
        columns = [column for some in self.table.columns.values() for column in some]
        return sorted((c for c in columns if c.higher_is_better is not None), key=lambda column: column != self.main)

    @property
    def title(self) -> str:
        """What the family is called as a heading."""
        return names.capital(self.table.title)


def family_views(comparison: Comparison) -> list[FamilyView]:
    """Return what the page shows of each family, in the order of the models."""
    metrics, all_families = main_metrics(comparison), families(comparison)
    side = side_for(len(all_families) * ROWS * (2 + len(comparison.explainers)))
    return [_family_view(comparison, family, metrics, side) for family in all_families]


def render(comparison: Comparison, views: list[FamilyView]) -> str:
    """Return the page as HTML."""
    environment = page_environment(
        "ibd.comparison.report",
        number=numbers.number, signed=numbers.signed, count=numbers.count, percent=numbers.percent,
        json=_json, title=names.explainer_title, model=names.model_title,
        capital=names.capital, plain=names.plain, listed=numbers.listed, zip=zip,
    )  # fmt: skip
    environment.globals.update(span=numbers.span)
    settings = comparison.settings
    page = environment.get_template("index.html.j2").render(
        style=_text("style.css"),
        scripts=[_text(name) for name in _SCRIPTS],
        comparison=comparison,
        views=views,
        metrics=[metric_title(metric) for metric in main_metrics(comparison)],
        columns=_all_columns(views),
        asked=names.ASKED,
        least=LEAST_IMAGES,
        checks=names.CHECKS,
        alike={"same": SAME, "unchanged": UNCHANGED},
        skipped=skipped_rows(comparison),
        shortcut=shortcut_rows(comparison),
        parts=list(zip(comparison.part_names, part_colors(len(comparison.part_names)), strict=True)),
        others={k: v for k, v in settings.items() if k not in _HEADER},
        settings=settings,
        size=_SIZE,
    )
    return page.replace(_SIZE, f"{len(page.encode()) / 1e6:.1f} MB")


_SCRIPTS = ("tabs.js", "page.js", "pictures.js", "gaussian.js", "sliders.js")
_SIZE = "{size of this page}"
"""What stands for the size in the page until it is known."""
_HEADER = ("data", "split", "image_size", "explained", "measured", "seed", "versions", "main_metric")


def _family_view(comparison: Comparison, family: str, metrics: list[str], side: int) -> FamilyView:
    table = make_table(comparison, family)
    family_verdicts = verdicts(comparison, family)
    style = family_styles(comparison)
    rows = [row for row in table.rows if row.explainer.kind in REAL]
    references = [row for row in table.references if row.explainer.kind == "oracle"]
    legend = [(row.title, style[row.explainer.name]) for row in (*rows, *references)]
    references = [row for row in table.references if row.explainer.kind == "reference"]
    if references:
        legend.append((f"Reference maps ({len(references)})", style[references[0].explainer.name]))
    first, paintings = table.models[0], painting_table(comparison, table)
    main = next((c for some in table.columns.values() for c in some if c.name in metrics[:1]), None)
    sanity, costs = sanity_rows(comparison, table), cost_rows(comparison, table)
    own = intrinsic_of(comparison, family)
    return FamilyView(
        table=table,
        answer=make_answer(comparison, table, family_verdicts, metrics),
        accuracy=numbers.listed(numbers.percent(model.accuracy) for model in table.models),
        intrinsic=own,
        main=main,
        tabs=score_tabs(table, main, bool(sanity or costs)),
        views=[_verdict_view(comparison, table, family_verdicts, metric, paintings) for metric in metrics],
        verdicts=family_verdicts,
        by_metric=_by_metric(table, family_verdicts),
        charts=family_charts(comparison, table),
        legend=legend,
        matrices=[matrix for matrix in (agreement_matrix(comparison, table), coherency_matrix(table)) if matrix],
        coherency=coherency_rows(comparison, table),
        locality=locality_matrix(comparison, table),
        concepts=concepts_matrix(comparison, table),
        grids=make_grids(comparison, first, metrics[0], side) if metrics else None,
        units=make_units(comparison, first),
        honesty=judged_figures(comparison, table, next((row for row in sanity if row.name == own), None)),
        self_consistency=self_consistency_rows(comparison, table),
        sanity=sanity,
        costs=costs,
        seconds=metric_seconds(comparison, table),
        paintings=paintings,
        places=places_chart(comparison, first),
        clusters=cluster_rows(comparison, table),
    )


def _verdict_view(
    comparison: Comparison, table: Table, family_verdicts: list[Verdict], metric: str, paintings: PaintingTable | None
) -> VerdictView:
    if intrinsic_of(comparison, table.family) is None:
        return VerdictView(metric, *ranking(comparison, table, metric), [], None)
    against = from_the_best(
        [verdict for verdict in family_verdicts if verdict.metric == metric and verdict.kind in REAL]
    )
    chart = None
    drawn = [verdict for verdict in against if np.isfinite([verdict.interval.low, verdict.interval.high]).all()]
    if drawn:
        title = f"{metric_title(metric)}: {table.title}, its own map minus each other explainer's"
        rows = [
            (names.explainer_title(v.other), v.interval.mean, v.interval.low, v.interval.high, v.outcome) for v in drawn
        ]
        figure = difference_chart(rows, f"{metric_title(metric)}, own map minus other")
        chart = Chart(f"{table.family}_verdict_{metric}", title, inline(figure, title), figure)
    stands = standing(comparison, table, metric) + (paintings.range_of(metric) if paintings else "")
    return VerdictView(metric, headline(comparison, table, family_verdicts, metric), stands, against, chart)


def _by_metric(table: Table, family_verdicts: list[Verdict]) -> list[tuple[str, dict[str, Verdict]]]:
    """Return (explainer, metric -> verdict) of the explainers that are compared."""
    rows: dict[str, dict[str, Verdict]] = {}
    for verdict in family_verdicts:
        if verdict.kind in REAL and verdict.outcome != "unknown":
            rows.setdefault(verdict.other, {})[verdict.metric] = verdict
    order = [row.explainer.name for row in table.rows]
    return [(name, rows[name]) for name in order if name in rows]


def _all_columns(views: list[FamilyView]) -> dict[str, list[Column]]:
    """Return the columns of all tables by question, each once."""
    by_question: dict[str, dict[str, Column]] = {question: {} for question in names.ORDER}
    for view in views:
        for question, columns in view.table.columns.items():
            by_question[question].update((column.name, column) for column in columns)
    return {question: list(columns.values()) for question, columns in by_question.items() if columns}


def _json(value: object) -> Markup:
    """Return a value as JSON that stays within a ``<script>``, whatever its texts hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing is left in it that could end the script


def _text(name: str) -> Markup:
    """Return a file of the templates, which is ours."""
    return Markup((files("ibd.comparison.report") / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704
