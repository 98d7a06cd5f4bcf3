"""What the report computes: marks, rankings, the choice of images, numbers as texts."""

import numpy as np
import pytest

from ibd.comparison.report.coherency import coherency_rows
from ibd.comparison.report.grids import disagreement, make_grids
from ibd.comparison.report.matrices import coherency_matrix
from ibd.comparison.report.numbers import digits_for, listed, number, signed, span
from ibd.comparison.report.pictures import outlined
from ibd.comparison.report.tables import make_table
from ibd.comparison.report.verdict import main_metrics
from ibd.comparison.results import ShownImage
from tests.score_makers import KINDS, made

NAN = float("nan")


def test_the_best_is_marked_and_so_is_what_cannot_be_told_apart():
    level = np.random.default_rng(0).normal(size=40)
    scores = {
        ("intrinsic", "deletion"): level,
        ("gradcam", "deletion"): level + np.tile([0.4, -0.38], 20),
        ("lrp", "deletion"): level + 0.05,  # always a little worse: pairs tell what unpaired intervals would not
        ("oracle", "deletion"): level - 3,
    }
    rows = {row.explainer.name: row for row in make_table(made(scores, KINDS), "cbm").rows}
    marks = {name: (row.cells["deletion"].best, row.cells["deletion"].tied) for name, row in rows.items()}
    assert marks == {"intrinsic": (True, False), "gradcam": (False, True), "lrp": (False, False)}


def test_what_does_not_apply_is_absent_and_never_zero():
    scores = {("intrinsic", "part_spearman"): 0.3, ("gradcam", "part_spearman"): np.full(40, NAN), ("lrp", "abpc"): 1.0}
    table = make_table(made(scores, KINDS), "cbm")
    cells = {row.explainer.name: set(row.cells) for row in (*table.rows, *table.references)}
    assert cells == {"intrinsic": {"part_spearman"}, "lrp": {"abpc"}}
    assert np.isnan(table.rows[0].cells["part_spearman"].normalized)  # there is neither noise nor oracle


def test_a_model_that_was_not_measured_does_not_count():
    comparison = made({("intrinsic", "abpc"): 1.0}, KINDS, models=("m", "n"))
    del comparison.scores["n", "intrinsic", "abpc"]
    interval = make_table(comparison, "cbm").rows[0].cells["abpc"].interval
    assert interval.mean == pytest.approx(comparison.scores["m", "intrinsic", "abpc"].mean())
    assert (interval.n, interval.n_nan) == (40, 40)


def test_the_verdict_rests_on_part_importance_where_there_is_any():
    scores = {("intrinsic", name): 0.1 for name in ("insertion", "deletion", "part_spearman", "mass_accuracy")}
    comparison = made(scores, KINDS)
    assert main_metrics(comparison) == ["part_spearman"]
    comparison.settings["main_metric"] = "mass_accuracy"
    assert main_metrics(comparison) == ["mass_accuracy"]
    del comparison.settings["main_metric"], comparison.scores["m", "intrinsic", "part_spearman"]
    assert main_metrics(comparison) == ["deletion", "insertion"]
    assert main_metrics(made({("intrinsic", "roc_auc"): 0.6}, KINDS)) == ["roc_auc"]


def test_rankings_are_compared_from_better_to_worse_and_without_nulls():
    rank = {"intrinsic": 1.0, "gradcam": 2.0, "lrp": 3.0}
    scores = {(name, "insertion"): value for name, value in rank.items()}
    scores |= {(name, "deletion"): -value for name, value in rank.items()}
    scores |= {(name, "roc_auc"): -value for name, value in rank.items()}
    for metric, ends in (("insertion", (-9, 9)), ("deletion", (9, -9)), ("roc_auc", (-9, 9))):
        scores |= {("noise", metric): float(ends[0]), ("oracle", metric): float(ends[1])}
    scores |= {("intrinsic", "abpc"): 1.0, ("lrp", "abpc"): 2.0}  # two are no ranking
    matrix = coherency_matrix(make_table(made(scores, KINDS), "cbm"))
    assert matrix.columns == ["Insertion", "Deletion", "AUC"]
    assert matrix.values.tolist() == [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]


