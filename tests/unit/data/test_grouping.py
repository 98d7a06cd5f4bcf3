"""Columns that say of which group an image is: where they are read, and that they are no concepts."""

import csv

import pytest
import torch

from ibd.data.folder import ConceptFolder
from ibd.data.grouping import groups_of_images
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.errors import ConfigError, DataError, UnsupportedError
from tests.data_makers import CONCEPTS, make_concept_folder, write_rows


@pytest.fixture
def root(tmp_path):
    """A folder whose concepts.csv has rows for images, and a column of words that is no concept."""
    root = make_concept_folder(tmp_path / "pets", concepts="image")
    with (root / "concepts.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    coats = [["short", "long", ""][number % 3] for number in range(len(rows))]
    write_rows(
        root / "concepts.csv", [[*header, "coat"], *([*row, coat] for row, coat in zip(rows, coats, strict=True))]
    )
    return root


def open_folder(root, **kwargs):
    return ConceptFolder(str(root), **{"image_size": 16, **kwargs})


def test_a_column_of_the_concept_file(root):
    assert open_folder(root).spec.concept_names == (*CONCEPTS, "coat::long", "coat::short")
    data = open_folder(root, groups=["coat"])
    assert data.spec.concept_names == tuple(CONCEPTS)
    with (root / "concepts.csv").open(newline="") as file:
        said = {row["image"]: row["coat"] or None for row in csv.DictReader(file)}
    for split in ("train", "val", "test"):  # the validation images are taken out of the training images
        dataset = data.dataset(split)
        assert groups_of_images(data, split, "coat") == [said[dataset.sample_id(i)] for i in range(len(dataset))]
    both = groups_of_images(data, "test", "coat+class")
    assert both[0] == f"{groups_of_images(data, 'test', 'coat')[0]} + cat"


def test_a_file_of_groups_needs_no_word(tmp_path):
    root = make_concept_folder(tmp_path)
    write_rows(root / "groups.csv", [["class", "size"], ["cat", "small"], ["dog", "large"], ["owl", ""]])
    data = open_folder(root)
    assert data.spec.concept_names == tuple(CONCEPTS)
    assert groups_of_images(data, "test", "size") == ["small", "small", "large", "large", None, None]
    with pytest.raises(ConfigError, match=r"by: there is no column or concept 'siz'\. Did you mean 'size'"):
        groups_of_images(data, "test", "siz")
    with pytest.raises(ConfigError, match=r"data.groups: there is no column 'coat' in .*groups.csv"):
        open_folder(root, groups=["coat"])
    write_rows(root / "groups.csv", [["image", "n"], *([f"train/cat/00{i}.png", i] for i in range(6))])
    assert groups_of_images(open_folder(root), "test", "n") == [None] * 6


def test_too_many_groups(tmp_path):
    root = make_concept_folder(tmp_path, concepts=None, train=35, test=1)
    paths = [f"train/{name}/{i:03d}.png" for name in ("cat", "dog", "owl") for i in range(35)]
    write_rows(root / "groups.csv", [["image", "age"], *([path, n] for n, path in enumerate(paths))])
    with pytest.raises(DataError, match=r"groups\.csv:1: column 'age' has 105 groups, 100 at most"):
        open_folder(root)


def test_groups_by_concepts():
    data = ToyBirds("tiny", train_size=2, val_size=1, test_size=6)
    dataset = data.dataset("test")
    assert groups_of_images(data, "test", "wing") == [dataset.scene(i).parts["wing"] for i in range(6)]
    wing = str(dataset.scene(0).parts["wing"])
    own = groups_of_images(data, "test", f"wing::{wing}")
    assert own == ["yes" if dataset.scene(i).parts["wing"] == wing else "no" for i in range(6)]
    first = data.spec.concept_groups["wing"][0]
    dataset.concepts[1, list(data.spec.concept_groups["wing"])] = 0.0
    dataset.concepts[2, list(data.spec.concept_groups["wing"])] = torch.nan
    assert groups_of_images(data, "test", "wing")[1:3] == ["none", None]
    dataset.concepts[3, first : first + 2] = 1.0
    with pytest.raises(UnsupportedError, match="several concepts of 'wing' hold at once"):
        groups_of_images(data, "test", "wing")
