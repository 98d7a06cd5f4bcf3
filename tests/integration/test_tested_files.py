"""`ibd test` says where a model is wrong: in lines, tables and a summary that agree, and with scikit-learn."""

import csv
import json
import os
import shutil
import time

import pytest
import torch

import ibd as package
from ibd.io import load_run
from ibd.training.tested import saving
from tests.command import QUIET, ROOT, ibd
from tests.data_makers import make_concept_folder, write_rows
from tests.integration.test_verbs import is_picture

PICTURES = ("calibration", "classes", "concepts", "confusion", "worst")
OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
"""


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, which the test may change."""
    return shutil.copytree(trained, tmp_path / "run")


def table(folder, name):
    """Return the rows of a table of a test."""
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def strict(path):
    """Return what a file of JSON holds, which has no NaN."""
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def test_tables_summary_and_lines_say_the_same(run):
    metrics = pytest.importorskip("sklearn.metrics")
    answer = ibd("test", run, "by=wing")
    assert answer.code == 0, answer.err
    folder = run / "tested" / "test"
    assert all(is_picture(folder / f"{name}.png") for name in PICTURES)
    images, classes, said = table(folder, "images"), table(folder, "classes"), strict(folder / "summary.json")
    truth, guess = [row["truth"] for row in images], [row["predicted"] for row in images]
    names = [row["class"] for row in classes]
    matrix = metrics.confusion_matrix(truth, guess, labels=names)
    assert [[int(row[name]) for name in names] for row in table(folder, "confusion")] == matrix.tolist()
    precision, recall, _, support = metrics.precision_recall_fscore_support(truth, guess, labels=names, zero_division=0)
    for at, row in enumerate(classes):
        assert int(row["images"]) == support[at]
        assert float(row["recall"]) == pytest.approx(recall[at])
        if row["precision"]:
            assert float(row["precision"]) == pytest.approx(precision[at])
    accuracy = metrics.accuracy_score(truth, guess)
    assert said["accuracy"]["value"] == pytest.approx(accuracy)
    assert answer.figures["test/accuracy"] == f"{said['metrics']['accuracy']['value']:.4f}" == f"{accuracy:.4f}"
    wrong = sum(row["right"] == "false" for row in images)
    assert f"where it is wrong: {wrong} of 60 test images" in answer.out
    worst = said["worst"]["images"][0]
    assert f"surest error: {worst['file']} is {worst['truth']}, taken for {worst['predicted']}" in answer.out
    assert (images[worst["index"]]["file"], images[worst["index"]]["right"]) == (worst["file"], "false")
    assert sum(int(row["images"]) for row in table(folder, "by_wing")) == 60
    assert {row["wing"] for row in images} == {row["wing"] for row in table(folder, "by_wing")}
    assert said["about"]["checkpoint"] == "best.ckpt"


def test_concepts_are_those_of_scikit_learn(run):
    metrics = pytest.importorskip("sklearn.metrics")
    assert ibd("test", run).code == 0
    model, data = load_run(run)
    dataset = data.dataset("test")
    values = model.predict(torch.stack([dataset[i].image for i in range(len(dataset))])).unit_values.double()
    for at, row in enumerate(table(run / "tested" / "test", "concepts")):
        truth, stated = dataset.concepts[:, at], values[:, at]
        assert float(row["accuracy"]) == pytest.approx(metrics.accuracy_score(truth, stated > 0.5))
        assert int(row["yes"]) == int(truth.sum())
        if 0 < truth.sum() < len(truth):
            assert float(row["auroc"]) == pytest.approx(metrics.roc_auc_score(truth, stated), abs=1e-6)
            wanted = metrics.average_precision_score(truth, stated)
            assert float(row["average_precision"]) == pytest.approx(wanted, abs=1e-5)
    mean = [float(row["auroc"]) for row in table(run / "tested" / "test", "concepts") if row["auroc"]]
    written = json.loads((run / "test.json").read_text())
    assert sum(mean) / len(mean) == pytest.approx(written["test/concept_auroc"], abs=1e-5)


def test_another_split_leaves_the_figures_of_the_test(run):
    ibd("test", run)
    before = (run / "test.json").read_text()
    answer = ibd("test", run, "--split", "val", "by=wing")
    assert answer.code == 0, answer.err
    assert set(answer.figures) >= {"val/accuracy", "val/concept_auroc", "val/accuracy_without_named"}
    assert (run / "test.json").read_text() == before
    assert not (run / "figures" / "by_wing.png").exists()
    said = strict(run / "tested" / "val" / "summary.json")
    assert (said["split"], said["images"]) == ("val", len(load_run(run)[1].dataset("val")))
    assert "tested/val" in answer.out


