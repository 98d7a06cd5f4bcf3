"""`ibd fool` and `ibd spray` on small data: files, names, and bad requests in one line."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from ibd import cli
from ibd.app.fool import show_fooling
from ibd.app.spray import show_spray
from ibd.errors import ConfigError

CONFIG = """
name: small
model: {name: baseline, backbone: {name: small_cnn}}
data: {name: toybirds, preset: tiny, train_size: 60, val_size: 12, test_size: 24, tag: patch}
"""
DATA = ["data=toybirds.yaml", "model.preprocess=unit"]


class Tiny(nn.Module):
    """A network of two convolutions, with weights that are always the same."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 6, 3, 2))

    def forward(self, image):
        return self.body(image).mean((2, 3))


def make():
    return Tiny()


def other():
    return Tiny(1)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    (tmp_path / "toybirds.yaml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_spray_writes_a_picture_for_each_class_and_names_what_relevance_lies_on(tmp_path):
    names = class_names()
    options = [f"classes={names[0]}", "neighbors=3", "most=3", "draws=3", "examples=2", "split=train"]
    lines = list(show_spray("test_fool_and_spray:make", [*DATA, *options], str(tmp_path / "out")))
    table = rows(tmp_path / "out" / "spray.csv")
    assert {row["class"] for row in table} == {names[0]}
    assert {row["lies_on"] for row in table} == {"beak", "eye", "foot", "tail", "wing", "tag"}
    first = [row for row in table if row["cluster"] == "1"]
    assert sum(float(row["share"]) for row in first) <= 1.3  # parts may overlap
    assert (tmp_path / "out" / f"{names[0]}.png").exists()
    assert any("strangest" in line for line in lines)


def class_names():
    from ibd.comparison.sources import find_data

    return find_data("toybirds.yaml", []).spec.class_names


def test_fool_says_what_is_left_and_who_fools_whom(tmp_path):
    options = ["images=4", "fit_images=4", "shown=2", "steps=2", "epochs=1", "explainers=saliency", "radius=16/255"]
    runs = ["test_fool_and_spray:make", "test_fool_and_spray:other"]
    lines = list(show_fooling(runs, [*DATA, *options], str(tmp_path / "out")))
    assert any(line.startswith("made") or "made for" in line for line in lines)
    table = rows(tmp_path / "out" / "universal.csv")
    assert [row["made_for"] for row in table] == ["make", "other", "noise"]
    left = rows(tmp_path / "out" / "make" / "robustness.csv")
    assert [float(row["radius"]) for row in left] == pytest.approx([8 / 255, 16 / 255, 32 / 255], rel=1e-4)
    assert (tmp_path / "out" / "other" / "fooled.png").exists()
    assert (tmp_path / "out" / "universal.png").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("norm=l1", "norm: 'l1' is not one of linf, l2"),
        ("norm=l2", "needs radius="),
        ("radius=a/b", "radius: 'a/b' given"),
        ("radius=0", "radius: '0' given"),
        ("budget=1", "no option 'budget'"),
        ("split=train", "split=train: the universal perturbation is made of its images"),
    ],
)
def test_bad_options_of_fool_are_one_line(change, message):
    with pytest.raises(ConfigError, match=message):
        list(show_fooling(["test_fool_and_spray:make"], [*DATA, change], None))


def test_bad_options_of_spray_are_one_line():
    for change, message in (("explainer=lrp,gradcam", "one is needed"), ("classes=ostrich", "no class 'ostrich'")):
        with pytest.raises(ConfigError, match=message):
            list(show_spray("test_fool_and_spray:make", [*DATA, change], None))


def test_the_verbs_are_there(capsys):
    for verb in ("fool", "spray"):
        with pytest.raises(SystemExit):
            cli.main([verb, "--help"])
        assert "RUN" in capsys.readouterr().out
