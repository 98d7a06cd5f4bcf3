"""`ibd threshold` on a run that has learnt something, and what predictions make of it."""

import csv
import json
import re
import shutil

import pytest
import torch

import ibd as package
from ibd.io import load_run
from ibd.models.thresholds import FILE
from tests.command import ibd


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, which the test may change."""
    return shutil.copytree(trained, tmp_path / "run")


def test_it_is_set_shown_used_and_taken_away(run, bird, tmp_path):
    assert ibd("threshold", run).out.startswith("no threshold is set")
    answer = ibd("threshold", run, "value=0.25", "concept=wing::red_oval,beak::cone")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1].startswith(f"kept in: {run / FILE}")
    rows = [line.split()[:2] for line in answer.out.splitlines()[1:-1]]
    assert rows == [["beak::cone", "0.2500"], ["wing::red_oval", "0.2500"]]
    assert ibd("threshold", run).out.splitlines() == answer.out.splitlines()[:-1]
    said = ibd("predict", run, bird, "--top", 0).out
    assert len(re.findall(r"(present \(from|absent \(below) 0\.25\)", said)) == 2
    out = tmp_path / "out.csv"
    assert ibd("predict", run, bird, "-o", out).code == 0
    with out.open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    model = package.load_model(run)
    expected = [n for n in model.spec.concept_names if float(row[n]) >= (0.25 if n in dict(rows) else 0.500001)]
    assert json.loads(row["present"]) == expected
    assert ibd("threshold", run, "precision=null").out.startswith("no threshold is set")
    assert "present" not in ibd("predict", run, bird).out


def test_its_counts_are_those_of_the_predictions(run):
    ibd("threshold", run, "accuracy=0.5", "value=0.4")
    model, data = load_run(run)
    dataset = data.dataset("val")
    found = model.predict(torch.stack([dataset[i].image for i in range(len(dataset))]))
    for name, threshold in model.thresholds.concepts.items():
        unit = model.network.unit_index(name)
        present, true = found.present[:, unit], dataset.concepts[:, unit] > 0.5
        assert (threshold.called, threshold.right) == (int(present.sum()), int((present & true).sum()))
    assert model.thresholds.confidence.called == int((~found.abstains).sum())
    right = (found.labels == dataset.labels) & ~found.abstains
    assert model.thresholds.confidence.right == int(right.sum())
    ibd("threshold", run, "confidence=0.4")
    assert ibd("test", run, "--split", "val").code == 0
    said = json.loads((run / "tested" / "val" / "summary.json").read_text())
    assert said["abstains"] == int((found.probabilities.amax(1) < 0.4).sum()) > 0
    assert said["about"]["confidence"] == 0.4


def test_python_does_the_same(run):
    found = package.set_thresholds(run, value=0.3, concepts=["beak::cone"])
    assert found.thresholds == package.load_model(run).thresholds
    assert ibd("threshold", run).out.splitlines()[1].split()[:2] == ["beak::cone", "0.3000"]
    assert package.set_thresholds(run, precision=None, concepts=["beak::cone"]).thresholds is None


def test_a_calibration_makes_them_stale(run, bird, caplog):
    ibd("threshold", run, "value=0.4", "concept=beak::cone")
    ibd("calibrate", run)
    said = ibd("predict", run, bird, "--top", 0)
    assert "thresholds are of other weights or another calibration, and left out" in caplog.text
    assert "(from 0.4)" not in said.out
    assert ibd("threshold", run, "value=0.4", "concept=beak::cone").code == 0
    caplog.clear()
    assert "(from 0.4)" in ibd("predict", run, bird, "--top", 0).out.replace("(below", "(from")
    assert "left out" not in caplog.text


def test_mistakes_are_a_line(run):
    assert "Did you mean 'precision'?" in ibd("threshold", run, "precison=0.9").mistake
    assert "a number such as 0.95 is needed" in ibd("threshold", run, "precision=high").mistake
    assert "there is no 'wing::redd_oval'" in ibd("threshold", run, "value=0.5", "concept=wing::redd_oval").mistake
    assert not (run / FILE).exists()
