"""The report of a comparison: one folder, whose page can be opened, sent and shown without anything beside it."""

from __future__ import annotations

import re
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from ibd.comparison.report import files
from ibd.comparison.report.charts import matrix_chart
from ibd.comparison.report.names import capital
from ibd.comparison.report.page import FamilyView, family_views, render
from ibd.comparison.report.svg import png
from ibd.comparison.results import Comparison

__all__ = ["Report"]


class Report:
    """What a comparison found, as a page, as tables, and as pictures.

    Args:
        comparison: comparison of explanations.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @cached_property
    def views(self) -> list[FamilyView]:
        """What there is to show of each family of models."""
        return family_views(self.comparison)

    def __repr__(self) -> str:
        """Return in a line what was compared."""
        comparison = self.comparison
        counts = {
            "models": len(comparison.models),
            "rows": len(comparison.explainers),
            "metrics": len(comparison.metrics),
            "images": len(comparison.image_ids),
        }
        return f"Report({', '.join(f'{count} {name}' for name, count in counts.items())})"

    def _repr_html_(self) -> str:
        """Return the verdicts, for a notebook."""
        verdicts = [verdict for family in self.views for verdict in family.views]
        said = [f"<p><b>{escape(verdict.headline)}</b><br>{escape(verdict.standing)}</p>" for verdict in verdicts]
        return f"<code>{escape(repr(self))}</code>{''.join(said)}"

    def summary(self) -> dict[str, Any]:
        """Return means, intervals, verdicts and costs as plain values, None for what is unknown."""
        return files.summary(self.comparison, self.views)

    def html(self) -> str:
        """Return the page: one file that needs no other."""
        return render(self.comparison, self.views)

    def figures(self) -> dict[str, bytes]:
        """Return the charts as PNG, by the names of their files."""
        figures = {}
        for view in self.views:
            drawn = [verdict.chart for verdict in view.views if verdict.chart is not None]
            drawn += [view.places] if view.places is not None else []
            figures.update({chart.name: png(chart.figure) for chart in (*drawn, *view.charts)})
            for matrix in (*view.matrices, view.locality):
                if matrix is not None:
                    ends, title = (matrix.low, matrix.high), f"{capital(view.table.title)}. {matrix.title}"
                    figure = matrix_chart(matrix.values, matrix.rows, matrix.columns, ends, title)
                    figures[f"{view.table.family}_{matrix.name}"] = png(figure)
        return {re.sub(r"[^A-Za-z0-9_.+-]", "_", name) + ".png": image for name, image in figures.items()}

    def save(self, folder: str | Path) -> Path:
        """Write ``index.html``, ``scores.csv``, ``summary.json`` and ``figures/*.png``.

        Args:
            folder: folder to write to, made where it does not exist; files of these names are written anew.

        Returns:
            The page.
        """
        folder = Path(folder)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, image in self.figures().items():
            (folder / "figures" / name).write_bytes(image)
        files.write_scores(self.comparison, folder / "scores.csv")
        files.write_summary(self.summary(), folder / "summary.json")
        page = folder / "index.html"
        page.write_text(self.html(), encoding="utf-8")
        return page
