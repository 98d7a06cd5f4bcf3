"""`ibd why` through the command line: what it prints is what `ibd intervene` does."""

import shlex

import pytest
import torch
from torch import nn

from ibd import ForeignModel
from ibd.app.why import Question, _pixels
from tests.command import ibd


def commands(text):
    return [shlex.split(line) for line in text.splitlines() if line.strip().startswith("ibd intervene")]


def test_the_printed_command_changes_the_class(trained, tmp_path):
    answer = ibd("why", trained, "test:3", "--figure", tmp_path / "why.png")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == f"image: {trained / 'figures' / 'test_3.png'}"
    then = next(line for line in lines if line.startswith("  then: ")).removeprefix("  then: ").split()[0]
    change, enough = commands(answer.out)
    done = ibd(*change[1:])
    assert done.code == 0, done.err
    assert f"test_3.png: {then} " in done.out.split("after ")[1]
    before = lines[1].removeprefix("test:3: ").split()[0]
    assert f"test_3.png: {before} " in ibd(*enough[1:]).out.split("after ")[1]
    assert any(line.startswith("redrawn: ") for line in lines)  # the change, and what is enough, as birds
    assert any(line.startswith("  the model takes it for ") for line in lines)
    assert (tmp_path / "why.png").stat().st_size > 5_000


@pytest.mark.slow
def test_channels_of_an_image_file_and_its_pixels(baseline, bird, tmp_path):
    answer = ibd("why", baseline, bird, "smallest=amount", "pixels=true", "cell=8", "--figure", tmp_path / "why.png")
    assert answer.code == 0, answer.err
    assert "pixels, not " in answer.out
    assert "pixels, enough for " in answer.out
    assert "redrawn" not in answer.out
    assert (tmp_path / "why.png").stat().st_size > 5_000


def test_a_network_of_somebodys(bird, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), "
        "nn.Linear(48, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = ("model.preprocess=unit", "model.image_size=32", "cell=8")
    answer = ibd("why", "own_net:make", bird, *options, "--figure", tmp_path / "why.png")
    assert answer.code == 0, answer.err
    assert "pixels, not " in answer.out
    assert (tmp_path / "why.png").stat().st_size > 3_000


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        ("test:999", [], "why: 'test:999': the split 'test' has 60 images, counted from 0"),
        ("test:3", ["is=nosuch"], "why: there is no class 'nosuch'. Known: marsh_wren, "),
        ("test:3", ["smalest=count"], "why: there is no option 'smalest'. Did you mean 'smallest'?"),
        ("test:3", ["smallest=least"], "smallest: Invalid value 'least', expected one of ['count', 'amount']"),
        ("test:3", ["model.preprocess=unit"], "a run says itself how its model is asked"),
        (None, ["data.seed=1"], "'data.seed=1' is for an image of the run's data, such as test:17"),
    ],
)
def test_mistakes(trained, bird, image, changes, message):
    assert message in ibd("why", trained, image or bird, *changes).mistake


class Reads(nn.Module):
    """Of the second class where the first pixel is more red than green."""

    def forward(self, image):
        ahead = 10 * (image[:, 0, 0, 0] - image[:, 1, 0, 0])
        return torch.stack([torch.zeros_like(ahead), ahead], 1)


def pixels(image):
    steps = _pixels(ForeignModel(Reads(), "unit", class_names=["a", "b"]), image, Question(pixels=True, cell=1))
    lines = []
    while True:
        try:
            lines.append(next(steps))
        except StopIteration as end:
            return lines, end.value


def test_a_change_of_two_colors_that_adds_up_to_nothing_is_drawn():
    image = torch.full((1, 3, 8, 8), 0.5)
    image[0, 0, 0, 0] = 0.4
    _, drawn = pixels(image)
    red, green, blue = drawn.pictures[1][:, 0, 0] - 0.5
    assert red > 0.1 > -0.1 > green
    assert blue == 0
    assert float((drawn.pictures[1][:, 1:, 1:] - 0.5).abs().max()) == 0


def test_where_the_baseline_has_the_class_already_no_pixel_is_needed():
    image = torch.full((1, 3, 8, 8), 0.5)
    image[0, 0, :, :4] = 0.4
    lines, _ = pixels(image)
    assert lines[1].startswith("pixels, enough for a: none of them is needed; taken for a ")
