"""Concept whitening through the command line: train, go on, look, edit; and the mistakes on the way."""

import contextlib
import json
from unittest import mock

import pytest
import torch

from ibd.training import finishing
from tests.command import SMALL, assert_same_weights, checkpoint, fitted, ibd, rows

MODEL = """
name: whitened
model:
  name: concept_whitening
  layers: [stage2.norm, stage3.norm]
  concepts: [wing::red_oval, wing::blue_oval, eye::ring, eye::slit]
  activation: mean
  alignment: {every: 3, images: 4}
  backbone: {name: small_cnn, width: 8, depth: 3}
data: {name: toybirds, preset: tiny, batch_size: 16}
optimizer: {lr: 0.01}
trainer: {max_epochs: 3}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A trained run with its report, the same one stopped after an epoch and resumed, a baseline."""
    place = tmp_path_factory.mktemp("whitening")
    (place / "whitened.yaml").write_text(MODEL)
    backbone = MODEL.index("  backbone:")
    (place / "baseline.yaml").write_text("name: baseline\nmodel:\n  name: baseline\n" + MODEL[backbone:])
    small = (*SMALL, f"output={place}")
    whole = fitted(place / "whitened.yaml", *small)
    part = fitted(place / "whitened.yaml", *small, "name=part", "optimizer.schedule=constant", "trainer.max_epochs=1")
    constant = fitted(place / "whitened.yaml", *small, "name=constant", "optimizer.schedule=constant")
    baseline = fitted(place / "baseline.yaml", *small, "name=baseline")
    return {"whole": whole, "part": part, "constant": constant, "baseline": baseline, "place": place}


@pytest.mark.slow
def test_a_run_shows_its_axes(tmp_path):
    (tmp_path / "whitened.yaml").write_text(MODEL)
    run = fitted(tmp_path / "whitened.yaml", *SMALL, f"output={tmp_path}", "logger.figures_every=1")
    assert "val/axis_purity" in rows(run)[0]
    assert "train/axis_activation" in rows(run)[0]
    for name in ("axes_auc_val", "axes_top_images_val", "validation_epoch_000"):
        assert (run / "figures" / f"{name}.png").stat().st_size > 10_000
    state = checkpoint(run)["state_dict"]
    rotation = state["network.backbone.stage3.norm.rotation"]
    torch.testing.assert_close(rotation @ rotation.t(), torch.eye(32), atol=1e-5, rtol=0)
    assert not torch.equal(rotation, torch.eye(32))


def test_a_resumed_training_is_the_uninterrupted_one(runs):
    answer = ibd("fit", f"resume={runs['part']}", "trainer.max_epochs=3")
    assert answer.code == 0, answer.err
    assert rows(runs["part"]) == rows(runs["constant"])
    assert_same_weights(runs["part"], runs["constant"])


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_killed_while_it_was_finished_the_run_is_the_uninterrupted_one(kept, tmp_path):
    """Before, between and after the last and the best checkpoint, neither of which is finished from a finished one."""
    (tmp_path / "whitened.yaml").write_text(MODEL)
    config = (
        tmp_path / "whitened.yaml",
        *SMALL,
        "trainer.max_epochs=2",
        "checkpoint.monitor=lr",
        "checkpoint.mode=max",
    )
    whole = fitted(*config, f"output={tmp_path}", "optimizer.schedule=step", "optimizer.step_epochs=1")
    real, calls = finishing._finish_checkpoint, []

    def dying(*given):
        if len(calls) == kept:
            raise LookupError
        calls.append(given)
        return real(*given)

    with mock.patch.object(finishing, "_finish_checkpoint", dying), contextlib.suppress(LookupError):
        ibd("fit", *config, f"output={tmp_path}", "name=part", "optimizer.schedule=step", "optimizer.step_epochs=1")
    (run,) = (tmp_path / "part").iterdir()
    assert ibd("fit", f"resume={run}").code == 0
    assert [checkpoint(whole, which)["epoch"] for which in ("best", "last")] == [0, 1]
    for which in ("best", "last"):
        assert_same_weights(whole, run, which)
    assert (run / "finished.json").read_text() == (whole / "finished.json").read_text()


