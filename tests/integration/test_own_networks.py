"""A network of anybody's on the command line, as its user calls it."""

import csv
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.command import ibd

ROOT = Path(__file__).parents[2]
MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, classes)

    def forward(self, x):
        return {"logits": self.fc(torch.relu(self.conv(x)).mean((2, 3)))}

def make():
    return Net()

def binary():
    return Net(1)

def prepare(x):
    return 2 * x - 1

def fails():
    raise FileNotFoundError("no weights.pt")

number = 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a module of networks and photographs of two classes."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "strangers.py").write_text(MODULE)
    for name, color in (("blue", (20, 40, 200)), ("red", (200, 30, 20))):
        (folder / "photographs" / name).mkdir(parents=True)
        for number in range(6):
            pixels = torch.randint(0, 30, (24, 20, 3), generator=torch.Generator().manual_seed(number))
            picture = (pixels + torch.tensor(color)).clamp(0, 255).to(torch.uint8).numpy()
            Image.fromarray(picture).save(folder / "photographs" / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def _there(place, _alone, monkeypatch):
    """Work where the module and the photographs are."""
    monkeypatch.chdir(place)


OPTIONS = [
    "data.image_size=16",
    "images=12",
    "shown=2",
    "metrics=deletion,insertion",
    "explainers=gradcam,lrp,occlusion",
]


def test_compare(place):
    given = ["compare", "strangers:make", "strangers:binary", "data=photographs", *OPTIONS]
    done = ibd(*given, "model.preprocess=strangers:prepare", "--out", "report")
    assert done.code == 0, done.err
    assert "report/index.html" in done.out
    with (place / "report" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"make", "binary"}
    assert {"gradcam", "lrp", "occlusion"} <= {row["explainer"] for row in rows}


def test_explain(place):
    image = "photographs/red/1.png"
    options = ["model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]", "model.image_size=16"]
    options += ["model.class_names=[blue,red]", "target=red - blue", "explainers=gradcam,lrp"]
    done = ibd("explain", "strangers:make", image, *options)
    assert done.code == 0, done.err
    assert "red - blue" in done.out
    assert (place / "explained_1.png").stat().st_size > 5000


MISTAKES = {
    "no preprocess": (["explain", "strangers:make", "photographs/red/1.png"], "how is it fed"),
    "no module": (["explain", "stranger:make", "photographs/red/1.png"], "there is no module 'stranger'"),
    "no function": (["explain", "strangers:mak", "photographs/red/1.png", "model.preprocess=unit"], "Did you mean"),
    "no network": (["explain", "strangers:number", "photographs/red/1.png", "model.preprocess=unit"], "is a int"),
    "needs arguments": (
        ["explain", "torch.nn:Linear", "photographs/red/1.png", "model.preprocess=unit"],
        "without arguments",
    ),
    "fails": (["explain", "strangers:fails", "photographs/red/1.png", "model.preprocess=unit"], "no weights.pt"),
    "no size": (
        ["explain", "strangers:make", "photographs/red/1.png", "model.preprocess=unit", "model.image_size=abc"],
        "image_size: abc given",
    ),
    "no label": (
        [
            "explain",
            "strangers:make",
            "photographs/red/1.png",
            "model.preprocess=unit",
            "model.output=multilabel",
            "model.label=1.5",
        ],
        "a whole number from 0",
    ),
    "misspelt": (["explain", "strangers:make", "photographs/red/1.png", "model.preproces=unit"], "Did you mean"),
    "no data": (["compare", "strangers:make", "model.preprocess=unit"], "data: images"),
    "no folder": (
        ["compare", "strangers:make", "data=photograph", "model.preprocess=unit"],
        "Did you mean 'photographs'",
    ),
    "no options of a run": (["compare", "strangers:make", "data=photographs", "model.preproces=unit"], "Did you mean"),
}


@pytest.mark.parametrize(("given", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(given, message):
    assert message in ibd(*given).mistake


def test_the_page_runs():
    """The Python of docs/own_networks.md, but for that which needs a module of the reader's."""
    page = (ROOT / "docs" / "own_networks.md").read_text(encoding="utf-8")
    blocks = [
        text for text in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "mymodels" not in text
    ]
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "own_networks.md", "exec"), {})