def test_one_pass_over_the_images(run, monkeypatch):
    """The tables are made of what the one pass has put out: no image is computed a second time."""
    from ibd.models.cbm.network import ConceptBottleneckNetwork

    seen = []
    forward = ConceptBottleneckNetwork.forward
    monkeypatch.setattr(
        ConceptBottleneckNetwork, "forward", lambda self, image: (seen.append(len(image)), forward(self, image))[1]
    )
    assert ibd("test", run, "by=wing").code == 0
    assert sum(seen) == 60


def test_what_is_killed_while_it_writes_leaves_the_earlier_test(run, monkeypatch):
    ibd("test", run)
    folder = run / "tested" / "test"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def killed(scored):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "pictures", killed)
    assert ibd("test", run, "data.test_size=12").code == 130
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["test"]
    left = folder.parent / ".test-1"  # by a kill that lets nothing be cleared away
    left.mkdir()
    os.utime(left, (time.time() - 7200,) * 2)
    monkeypatch.undo()
    ibd("test", run, "data.test_size=12")
    assert [path.name for path in folder.parent.iterdir()] == ["test"]
    assert strict(folder / "summary.json")["images"] == 12


def test_a_network_of_anybodys(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    data = ["data=toybirds/tiny", "data.train_size=20", "data.val_size=10", "data.test_size=24"]
    answer = ibd("test", "own_network:make", *data, "model.preprocess=unit")
    assert answer.code == 0, answer.err
    folder = tmp_path / "make" / "tested" / "test"
    assert len(table(folder, "images")) == 24
    said = strict(folder / "summary.json")
    assert answer.figures["test/ece"] == f"{said['calibration']['classes']['error']:.4f}"
    assert said["about"]["network"] == "own_network:make"
    assert not (folder / "concepts.csv").exists()


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """A bottleneck of a few photographs: odd names, unknown concepts, and no test image of one class."""
    place = tmp_path_factory.mktemp("odd")
    root = make_concept_folder(place / "data", train=6, val=3, test=3, concepts="image")
    shutil.rmtree(root / "test" / "owl")
    odd = root / "test" / "cat" / '<b>a, "b";c.png'
    (root / "test" / "cat" / "000.png").rename(odd)
    rows = list(csv.reader((root / "concepts.csv").open()))
    rows = [[row[0].replace("test/cat/000.png", f"test/cat/{odd.name}"), *row[1:]] for row in rows]
    rows = [row for row in rows if not row[0].startswith("test/owl")]
    rows = [[row[0], *([""] * 4 if "test/dog" in row[0] else row[1:5]), row[5]] for row in rows]
    write_rows(root / "concepts.csv", rows)
    few = ("data.image_size=32", "model.backbone=small_cnn", "model.backbone.weights=null", "trainer.max_epochs=1")
    answer = ibd("fit", ROOT / "configs/folder/cbm.yaml", *QUIET, *few, f"data.root={root}", f"output={place}")
    assert answer.code == 0, answer.err
    return answer.run


def test_a_class_without_images_unknown_concepts_and_odd_names(folder_run):
    answer = ibd("test", folder_run)
    assert answer.code == 0, answer.err
    folder = folder_run / "tested" / "test"
    images, classes, concepts = (table(folder, name) for name in ("images", "classes", "concepts"))
    assert [row["file"] for row in images if row["truth"] == "cat"][-1].endswith('test/cat/<b>a, "b";c.png')
    (owl,) = (row for row in classes if row["class"] == "owl")
    assert (owl["images"], owl["recall"], owl["auroc"]) == ("0", "", "")
    (legs,) = (row for row in concepts if row["concept"] == "legs::two")
    assert (legs["known"], legs["unknown"], legs["auroc"]) == ("3", "3", "")
    assert {row["concepts_known"] for row in images if row["truth"] == "dog"} == {"1"}
    strict(folder / "summary.json")
    assert is_picture(folder / "confusion.png")


def test_the_predictions_are_those_of_predict(folder_run):
    """Of a calibrated model, too, whose probabilities and abstentions are those that `ibd predict` writes."""
    package.calibrate(folder_run, fit_share=1.0, coverage=None, accuracy=0.2, certainty=None)
    assert ibd("test", folder_run).code == 0
    images = table(folder_run / "tested" / "test", "images")
    assert strict(folder_run / "tested" / "test" / "summary.json")["calibrated"]
    model, data = load_run(folder_run)
    dataset = data.dataset("test")
    found = model.predict(torch.stack([dataset[i].image for i in range(len(dataset))])).to_dict()
    assert [row["predicted"] for row in images] == found["class"]
    assert [float(row["confidence"]) for row in images] == pytest.approx(found["probability"], abs=1e-5)
    assert [row["abstains"] == "true" for row in images] == found["abstains"]


def test_mistakes(trained):
    assert "invalid choice: 'tests'" in ibd("test", trained, "--split", "tests").mistake
    assert "there is no column or concept 'wings'" in ibd("test", trained, "--split", "val", "by=wings").mistake