def test_the_metrics_are_judged_image_by_image():
    """Two that agree, one that does not, and one that is sparseness turned over and takes noise for the best."""
    images = np.arange(40.0)
    rank = {"intrinsic": images, "gradcam": images + 1, "lrp": images + 2}
    scores = {(name, "insertion"): value for name, value in rank.items()}
    scores |= {(name, "deletion"): -value for name, value in rank.items()}
    scores |= {(name, "sparseness"): -value for name, value in rank.items()}
    scores |= {("noise", "insertion"): -1.0, ("noise", "deletion"): -99.0}
    scores |= {("oracle", "insertion"): images + 3, ("oracle", "deletion"): np.where(images < 10, -99.0, 99.0)}
    comparison = made(scores, KINDS)
    rows = {row.metric: row for row in coherency_rows(comparison, make_table(comparison, "cbm"))}
    assert {name: row.others.mean for name, row in rows.items()} == {"insertion": 0, "deletion": 0, "sparseness": -1}
    assert (rows["insertion"].sparse, rows["deletion"].sparse) == (-1, -1)
    assert np.isnan(rows["sparseness"].sparse)
    assert (rows["insertion"].noise, rows["deletion"].noise) == (1, 0)
    assert (rows["insertion"].truth, rows["deletion"].truth) == (1, 0.25)
    assert rows["deletion"].cells[0] == "0.00"
    del comparison.scores["m", "gradcam", "deletion"], comparison.scores["m", "gradcam", "sparseness"]
    assert coherency_rows(comparison, make_table(comparison, "cbm")) == []  # two explainers are no ranking


def shown(position, own, other, label="a", wrong=False):
    maps = {"m": {"intrinsic": own.astype(np.float32), "gradcam": other.astype(np.float32)}}
    predicted = {"m": "another" if wrong else label}
    return ShownImage(position, np.full((8, 8, 3), 0.5, dtype=np.float32), label, None, maps, predicted)


@pytest.mark.parametrize(("metric", "best", "worst"), [("abpc", [5, 4], [0, 3]), ("deletion", [0, 3], [5, 4])])
def test_images_are_chosen_by_mistakes_by_score_and_by_disagreement(metric, best, worst):
    rng = np.random.default_rng(0)
    values = np.zeros(10)
    values[[0, 1, 2, 3, 4, 5, 6, 7, 8]] = [1, 2.5, 2.5, 2, 3, 4, 2.5, 9, NAN]
    maps = rng.normal(size=(10, 8, 8))
    turn = {1: -1}  # the two maps of image 1 contradict each other
    images = [shown(i, maps[i], turn.get(i, 1) * maps[i], str(i), wrong=i == 7) for i in range(9)]
    scores = {("intrinsic", metric): values, ("gradcam", metric): values}
    comparison = made(scores, KINDS, images=10, shown=images)
    page = make_grids(comparison, comparison.models[0], metric, 64)
    labels = {grid.title: [int(row.label) for row in grid.rows] for grid in page.grids}
    assert labels["Predicted wrongly"] == [7]
    assert labels["Best"] == best
    assert labels["Worst"] == worst
    assert labels["Most disagreeing"][0] == 1
    assert disagreement(images[1], "m", "intrinsic", ["gradcam"]) == pytest.approx(2)
    assert disagreement(images[0], "m", "intrinsic", ["gradcam"]) == pytest.approx(0)
    rows = [row for grid in page.grids for row in grid.rows]
    assert len({row.label for row in rows}) == len(rows)
    assert [row.right for row in rows] == [False] + [True] * (len(rows) - 1)
    assert [cell.title for cell in rows[0].cells] == ["Own map", "Grad-CAM"]


def test_an_outline_runs_along_the_inside_of_its_mask():
    mask = np.zeros((1, 192, 192), dtype=bool)
    mask[0, 50:100, 50:100] = True
    picture = outlined(np.zeros((192, 192, 3), dtype=np.float32), mask)
    colored = np.abs(picture - 0.2).sum(2) > 1e-3
    wanted = mask[0].copy()
    wanted[52:98, 52:98] = False
    assert (colored == wanted).all()


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.4567, None, "0.46"),
        (-4.567, None, "\u22124.57"),
        (45.67, None, "45.7"),
        (456.7, None, "457"),
        (0.0456, None, "0.046"),
        (-0.001, 2, "0.00"),
        (0.0, None, "0.00"),
        (1.2e-6, None, "1e\u22126"),
        (NAN, 2, ""),
        (None, None, ""),
    ],
)
def test_numbers_as_texts(value, digits, text):
    assert number(value, digits) == text


def test_signs_intervals_and_lists():
    assert [signed(0.5), signed(-0.5), signed(0.001, 2)] == ["+0.50", "\u22120.50", "0.00"]
    assert span(-0.1, 0.25) == "[\u22120.10, 0.25]"
    assert span(NAN, 1.0) == ""
    assert digits_for([NAN, 0.2, 12.0]) == 1
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]
