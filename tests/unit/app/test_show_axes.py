"""The verb `axes` on a network that stands in for a trained one: what it says and writes."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from ibd import cli
from ibd.app import axes as app
from ibd.models.concept_whitening import evaluation
from ibd.models.concept_whitening.evaluation import evaluate_axes
from tests.axis_makers import LAYERS, AxisModule, make_axis_baseline
from tests.command import ibd
from tests.model_makers import CONCEPTS, TensorData, make_module

CHARTS = {"correlation.png", "importance.png", "auc.png", "purity.png", "trajectory.png"}


@pytest.fixture
def stand_in(monkeypatch):
    """Have the command line read these in place of runs."""
    models = {"RUN": AxisModule(), "SINGLE": AxisModule(layers=LAYERS[-1:]), "CBM": make_module()}
    data = TensorData()
    monkeypatch.setattr(cli, "newest", lambda run: run)
    monkeypatch.setattr(app, "load_run", lambda run, *changes: (models[run], data))
    monkeypatch.setattr(evaluation, "load_model", {"BASE": make_axis_baseline(), "CBM": models["CBM"]}.__getitem__)
    return models, data


def files(answer):
    assert answer.code == 0, answer.err
    paths = [Path(line.split()[1]) for line in answer.out.splitlines() if line.startswith(("figure:", "table:"))]
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert min(picture.size) > 100
    return {path.name for path in paths}


def test_it_says_and_writes_what_was_measured(stand_in, tmp_path):
    models, data = stand_in
    answer = ibd("axes", "RUN", "--baseline", "BASE", "--out", tmp_path, "--images", 6, "--top", 3)
    tables = {"axes.json", "concepts.csv", "auc.csv", "top_images.csv"}
    assert files(answer) == tables | CHARTS | {"top_images.png", "maps_test_1.png", "maps_test_2.png"}
    assert {path.name for path in tmp_path.iterdir()} == files(answer)
    expected = evaluate_axes(models["RUN"], data, baseline=make_axis_baseline())
    said = dict(re.findall(r"^(\w+) +(\S+)$", answer.out, re.MULTILINE))
    assert said == {name: f"{value:.4g}" for name, value in expected.figures.items()}
    assert json.loads((tmp_path / "axes.json").read_text())["figures"] == pytest.approx(expected.figures)
    with (tmp_path / "top_images.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [name for name in CONCEPTS for _ in range(3)]


@pytest.mark.slow
def test_without_a_baseline_or_layers_before(stand_in, tmp_path):
    answer = ibd("axes", "SINGLE", "--out", tmp_path, "--images", 0, "--top", 0, "--split", "val")
    assert files(answer) == {"axes.json", "concepts.csv", "auc.csv", "top_images.csv"} | CHARTS - {"trajectory.png"}
    assert "accuracy_baseline" not in answer.out
    assert "(0 rows)" in answer.out


@pytest.mark.slow
def test_pages(stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "_PER_PAGE", 2)
    answer = ibd("axes", "RUN", "--out", tmp_path, "--images", 0, "--top", 1, "--pages", 2)
    assert {name for name in files(answer) if "top" in name} == {
        "top_images.csv",
        "top_images_1.png",
        "top_images_2.png",
    }
    assert "(4 of 6 axes are drawn; --pages 0 draws all)" in answer.out
    every = ibd("axes", "RUN", "--out", tmp_path, "--images", 0, "--top", 1, "--pages", 0)
    assert "top_images_3.png" in files(every)
    assert "axes are drawn" not in every.out


@pytest.mark.slow
def test_without_annotations(stand_in, tmp_path):
    _, data = stand_in
    data.splits["test"][2].fill_(torch.nan)
    answer = ibd("axes", "RUN", "--out", tmp_path, "--images", 1)
    assert files(answer) & CHARTS == {"correlation.png", "importance.png"}
    assert "axis_purity" not in answer.out


def test_mistakes(stand_in, tmp_path):
    assert ibd("axes", "CBM").mistake == (
        "a ConceptBottleneck has no axes that stand for concepts (its units are concepts); a ConceptWhitening has"
    )
    assert ibd("axes", "RUN", "--baseline", "CBM", "--out", tmp_path).mistake == (
        "the baseline is a ConceptBottleneck: a run of model.name=baseline is needed, with the same backbone as the "
        "whitened network"
    )
    (tmp_path / "file").touch()
    assert "is not a folder" in ibd("axes", "RUN", "--out", tmp_path / "file").mistake
