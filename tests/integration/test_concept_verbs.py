"""`ibd tcav`, `ibd interpret` and `ibd dissect` through the command line, of runs and of a network of somebody's."""

import csv
import json

import pytest

from tests.command import ibd

_OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_network:make"


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tcav_of_a_run(baseline, tmp_path):
    asked = ("concepts=eye", "examples=8", "random=10", "runs=2", "images=30")
    answer = ibd("tcav", baseline, *asked, "--out", tmp_path / "there")
    assert answer.code == 0, answer.err
    assert "layer backbone: 3 concepts, 6 classes" in answer.out
    found = rows(tmp_path / "there" / "tcav.csv")
    assert [row["concept"] for row in found[::6]] == ["eye::dark", "eye::ring", "eye::slit"]
    assert all(0 <= float(row["score"]) <= 1 and 0 <= float(row["p_value"]) <= 1 for row in found)
    assert (tmp_path / "there" / "tcav.png").stat().st_size > 5_000


def test_a_picture_that_is_missing_is_said_before_the_work(baseline, tmp_path):
    told = ibd("interpret", baseline, "no.png", "--out", tmp_path).mistake
    assert told == "no.png: cannot be read: there is no such file"
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_outside_of_a_run_gets_no_covariance(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.ckpt").write_bytes(b"nothing")
    assert ibd("covariance", "alone.ckpt").mistake.startswith("'alone.ckpt' is in no run")


def test_interpret_a_run_and_an_image(baseline, bird, tmp_path):
    asked = ("fit_images=48", "images=24", "draws=2", "counts=1,2", "patches=2", "top=2", "classes=marsh_wren")
    answer = ibd("interpret", baseline, bird, *asked, "--out", tmp_path)
    assert answer.code == 0, answer.err
    assert {row["layer"] for row in rows(tmp_path / "relevant_features.csv")} <= {
        f"backbone.stage{stage}.relu" for stage in (1, 2, 3)
    }
    assert [row["channels"] for row in rows(tmp_path / "ablation.csv")] == ["0", "1", "2"]
    assert {"wing", "wing::red_oval"} <= {row["mask"] for row in rows(tmp_path / "coverage.csv")}
    for name in ("relevant_features", "interpreted_bird", "ablation"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000


def test_a_network_of_somebodys_is_asked_about_data_that_are_named(own, tmp_path):
    config = tmp_path / "birds.yaml"
    config.write_text(
        "name: birds\nmodel: {name: baseline, backbone: {name: small_cnn}}\n"
        "data: {name: toybirds, preset: tiny, train_size: 48, val_size: 24, test_size: 24}\ntrainer: {max_epochs: 1}\n"
    )
    asked = (own, f"data={config}", "model.preprocess=unit")
    answer = ibd("tcav", *asked, "layer=1", "concepts=eye::dark", "examples=8", "random=10", "runs=2")
    assert answer.code == 0, answer.err
    assert "layer 1: 1 concepts, 6 classes" in answer.out
    answer = ibd("interpret", *asked, "images=12", "draws=2", "counts=1", "patches=2", "top=1", "classes=marsh_wren")
    assert answer.code == 0, answer.err
    assert "8 channels of 1 layers, told by 48 images" in answer.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["tcav", "RUN", "layr=x"], "tcav: there is no option 'layr'. Did you mean 'layer'?"),
        (["tcav", "RUN", "layer=x"], "no layer 'x' in"),
        (["tcav", "RUN", "concepts=eye::drak"], "concepts: there is no concept 'eye::drak'. Did you mean"),
        (["tcav", "RUN", "classes=wren"], "classes: there is no class 'wren'"),
        (["tcav", "RUN", "examples=x"], "tcav: examples: 'x' given, a whole number from 1 is needed"),
        (["tcav", "RUN", "split=tests"], "tcav: split: 'tests' is not one of train, val, test"),
        (["tcav", "RUN", "model.preprocess=unit"], "a run says itself how its model is asked"),
        (["tcav", "own_network:make", "model.preprocess=unit"], "has no data of its own: say data=FOLDER"),
        (["interpret", "RUN", "budget=much"], "interpret: budget: 'much' given, a number is needed"),
        (["interpret", "RUN", "counts=0"], "interpret: counts: '0' given, numbers of channels by commas are needed"),
        (["interpret", "RUN", "signs=plus"], "interpret: signs: 'plus' is not one of positive, any"),
        (["interpret", "RUN", "layers=nosuch"], "no layer 'nosuch' in"),
        (["dissect", "RUN", "layer=backbone"], "dissect: there is no option 'layer'. Did you mean 'layers'?"),
        (["dissect", "RUN", "layers=nosuch", "images=4", "fit_images=4"], "no layer 'nosuch' in"),
        (["dissect", "RUN", "layers=backbone", "net2vec=bakbone"], "net2vec: 'bakbone' is none of the layers. Did you"),
        (["dissect", "RUN", "filters=0"], "dissect: filters: '0' given, numbers of channels by commas are needed"),
        (["dissect", "RUN", "share=1", "images=4", "fit_images=4"], "share: 1.0 given, a share of the cells above 0"),
    ],
)
def test_mistakes_are_one_line(given, message, baseline, own):
    answer = ibd(*(baseline if word == "RUN" else word for word in given))
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.slow
def test_a_comparison_says_what_lies_in_the_layers_of_ours_and_of_somebodys(baseline, own, tmp_path):
    asked = ("explainers=gradcam", "metrics=tcav,relevant_features,pointing_game", "images=18", "shown=2")
    answer = ibd("compare", baseline, own, *asked, "model.preprocess=unit", "--out", tmp_path / "report")
    assert answer.code == 0, answer.err
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    for figures in summary["self_consistency"].values():
        assert 0 <= figures["relevant_ablated"] <= 1
        assert 0 <= figures["relevant_coverage"] <= 1
        assert 0 <= figures["tcav_truth"] <= 1
    assert len(summary["self_consistency"]) == 2
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("What classes rest on (TCAV)") == 2
    assert page.count("Accuracy without channels") >= 2


