"""``ibd discover`` on small images of known contents: the page, the names, and what is refused."""

import csv
import re
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ibd
from ibd.app.discovery.options import DiscoverOptions
from ibd.data.class_folder import ClassFolder
from ibd.data.folder import ConceptFolder
from ibd.data.selection import Crops, SelectedImages
from ibd.errors import ConfigError, DataError, IbdError, UnsupportedError
from ibd.explain.directions import Directions
from tests.command import ibd as command

SIZE = 32


class Colors(nn.Module):
    """Its features are how red, green, blue and dark an 8 x 8 block is; its classes, green and red, read these two."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 4, 1), nn.ReLU())
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.features[1].weight[:, :, 0, 0] = torch.tensor([[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [-1.0, -1, -1]])
            self.features[1].bias[:] = torch.tensor([0.0, 0, 0, 1])
            self.head.bias[:] = 0
            self.head.weight[:] = torch.tensor([[0, 1.0, 0, 0], [1.0, 0, 0, 0]])

    def forward(self, image):
        return self.head(self.features(image).mean((2, 3)))


def paint(path, color, corner, generator):
    """Write a gray image with a square of a color, and return where it is."""
    pixels = generator.integers(110, 140, (SIZE, SIZE, 1)).repeat(3, 2)
    top, left = corner
    pixels[top : top + 8, left : left + 8] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes, by the color of a square; masks of the red ones; a table that says where there is one."""
    folder, generator = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    rows = [["image", "has_red"]]
    for name, color in {"green": (40, 220, 40), "red": (220, 40, 40)}.items():
        for number in range(14):
            corner = 8 * generator.integers(0, 4, 2)
            file = f"train/{name}/{number:02d}.png"
            paint(folder / file, color, corner, generator)
            rows.append([file, int(name == "red")])
            if name == "red":
                mask = np.zeros((SIZE, SIZE), np.uint8)
                mask[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8] = 255
                (folder / "masks" / "square" / "train" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(folder / "masks" / "square" / file)
    with (folder / "concepts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture
def data(root):
    return ConceptFolder(str(root), image_size=SIZE, masks="masks", val_fraction=0.15)


@pytest.fixture
def quick(tmp_path):
    return {"layer": "features", "k": 3, "again": 1, "shown": 3, "cache": str(tmp_path / "cache"), "device": "cpu"}


def test_red_squares_are_found_named_and_worth_to_their_class(data, quick, tmp_path):
    out = tmp_path / "found"
    found = ibd.discover(Colors(), data, out, **quick)
    red = int(found.directions.vectors[:, 0].argmax())
    assert float(found.directions.vectors[red, 0]) > 0.95
    names = list(data.spec.class_names)
    assert found.importance.kind == "exact"
    assert float(found.importance.values[red, names.index("red")]) > 0.01
    assert float(found.classes[red, names.index("red")]) == 1.0
    assert found.masks.best()[0][:2] == ("square", red)
    assert found.masks.best()[0][2] > 0.4  # a cell, drawn smoothly
    assert found.labels.best() == [("has_red", red, 1.0, 0.5)]
    assert [proposal.name for proposal in found.proposals[red]] == ["square", "has_red"]
    cell = found.patches.position[red, 0]
    pixel = found.subject.images[int(found.patches.image[red, 0])].image[:, 8 * cell[0] + 4, 8 * cell[1] + 4]
    assert float(pixel[0]) > 0.8
    page = (out / "index.html").read_text()
    assert page.count("<img ") == page.count('alt="') == page.count("data:image/jpeg")
    assert "http" not in re.sub(r"data:[^\"]+", "", page)
    assert 'name="viewport"' in page
    table = list(csv.DictReader((out / "concepts.csv").open()))
    assert float(table[red]["auroc of class red"]) == 1.0


def test_names_that_a_person_writes_come_onto_the_page(data, quick, tmp_path, monkeypatch):
    out = tmp_path / "found"
    first = ibd.discover(Colors(), data, out, **quick)
    rows = list(csv.reader((out / "names.csv").open()))
    assert rows[0] == ["concept", "name", "proposed", "because"]
    rows[2][1] = "something <red>"
    with (out / "names.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.setattr("ibd.app.discovery.discover.search_again", None)  # what was found is not searched again
    again = ibd.discover(Colors(), data, out, **quick)
    assert torch.equal(again.directions.vectors, first.directions.vectors)
    assert again.directions.names[1] == "something <red>"
    assert "something &lt;red&gt;" in (out / "index.html").read_text()
    assert Directions.load(out / "directions.npz").names[1] == "something <red>"
    assert list(csv.reader((out / "names.csv").open()))[2][1] == "something <red>"
    with pytest.raises(ConfigError, match="which a person has named"):
        ibd.discover(Colors(), data, out, **{**quick, "k": 2})


@pytest.mark.parametrize("method", ["sae", "pca", "kmeans"])
def test_every_method_makes_a_page(data, quick, tmp_path, method):
    found = ibd.discover(
        Colors(), data, tmp_path, **{**quick, "method": method, "steps": 20, "visualize": method == "pca"}
    )
    assert len(found.directions) == 3
    assert found.directions.method == method
    assert ("image made to excite" in (tmp_path / "index.html").read_text()) == (found.made is not None)


def test_number_of_concepts_is_chosen_and_told(data, quick, tmp_path):
    found = ibd.discover(Colors(), data, tmp_path, **{**quick, "k": [1, 2, 4]})
    assert [tried.k for tried in found.tried] == [1, 2, 4]
    assert found.chosen.stability >= max(tried.stability for tried in found.tried) - 0.02
    chosen = [row["k"] for row in csv.DictReader((tmp_path / "tried.csv").open()) if row["chosen"] == "1"]
    assert chosen == [str(len(found.directions))]


def test_concepts_within_a_concept_are_of_its_places(data, quick, tmp_path):
    """Of the places where red is strong, nothing but red is left in the pixels before."""
    above = ibd.discover(Colors(), data, tmp_path / "above", **quick)
    red = above.directions.names[int(above.directions.vectors[:, 0].argmax())]
    within = {**quick, "layer": "features.0", "k": 1, "within": str(tmp_path / "above" / "directions.npz")}
    found = ibd.discover(Colors(), data, tmp_path / "below", **{**within, "concept": red, "share": 0.02})
    vector = found.directions.vectors[0]
    assert float(vector[0]) > 3 * float(vector[1:].max())


def test_crops_are_pieces_of_their_images(data):
    images = SelectedImages(data.dataset("train"), [3, 5])
    crops = Crops(images, 4, 0.5, seed=1)
    assert len(crops) == 8
    assert crops[5].image.shape == (3, SIZE, SIZE)
    assert crops[5].label == images[1].label
    assert torch.equal(crops[5].image, Crops(images, 4, 0.5, seed=1)[5].image)
    whole = Crops(images, 1, 1.0)
    assert torch.allclose(whole[1].image, images[1].image, atol=1e-6)


def test_crops_are_searched(data, quick, tmp_path):
    found = ibd.discover(Colors(), data, tmp_path, **{**quick, "pieces": "crops", "cells": 6})
    assert found.directions.details["vectors"] == 6 * len(found.subject.images)


def test_scorer_proposes_names(data, quick, tmp_path, monkeypatch):
    module = types.ModuleType("colors_scorer")
    module.score = lambda images, texts: torch.stack(
        [2 * images[:, c].mean((1, 2)) - images.mean((1, 2, 3)) for c in (0, 1)], 1
    )
    monkeypatch.setitem(sys.modules, "colors_scorer", module)
    options = {**quick, "scorer": "colors_scorer:score", "texts": ["a red thing", "a green thing"]}
    found = ibd.discover(Colors(), data, tmp_path, **options)
    for channel, text in enumerate(options["texts"]):
        concept = int(found.directions.vectors[:, channel].argmax())
        assert found.proposals[concept][-1].name == text


def test_table_of_concepts_proposes_names(root, quick, tmp_path):
    """A folder without a table in it, and the table of somebody else."""
    data = ClassFolder(str(root / "train"), image_size=SIZE)
    table = tmp_path / "mine.csv"
    table.write_text("class,fresh\ngreen,1\nred,0\n")
    found = ibd.discover(Colors(), data, tmp_path / "out", **{**quick, "split": "test", "compare": str(table)})
    green = int(found.directions.vectors[:, 1].argmax())
    assert found.labels.best() == [("fresh", green, 1.0, 0.5)]


def test_the_command_line_finds_concepts(root, tmp_path, monkeypatch):
    module = types.ModuleType("color_networks")
    module.make = Colors
    monkeypatch.setitem(sys.modules, "color_networks", module)
    answer = command(
        *("discover", "color_networks:make", f"data={root}", f"data.image_size={SIZE}", "model.preprocess=unit"),
        *(
            "layer=features",
            "k=[2,3]",
            "again=1",
            "class=red",
            f"cache={tmp_path / 'cache'}",
            "-o",
            str(tmp_path / "out"),
        ),
    )
    assert answer.code == 0, answer.err
    assert "(chosen)" in answer.out
    assert "has_red" not in answer.out  # all images have it
    assert (tmp_path / "out" / "index.html").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 9}, ConfigError, "k: 9 given, layer 'features' has 4 channels"),
        ({"k": "many"}, ConfigError, "k: 'many' given, a whole number, several"),
        ({"k": [2, 3], "again": 0}, ConfigError, "again: 0 given"),
        ({"layer": "featuers"}, ConfigError, "no layer 'featuers' .* features"),
        ({"layer": "features.1"}, UnsupportedError, "Layers that would do, the last first: features"),
        ({"classes": ["blue"]}, ConfigError, "class: there is no 'blue'"),
        ({"split": "test"}, DataError, "test"),
        ({"compare": "nowhere.csv"}, DataError, "there is no file 'nowhere.csv'"),
        ({"scorer": "json:dumps"}, ConfigError, "go together"),
        ({"scorer": "json:dumps", "texts": "a,b"}, ConfigError, "scorer: it fails"),
        ({"scorer": "json:dumps", "texts": "nowhere.txt"}, DataError, "texts: no file of texts 'nowhere.txt'"),
        ({"scorer": "json:dmps", "texts": "a"}, ConfigError, "has no 'dmps'. Did you mean"),
        ({"within": "nowhere.npz", "concept": "a"}, DataError, "no file of directions 'nowhere.npz'"),
        ({"within": "nowhere.npz"}, ConfigError, "go together"),
        ({"method": "kmeans", "images": 2, "cells": 1}, DataError, "3 concepts cannot be learned from 2 places"),
        ({"metod": "nmf"}, ConfigError, "no option 'metod'. Did you mean one of: 'method'"),
    ],
)
def test_bad_requests_are_one_line(data, quick, tmp_path, options, error, message):
    with pytest.raises(error, match=message) as caught:
        ibd.discover(Colors(), data, tmp_path, **{**quick, **options})
    assert "\n" not in str(caught.value)


def test_backbone_without_weights_is_refused(root, tmp_path):
    with pytest.raises(ConfigError, match="weights: which for 'small_cnn'"):
        ibd.discover("small_cnn", str(root), tmp_path)
    with pytest.raises(IbdError, match="no run 'x'"):
        ibd.discover("x", None, tmp_path)


def test_options_of_the_command_line_are_those_of_python():
    assert DiscoverOptions(k="auto").counts == [5, 10, 15, 20, 30]
    assert DiscoverOptions(classes="a, b").class_list == ["a", "b"]
