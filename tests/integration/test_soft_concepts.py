"""Toy birds in a folder, as three people annotate them: words, soft values, and a length, through the command line."""

import json

import pytest
import torch

import ibd
from ibd.io import load_run
from ibd.training.runner import evaluate
from tests.command import QUIET, ibd as command, rows
from tests.data_makers import write_rows
from tests.soft_birds import write_soft_birds

CONFIG = """
base: folder/cbm
name: soft
data:
  root: birds
  image_size: 32
  augment: none
  num_workers: 0
  concepts: [annotator_0.csv, annotator_1.csv, annotator_2.csv]
model:
  softmax_groups: [beak, eye, foot]
  imbalance: none
  backbone: {name: small_cnn, width: 16, depth: 3, weights: null}
optimizer: {lr: 0.01}
trainer: {max_epochs: 1}
"""


def start(folder, **options):
    """Write birds and a config."""
    names, sizes = write_soft_birds(folder / "birds", scale=0.5, **options)
    (folder / "soft.yaml").write_text(CONFIG)
    return names, sizes


def fit(*changes):
    answer = command("fit", "soft.yaml", *QUIET, "logger.figures_every=0", *changes)
    assert answer.code == 0, answer.err
    return answer.run


def test_from_annotations_to_an_intervention_in_pixels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, sizes = start(tmp_path, train_size=60, val_size=24, test_size=12)
    run = fit()
    assert {"val/r2_size", "val/mae_size", "val/concept_auroc"} <= rows(run)[-1].keys()
    image = f"birds/{next(path for path in sizes if path.startswith('test'))}"
    answer = command("intervene", run, image, "size=25", "foot=blue_claw", "--top", 0)
    assert answer.code == 0, answer.err
    assert "25.00 px*" in answer.out
    model = ibd.load_model(run)
    quantity = model.spec.quantities["size"]
    before = model.predict(image)
    after = before.intervene({"size": 25})
    weight = model.network.head.weight[:, model.network.unit_index("size")]
    change = (25 - before.unit_values[0, model.network.unit_index("size")]) / quantity.deviation
    torch.testing.assert_close(after.logits[0], before.logits[0] + (change * weight).detach())
    assert command("intervene", run, image, "plain_tail=2").mistake.endswith("a truth value from 0 to 1 is needed")


@pytest.mark.slow
def test_what_else_reads_a_length(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start(tmp_path, train_size=60, val_size=24, test_size=12)
    assert command("data", "soft.yaml", "birds.png").code == 0
    run = fit()
    model, data = load_run(run)
    assert command("curve", run, "--trials", 2).code == 0
    assert command("compare", run, "explainers=intrinsic", "images=4", "--out", "report").code == 0
    assert 'class="card panel live"' in (tmp_path / "report" / "index.html").read_text()
    assert command("export", run, "birds.pt2").code == 0
    extra = {"ibd.json": ""}
    program = torch.export.load("birds.pt2", extra_files=extra).module()
    assert json.loads(extra["ibd.json"])["quantities"] == {"size": "px"}
    values = program(data.dataset("test")[0].image[None])[2]
    torch.testing.assert_close(values, model.predict(data.dataset("test")[0].image[None]).unit_values)


def test_a_length_that_never_differs_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    start(tmp_path, train_size=40, val_size=16, test_size=1, annotators=1)
    header, *lines = (tmp_path / "birds" / "annotator_0.csv").read_text().splitlines()
    write_rows("birds/concepts.csv", [header.split(","), *([*line.split(",")[:-1], "3"] for line in lines)])
    fit("data.concepts=null")
    assert "teach nothing about these concepts: never different: 'size'" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["joint", "sequential", "independent"])
def test_a_length_is_learned(tmp_path, monkeypatch, regime):
    monkeypatch.chdir(tmp_path)
    start(tmp_path, train_size=1200, val_size=200, test_size=300)
    run = fit("trainer.max_epochs=8", f"model.regime={regime}")
    scores = evaluate(run)
    assert scores["test/r2_size"] > 0.8
    assert scores["test/concept_accuracy"] > 0.9