OWN = """
from torch import nn
from ibd.backbones.small import SmallCNN

class Dropping(SmallCNN):
    def __init__(self, width: int = 8):
        super().__init__(width, 3)
        self.drop = nn.Dropout(0.3)
"""


@pytest.mark.slow
def test_a_resumed_training_with_dropout_and_accumulation(runs, monkeypatch):
    """The passes draw nothing from the random state of the training, and none comes twice."""
    place = runs["place"]
    (place / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(place))
    text = MODEL.replace("name: small_cnn, width: 8, depth: 3", "name: 'own:Dropping'").replace("every: 3", "every: 2")
    (place / "dropping.yaml").write_text(text)
    common = (*SMALL, f"output={place}", "optimizer.schedule=constant", "trainer.accumulate_grad_batches=2")
    whole = fitted(place / "dropping.yaml", *common, "name=dropping", "trainer.max_epochs=2")
    part = fitted(place / "dropping.yaml", *common, "name=dropped", "trainer.max_epochs=1")
    assert ibd("fit", f"resume={part}", "trainer.max_epochs=2", "--trust").code == 0
    assert_same_weights(part, whole)


def test_axes(runs):
    out = runs["place"] / "axes"
    answer = ibd("axes", runs["whole"], "--baseline", runs["baseline"], "--images", 2, "--top", 3, "--out", out)
    assert answer.code == 0, answer.err
    said = dict(line.split() for line in answer.out.splitlines() if len(line.split()) == 2 and ":" not in line)
    assert 0 <= float(said["axis_purity"]) <= 1
    assert float(said["correlation"]) < float(said["correlation_baseline"])
    assert json.loads((out / "axes.json").read_text())["figures"]["axis_purity"] == pytest.approx(
        float(said["axis_purity"]), abs=1e-3
    )
    for name in ("auc", "correlation", "importance", "purity", "trajectory", "top_images", "maps_test"):
        assert (out / f"{name}.png").is_file(), name


def test_predict_and_intervene(runs, bird):
    answer = ibd("predict", runs["whole"], bird, "--figure", runs["place"] / "figure.png", "--top", 3)
    assert answer.code == 0, answer.err
    assert "axis" in answer.out
    assert "they do not add up" in answer.out
    answer = ibd("intervene", runs["whole"], bird, "wing::red_oval=0", "eye::ring=x2", "axis 7=1.5")
    assert answer.code == 0, answer.err
    row = next(line for line in answer.out.split("\nafter")[1].splitlines() if "wing::red_oval " in line)
    assert "0.00*" in row
    answer = ibd("intervene", runs["whole"], bird, "wing::red_oval=twice")
    assert answer.mistake.startswith("'wing::red_oval=twice': a number is needed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.layers=[stage4.norm]"], "model.layers: SmallCNN has no batch normalization 'stage4.norm'"),
        (["model.alignment.evry=3"], "Did you mean: 'every'?"),
        (["model.activation=median"], "Invalid value 'median'"),
        (["model.whitening.shrinkage=2"], "model.whitening.shrinkage"),
        (["model.concepts=[wing::purple]"], "the data has no concept 'wing::purple'"),
        (["model.concept_folder=nowhere"], "model.concept_folder: there is no folder 'nowhere'"),
        (["model.backbone.norm=group"], "has no batch normalization for concept whitening to replace"),
        (["model.backbone.width=1", "model.layers=[stage1.norm]"], "has no axes for 4 concepts"),
    ],
)
def test_mistakes(changes, message, runs):
    answer = ibd("fit", runs["place"] / "whitened.yaml", *SMALL, f"output={runs['place']}", *changes)
    assert message in answer.mistake


def test_axes_of_what_has_none(runs):
    message = ibd("axes", runs["baseline"]).mistake
    assert message.startswith("a Baseline has no axes that stand for concepts (its units are channels)")
    message = ibd("axes", runs["whole"], "--baseline", runs["whole"]).mistake
    assert message.startswith("the baseline is a ConceptWhitening: a run of model.name=baseline is needed")
    message = ibd("fit", runs["place"] / "baseline.yaml", *SMALL, f"model.backbone.init_from={runs['whole']}").mistake
    assert message.endswith("it was trained with concept whitening")
