"""The curves of a family: what each chart shows, its lines pooled over models and images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.figure import Figure

from ibd.comparison.groups import CURVES
from ibd.comparison.report import names
from ibd.comparison.report.charts import Line, Style, line_chart, styles, with_legend
from ibd.comparison.report.svg import inline
from ibd.comparison.report.tables import Table
from ibd.comparison.results import Comparison, Curve, Sanity
from ibd.metrics.functional.random_effects import two_level_intervals

_CASCADE = "Sanity: similarity to the original map while the model is made random"
_BY_PART = "energy"
"""The chart whose places are the parts of the data, and what is none of them."""
_SHARES = ("probability", "share of the positive mass")
"""What goes from 0 to 1, as do its bands, however few trainings they are of."""
_FRONT = {"intrinsic": 0, "oracle": 1, "posthoc": 2, "reference": 3}


@dataclass(frozen=True)
class Chart:
    """A chart, as the page and as a file show it.

    Attributes:
        name: name of its file, without folder and ending.
        title: title of the chart.
        svg: picture for the page, as SVG.
        figure: figure for a file of its own.
        legend: (label, style) of lines that have no place in the family's legend.
        note: a line below.
    """

    name: str
    title: str
    svg: str
    figure: Figure
    legend: tuple[tuple[str, Style], ...] = ()
    note: str = ""


def family_styles(comparison: Comparison) -> dict[str, Style]:
    """Return the style of every explainer."""
    return styles([(explainer.name, explainer.kind) for explainer in comparison.explainers])


def family_charts(comparison: Comparison, table: Table) -> list[Chart]:
    """Return the charts of curves of a family: of explainers, of its models alone, and of the sanity checks."""
    charts = []
    for name in dict.fromkeys(key[2] for key in comparison.curves):
        curves = {
            explainer.name: [
                comparison.curves[key]
                for model in table.models
                if (key := (model.name, explainer.name, name)) in comparison.curves
            ]
            for explainer in comparison.explainers
        }
        charts += _explainers_chart(comparison, table, name, {key: some for key, some in curves.items() if some})
    return [*charts, *_own_charts(comparison, table), *_cascades(comparison, table)]


def pooled_line(curves: list[Curve], label: str, style: Style) -> Line:
    """Return the mean of curves over models and images, with its band; those measured elsewhere are left out."""
    first = curves[0]
    same = [curve for curve in curves if curve.x.shape == first.x.shape and curve.values.shape == first.values.shape]
    values = torch.stack([torch.from_numpy(curve.values) for curve in same])
    intervals = two_level_intervals(values.permute(2, 0, 1))
    ends = [np.array([getattr(interval, name) for interval in intervals]) for name in ("mean", "low", "high")]
    return Line(label, style, first.x, *ends)


def _explainers_chart(comparison: Comparison, table: Table, name: str, curves: dict[str, list[Curve]]) -> list[Chart]:
    if not curves:
        return []
    style, kinds = family_styles(comparison), {explainer.name: explainer.kind for explainer in comparison.explainers}
    order = sorted(curves, key=lambda explainer: _FRONT[kinds[explainer]])
    lines = [pooled_line(curves[explainer], names.explainer_title(explainer), style[explainer]) for explainer in order]
    first = next(iter(curves.values()))[0]
    if first.y_label in _SHARES:
        lines = [replace(line, low=line.low.clip(0, 1), high=line.high.clip(0, 1)) for line in lines]
    places = [*comparison.part_names, "no part"] if name == _BY_PART else []
    ticks = places if len(places) == len(first.x) else []
    return [_chart(table, name, _title(name), lines, line_chart(lines, first.x_label, first.y_label, ticks))]


def _title(chart: str) -> str:
    titles = [curve.title for curve in CURVES.values() if curve.drawn_in == chart]
    return titles[0] if titles else names.capital(names.plain(chart))


def _own_charts(comparison: Comparison, table: Table) -> list[Chart]:
    """Return the charts of curves that belong to models and not to an explainer."""
    charts: dict[str, dict[str, list[Curve]]] = {}
    members = [model.name for model in table.models]
    for (model, chart), own in comparison.own_curves.items():
        for line, curve in own.items() if model in members else ():
            charts.setdefault(chart, {}).setdefault(line, []).append(curve)
    made = []
    for name, some in charts.items():
        style = styles([(label, "intrinsic" if i == 0 else "posthoc") for i, label in enumerate(some)])
        style = {label: replace(line_style, css=f"ibd-own-{i}") for i, (label, line_style) in enumerate(style.items())}
        lines = [pooled_line(curves, label, style[label]) for label, curves in some.items()]
        first = next(iter(some.values()))[0]
        title = _title(name)
        drawn = _chart(table, f"own_{name}", title, lines, line_chart(lines, first.x_label, first.y_label))
        made.append(replace(drawn, legend=tuple((line.label, line.style) for line in lines)))
    return made


def _cascades(comparison: Comparison, table: Table) -> list[Chart]:
    """Return the chart of what is left of each map while the models are made random."""
    style, lines = family_styles(comparison), []
    stages: list[str] = []
    band: list[float] = []
    for row in table.rows:
        name = row.explainer.name
        some = [s for m in table.models if (s := comparison.sanity.get((m.name, name))) is not None and s.stages]
        stages = stages or (some[0].stages if some else [])
        some = [cascade for cascade in some if cascade.stages == stages]
        if some:
            band += [cascade.band for cascade in some]
            lines.append(_cascade_line(some, row.title, style[name]))
    if not lines:
        return []
    level = float(np.nanmax(band)) if np.isfinite(band).any() else None
    figure = line_chart(lines, "parts made random, one after the other", "similarity (Spearman)", stages, level)
    note = "Dotted line: the highest similarity between maps of two independent random networks."
    note += " Bands span all trainings." if len(table.models) > 1 else ""
    return [replace(_chart(table, "cascade", _CASCADE, lines, figure), note=note)]


def _cascade_line(some: list[Sanity], label: str, style: Style) -> Line:
    mean = np.mean([cascade.similarity for cascade in some], axis=0)
    low, high = np.min([cascade.low for cascade in some], axis=0), np.max([cascade.high for cascade in some], axis=0)
    return Line(label, style, np.arange(len(mean), dtype=np.float64), mean, low, high)


def _chart(table: Table, name: str, title: str, lines: list[Line], figure: Figure) -> Chart:
    svg = inline(figure, f"{title}, {table.title}")
    figure = with_legend(figure, lines, f"{names.capital(table.title)}. {title}")
    return Chart(f"{table.family}_{name}", title, svg, figure)
