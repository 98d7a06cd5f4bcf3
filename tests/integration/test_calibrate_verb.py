"""`ibd calibrate` on a run that has learnt something, and what other verbs make of it."""

import json
import shutil

import pytest
import torch

import ibd as package
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.io import CALIBRATION_KEY, load_model, load_run, read_checkpoint
from ibd.training.runner import evaluate
from tests.command import ibd
from tests.integration.test_verbs import is_picture


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, which the test may change."""
    return shutil.copytree(trained, tmp_path / "run")


def test_calibrate_predict_test(run, bird):
    plain = ibd("test", run).figures
    answer = ibd("calibrate", run, "coverage=0.8", "accuracy=0.6", "certainty=null")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines[:4]] == ["classes", "concepts", "sets", "abstains"]
    assert is_picture(run / "figures" / "reliability_val.png")
    assert "at coverage 80 %: " in ibd("predict", run, bird).out
    assert "of corrected ones it promises nothing" in ibd("intervene", run, bird, "wing=red_oval").out
    tested = ibd("test", run).figures
    assert tested.items() >= plain.items()  # what it was scored by before is as it was
    written = json.loads((run / "test.json").read_text())
    shown = {name.removeprefix("test/"): value for name, value in tested.items() if name not in plain}
    assert list(shown) == [
        *("ece", "nll", "ece_calibrated", "nll_calibrated", "concept_ece", "concept_ece_calibrated"),
        *("set_coverage", "set_size", "kept_share", "kept_accuracy"),
    ]
    assert shown["ece"] == f"{written['test/ece']:.4f}"
    low, high = written["test/set_coverage_low"], written["test/set_coverage_high"]
    assert shown["set_coverage"] == f"{written['test/set_coverage']:.4f} [{low:.4f}, {high:.4f}]"
    assert is_picture(run / "figures" / "reliability_test.png")


def test_the_figures_are_those_of_the_predictions(run):
    """Counted from what `predict` says of the test images, one way round and the other."""
    package.calibrate(run, coverage=0.7, accuracy=0.5, certainty=None)
    result = evaluate(run)
    model, data = load_run(run)
    dataset = data.dataset("test")
    found = model.predict(torch.stack([dataset[i].image for i in range(len(dataset))]))
    inside = found.class_sets.gather(1, dataset.labels.unsqueeze(1)).float()
    assert result["test/set_coverage"] == pytest.approx(float(inside.mean()))
    assert result["test/set_size"] == pytest.approx(float(found.class_sets.sum(1).float().mean()))
    kept = ~found.abstains
    assert result["test/kept_share"] == pytest.approx(float(kept.float().mean()))
    assert result["test/kept_accuracy"] == pytest.approx(float((found.labels == dataset.labels)[kept].float().mean()))
    own = found.probabilities.gather(1, dataset.labels.unsqueeze(1)).log().mean()
    assert result["test/nll_calibrated"] == pytest.approx(-float(own), abs=1e-5)


def test_it_reads_the_images_once_and_never_those_of_the_test(run, monkeypatch):
    asked, ask = [], ToyBirds.loader
    monkeypatch.setattr(ToyBirds, "loader", lambda self, split, **o: asked.append(split) or ask(self, split, **o))
    package.calibrate(run)
    assert asked == ["val"]


def test_a_second_calibration_takes_the_place_of_the_first_and_none_takes_it_away(run):
    weights = load_model(run).state_dict()
    assert ibd("calibrate", run, "method=vector", "concept_method=none").code == 0
    assert load_model(run).calibration.classes.method == "vector"
    assert ibd("calibrate", run, "coverage=null").code == 0
    assert (load_model(run).calibration.classes.method, load_model(run).calibration.sets) == ("temperature", None)
    assert ibd("calibrate", run, "method=none", "coverage=null").code == 0
    assert load_model(run).calibration is None
    assert CALIBRATION_KEY not in read_checkpoint(run / "checkpoints" / "best.ckpt")
    assert all(torch.equal(value, weights[name]) for name, value in load_model(run).state_dict().items())
    assert not list((run / "checkpoints").glob("*.tmp"))


@pytest.mark.slow
def test_a_training_that_goes_on_leaves_it_behind(run):
    package.calibrate(run, which="last")
    assert CALIBRATION_KEY in read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert ibd("fit", f"resume={run}", "trainer.max_epochs=6").code == 0
    assert CALIBRATION_KEY not in read_checkpoint(run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["covrage=0.9"], "Key 'covrage' not in 'Choices'. Did you mean one of: 'coverage'"),
        (["coverage=1"], "coverage: 1 given, a number between 0 and 1 is needed"),
        (["method=platt"], "method: Invalid value 'platt', expected one of"),
        (["split=test"], "split: 'test' given: what is chosen on test images says nothing about them"),
        (["split=train"], "split: 'train' given: the model was trained on these images"),
        (["split=train", "data.batch_size=8"], "choose by val, or by train of other data (data.root=FOLDER)"),
        (["score=aps", "fit_share=0"], "fit_share: 0 given, a number above 0 and up to 1 is needed"),
        (["randomized=true"], "randomized: sets by score 'lac' have no randomness"),
        (["accuracy=1"], "accuracy: 1 given, which is never certain"),
        (["coverage"], "'coverage': key=value is needed"),
    ],
)
def test_mistakes(run, changes, message):
    assert message in ibd("calibrate", run, *changes).mistake


def test_too_few_images(run):
    message = ibd("calibrate", run, "coverage=0.999").late_mistake
    assert "coverage: 0.999 given, for which at least 999 images must choose the threshold" in message
    assert load_model(run).calibration is None
