"""`ibd visualize`, `ibd dream` and `ibd invert` through the command line."""

import csv
import signal
from unittest import mock

import pytest

from ibd.explain.feature_visualization import dream, recipes
from tests.command import ibd


@pytest.fixture
def picture(tmp_path):
    """An image file; what is on it does not matter here."""
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((40, 36)).convert("RGB").save(path)
    return path


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_classes_by_two_recipes(baseline, tmp_path):
    asked = ("marsh_wren", "1", "recipes=fourier,maco", "steps=3", "images=8", "--out", tmp_path / "made.png")
    answer = ibd("visualize", baseline, *asked)
    assert answer.code == 0, answer.err
    rows = table(tmp_path / "made.csv")
    assert [row["recipe"] for row in rows] == ["fourier"] * 2 + ["maco"] * 2
    assert rows[0]["target"] == "marsh_wren"
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    assert (tmp_path / "made.png").stat().st_size > 5_000
    assert "mean probability" in answer.out


def test_channels_have_no_probability(baseline, tmp_path):
    asked = ("backbone.stage1.conv:3", "backbone.stage1.conv:0", "steps=2", "images=4", "--out", tmp_path / "made.png")
    answer = ibd("visualize", baseline, *asked)
    assert answer.code == 0, answer.err
    assert [row["probability"] for row in table(tmp_path / "made.csv")] == ["", ""]
    assert [row["target"] for row in table(tmp_path / "made.csv")] == ["channel 3", "channel 0"]


def test_a_dream_and_an_inversion(baseline, picture, tmp_path):
    asked = ("layer=backbone.stage1.conv", "octaves=2", "steps=2", "size=40", "--out", tmp_path / "dream.png")
    answer = ibd("dream", baseline, picture, *asked)
    assert answer.code == 0, answer.err
    assert "4 steps in 2 octaves" in answer.out
    assert (tmp_path / "dream.png").stat().st_size > 5_000
    answer = ibd("invert", baseline, picture, "steps=2", "size=24", "--out", tmp_path / "inverted.png")
    assert answer.code == 0, answer.err
    assert answer.out.count("of the squared activations not met") >= 2
    assert (tmp_path / "inverted.png").stat().st_size > 5_000


def pressing_ctrl_c(place, name, call):
    """Patch a function so that its call of that number presses Ctrl-C (a real SIGINT)."""
    real, calls = getattr(place, name), []

    def pressed(*arguments, **options):
        calls.append(0)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    return mock.patch.object(place, name, pressed)


def test_ctrl_c_leaves_what_is_done(baseline, picture, tmp_path):
    asked = ("0", "recipes=pixels,fourier,maco", "steps=2", "images=8", "--out", tmp_path / "made.png")
    with pressing_ctrl_c(recipes, "maximize_activation", 3):
        answer = ibd("visualize", baseline, *asked)
    assert answer.code == 0, answer.err
    assert "interrupted: 2 of 3 recipes are done" in answer.out
    assert [row["recipe"] for row in table(tmp_path / "made.csv")] == ["pixels", "fourier"]
    assert (tmp_path / "made.png").stat().st_size > 5_000
    with pressing_ctrl_c(recipes, "maximize_activation", 1):
        answer = ibd("visualize", baseline, *asked[:-1], tmp_path / "none.png")
    assert (answer.code, answer.err) == (130, "ibd: interrupted\n")
    assert not (tmp_path / "none.png").exists()
    with pressing_ctrl_c(dream, "_step", 4):
        asked = ("layer=backbone.stage1.conv", "octaves=2", "steps=2", "size=40", "--out", tmp_path / "dream.png")
        answer = ibd("dream", baseline, picture, *asked)
    assert answer.code == 0, answer.err
    assert "interrupted: what 3 steps made is drawn" in answer.out
    assert (tmp_path / "dream.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["visualize", "RUN", "dodo"], "visualize: no class is called 'dodo'"),
        (["visualize", "RUN", "recipes=furier"], "recipes: there is no 'furier'. Did you mean 'fourier'?"),
        (["visualize", "RUN", "step=3"], "visualize: there is no option 'step'. Did you mean 'steps'?"),
        (["visualize", "RUN", "backbone.stage1.conv:1", "0"], "one kind at a time"),
        (["visualize", "RUN", "back:1"], "no layer 'back' in"),
        (["visualize", "RUN", "size=3"], "visualize: size: 3 given, a number of pixels from 8"),
        (["dream", "RUN", "BIRD", "layer=backbone", "target=0"], "dream: a layer or a target is made stronger"),
        (["dream", "RUN", "none.png"], "none.png"),
        (["invert", "RUN", "BIRD", "layers=back"], "no layer 'back' in"),
    ],
)
def test_mistakes(baseline, picture, words, said, tmp_path):
    given = [{"RUN": baseline, "BIRD": picture}.get(word, word) for word in words]
    answer = ibd(*given, "--out", tmp_path / "x.png")
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
