"""The folded table of a model's own map painted in other ways, and the sentence on it."""

import functools

import numpy as np

from ibd.comparison.report import Report
from tests.report_makers import make_comparison


@functools.cache
def painted():
    """A comparison whose first family scores 0.5 as it is painted, and 0.25 and 0.75 otherwise, in every image."""
    comparison = make_comparison(images=12, shown=0)
    comparison.curves.clear()
    for model in ("cbm", "cbm 2"):
        for painting, score in (("pooling", 0.5), ("peak", 0.25), ("minimum", 0.75)):
            comparison.paintings[model, painting, "part_spearman"] = np.full(12, score)
            comparison.paintings[model, painting, "own_metric"] = np.full(12, score)  # one that is not shown
    return Report(comparison)


def test_every_painting_is_a_row_and_what_was_not_measured_is_none():
    first, second = painted().views
    assert second.paintings is None
    assert list(first.paintings.metrics) == ["part_spearman"]
    rows = {row.title: row.cells["part_spearman"][0] for row in first.paintings.rows}
    assert rows == {"As pooled": "0.50", "Peak cell": "0.25", "Map minus minimum": "0.75"}


def test_the_verdict_says_from_where_to_where_the_others_score():
    first, second = painted().views
    (view,) = first.views
    assert view.standing.endswith("Painted in 2 other ways the same account scores 0.25 to 0.75.")
    assert "Painted" not in second.views[0].standing


def test_paintings_are_in_the_page_and_in_the_summary():
    report = painted()
    assert report.html().count("<summary>The own map, painted in other ways</summary>") == 1
    families = report.summary()["families"]
    assert families["cbm"]["paintings"]["peak"]["part_spearman"]["mean"] == 0.25
    assert families["protopnet"]["paintings"] == {}
