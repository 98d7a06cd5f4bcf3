"""`ibd map`, `ibd atlas` and `ibd inside` through the command line."""

import csv
import shutil

import pytest

from ibd.errors import DataError
from tests.command import ibd

_OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
"""


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_map_has_a_row_for_each_image(baseline, tmp_path):
    asked = ("method=pca", "images=9", "color=wing::red_oval", "thumbnails=4", "--out", tmp_path)
    answer = ibd("map", baseline, *asked)
    assert answer.code == 0, answer.err
    rows = table(tmp_path / "map.csv")
    assert len(rows) == 9
    assert all(0 <= float(row[axis]) <= 1 for row in rows for axis in "xy")
    assert answer.out.startswith("9 images by layer 'backbone', ")
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_a_map_of_single_images_of_their_classes(baseline, tmp_path):
    answer = ibd("map", baseline, "method=pca", "images=5", "thumbnails=0", "--out", tmp_path)
    assert "no two images are of one class" in answer.out
    assert "nan" not in answer.out


def test_an_atlas_has_a_row_for_each_cell(baseline, tmp_path):
    asked = ("images=6", "grid=2", "least=1", "steps=2", "size=16", "method=pca", "classes=marsh_wren")
    answer = ibd("atlas", baseline, *asked, "--out", tmp_path)
    assert answer.code == 0, answer.err
    rows = table(tmp_path / "atlas.csv")
    assert sum(int(row["places"]) for row in rows) == 24
    assert list(rows[0]) == ["row", "column", "places", "marsh_wren"]
    assert f"{len(rows)} cells of 2 x 2 drawn, 24 of the places are in such" in answer.out
    assert (tmp_path / "atlas.png").stat().st_size > 10_000


def test_an_atlas_of_few_places_is_of_all_classes(tmp_path, monkeypatch, bird):
    """Images come class by class: those of the last ones are not left out where places are enough."""
    (tmp_path / "own_network.py").write_text(_OWN.replace("(8, 6)", "(8, 2)"))
    monkeypatch.syspath_prepend(tmp_path)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(4):
                shutil.copy(bird, tmp_path / "data" / split / name / f"{number}.png")
    seen = list[int]()

    def note(_, sampled, *__, **___):
        seen.extend(sampled.labels.tolist())
        raise DataError("enough")

    monkeypatch.setattr("ibd.app.atlas.activation_atlas", note)
    asked = ("model.preprocess=unit", "layer=1", "places=8", "classes=a", "--out", tmp_path)
    ibd("atlas", "own_network:make", f"data={tmp_path / 'data'}", *asked)
    assert set(seen) == {0, 1}


def test_an_atlas_of_a_network_of_one_size(tmp_path, monkeypatch):
    """Cells are drawn at the size of the images where it runs on no other; another size is refused before the work."""
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 6))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = ("data=toybirds/tiny", "data.image_size=48", "data.train_size=12", "data.test_size=12")
    asked = ("atlas", "own_network:make", *data, "model.preprocess=unit", "layer=1", "method=pca", "steps=1", "grid=2")
    answer = ibd(*asked, "--out", tmp_path)
    assert "figure: " in answer.out, answer.err
    answer = ibd(*asked, "size=40", "--out", tmp_path)
    assert answer.mistake == "atlas: size: the network does not run on images of 40 x 40 pixels"


def test_inside_draws_channels_and_weights(baseline, bird, tmp_path):
    answer = ibd("inside", baseline, bird, "layer=backbone.stage1.conv", "top=3", "--out", tmp_path)
    assert answer.code == 0, answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"channels_bird.png", "silence_bird.png", "weights.png"}


def test_a_network_of_somebodys(bird, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "birds.yaml"
    config.write_text(
        "name: birds\nmodel: {name: baseline, backbone: {name: small_cnn}}\n"
        "data: {name: toybirds, preset: tiny, train_size: 12, val_size: 12, test_size: 12}\ntrainer: {max_epochs: 1}\n"
    )
    asked = ("own_network:make", f"data={config}", "model.preprocess=unit", "method=pca", "--out", tmp_path)
    answer = ibd("map", *asked, "layer=3", "thumbnails=0")
    assert answer.out.startswith("12 images by layer '3', 8 numbers each"), answer.err
    answer = ibd("atlas", *asked, "layer=1", "grid=2", "steps=1", "size=16", "images=4")
    assert "16 places of 4 images in layer '1', 8 numbers each" in answer.out, answer.err
    answer = ibd("inside", "own_network:make", bird, "model.preprocess=unit", "model.image_size=32", "--out", tmp_path)
    assert answer.out.startswith("layer 'model.1': 8 channels"), answer.err
    assert "left out: weights: layer 'model.1' has none of filters" in answer.out


@pytest.mark.parametrize(
    ("verb", "changes", "said"),
    [
        ("map", ["color=wing"], "map: color: there is no 'wing'. Did you mean"),
        ("map", ["method=mds"], "method: 'mds' is not one of tsne, pca, umap"),
        ("map", ["layer=back"], "no layer 'back' in"),
        ("map", ["images=3"], "a map needs at least 5 codes"),
        ("map", ["colour=class"], "map: there is no option 'colour'. Did you mean 'color'?"),
        ("atlas", ["grid=0"], "atlas: grid: '0' given, a whole number from 1 is needed"),
        ("atlas", ["layer=head"], "puts out no map"),
        ("atlas", ["classes=dodo"], "classes: there is no class 'dodo'"),
    ],
)
def test_mistakes(baseline, verb, changes, said, tmp_path):
    answer = ibd(verb, baseline, *changes, "--out", tmp_path)
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
