"""`ibd test by=`, `ibd ablate`, `ibd continuity` and `ibd explain degrees=` through the command line."""

import csv
import json
import shutil

import pytest

from tests.command import ibd
from tests.integration.test_verbs import is_picture

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


def test_by_group(baseline, own, tmp_path, monkeypatch):
    run = shutil.copytree(baseline, tmp_path / "run")
    answer = ibd("test", run, "by=wing,eye+foot")
    assert answer.code == 0, answer.err
    assert answer.out.count("worst: ") == 2
    assert is_picture(run / "figures" / "by_wing.png")
    assert f"figure: {run / 'figures' / 'by_wing.png'}" in answer.out.splitlines()
    written = json.loads((run / "test.json").read_text())
    groups = [name for name in written if name.startswith("test/wing=") and name.endswith("/images")]
    right = sum(written[name] * written[name.removesuffix("images") + "accuracy"] for name in groups)
    assert right / sum(written[name] for name in groups) == pytest.approx(written["test/accuracy"], abs=1e-6)
    assert "test/wing=" not in answer.out
    assert "there is no column or concept 'wings'. Did you mean 'wing'" in ibd("test", run, "by=wings").mistake
    monkeypatch.chdir(tmp_path)
    data = ["data=toybirds/tiny", "data.train_size=20", "data.val_size=10", "data.test_size=24"]
    theirs = ibd("test", own, *data, "model.preprocess=unit", "by=wing")
    assert theirs.code == 0, theirs.err
    assert "test/accuracy" in theirs.out
    assert "confidence - accuracy" in theirs.out
    assert is_picture(tmp_path / "make" / "by_wing.png")


def test_ablate(baseline, tmp_path):
    asked = ("layers=backbone.stage2.relu,backbone", "fit_images=24", "images=16", "draws=2", "counts=4")
    answer = ibd("ablate", baseline, *asked, "--out", tmp_path)
    assert answer.code == 0, answer.err
    with (tmp_path / "unit_ablation.csv").open() as file:
        found = list(csv.DictReader(file))
    assert {row["layer"] for row in found} == {"backbone.stage2.relu", "backbone"}
    assert found[0]["most_relevant"] == found[0]["least_relevant"] == found[0]["random"]
    assert "semantic coverage" in answer.out
    assert is_picture(tmp_path / "unit_ablation.png")
    assert is_picture(tmp_path / "unit_coverage.png")
    assert ibd("ablate", baseline, "orders=some").mistake == "ablate: orders: 'some' is not one of class, all"
    assert "there is no option 'layer'. Did you mean 'layers'" in ibd("ablate", baseline, "layer=backbone").mistake


def test_continuity_and_sight(baseline, own, bird, tmp_path):
    picture = tmp_path / "moved.png"
    answer = ibd("continuity", baseline, bird, "explainers=saliency,gradcam", "steps=2", "--figure", picture)
    assert answer.code == 0, answer.err
    assert "moved 2 times by 1 pixel to the right" in answer.out
    assert is_picture(picture)
    model = ["model.preprocess=unit", "model.image_size=32"]
    assert ibd("continuity", own, bird, *model, "explainers=saliency", "--figure", picture).code == 0
    seen = ibd("explain", baseline, bird, "explainers=saliency", "degrees=4", "--figure", picture)
    assert seen.code == 0, seen.err
    assert "without what nobody sees at 4 degrees: " in seen.out
    assert "of its map lies where nobody sees a detail" in seen.out
    hidden = ("target=neuron:backbone.stage2:1", "explainers=saliency", "degrees=4", "--figure", picture)
    answer = ibd("explain", baseline, bird, *hidden)
    assert "without what nobody sees at 4 degrees: " in answer.out, answer.err
    assert "degrees: 0.0 given" in ibd("explain", baseline, bird, "degrees=0").mistake