def test_dissect_a_run(baseline, tmp_path):
    asked = ("layers=backbone.stage2,backbone.stage3", "fit_images=24", "images=16", "pictures=2", "shown=2")
    answer = ibd("dissect", baseline, *asked, "--out", tmp_path)
    assert answer.code == 0, answer.err
    assert "24 images to choose by, 16 to score on, masks of 31 parts and concepts" in answer.out
    found = rows(tmp_path / "units.csv")
    layers = [row["layer"] for row in found]
    assert set(layers) == {"backbone.stage2", "backbone.stage3"}
    assert [int(row["channel"]) for row in found] == [
        i for name in dict.fromkeys(layers) for i in range(layers.count(name))
    ]
    assert all(0 <= float(row[key]) <= 1 for row in found for key in ("iou", "chance", "form_iou", "fitted_iou"))
    assert len(rows(tmp_path / "iou.csv")) == len(found)
    of = rows(tmp_path / "net2vec.csv")
    assert {row["layer"] for row in of} == {"backbone.stage3"}
    assert {row["filters"] for row in of} >= {"as it is", "1", "2", "3"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<section") == 4
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "concepts_by_layer.png").stat().st_size > 5_000


def test_dissect_asks_a_network_of_somebodys_for_no_classes(own, tmp_path):
    config = tmp_path / "data.yaml"
    config.write_text("data: {name: toybirds, preset: standard, train_size: 20, val_size: 20, test_size: 20}\n")
    asked = (own, f"data={config}", "model.preprocess=unit", "layers=1", "net2vec=none", "pictures=1", "shown=1")
    answer = ibd("dissect", *asked, "--out", tmp_path / "there")  # it tells 6 classes, and the data has 20
    assert answer.code == 0, answer.err
    assert len(rows(tmp_path / "there" / "units.csv")) == 8
