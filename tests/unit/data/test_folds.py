"""Folds: of each class as many images in each, no image on two sides, groups whole; and what data make of them."""

import csv

import pytest
import torch

from ibd.data.folder import ConceptFolder
from ibd.data.folding import assign_folds, check_folds, roles
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.errors import ConfigError, DataError
from tests.data_makers import make_concept_folder, write_rows

CLASSES = ("cat", "dog", "owl")


def paths(data, split):
    dataset = data.dataset(split)
    return {dataset.sample_id(index) for index in range(len(dataset))}


def of_class(data, split):
    return torch.bincount(data.dataset(split).labels, minlength=3).tolist()


def test_each_fold_has_its_share_of_each_class():
    """10 cats, 5 dogs and 5 owls in 5 folds: 2, 1 and 1 in each, whatever the seed."""
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 5)
    for seed in range(3):
        fold_of = assign_folds(labels, CLASSES, 5, seed)
        table = torch.stack([torch.bincount(labels[fold_of == fold], minlength=3) for fold in range(5)])
        assert table.tolist() == [[2, 1, 1]] * 5
    assert assign_folds(labels, CLASSES, 5, 0).tolist() == assign_folds(labels, CLASSES, 5, 0).tolist()
    assert assign_folds(labels, CLASSES, 5, 0).tolist() != assign_folds(labels, CLASSES, 5, 1).tolist()


def test_images_of_a_patient_are_in_one_fold():
    """12 patients with 4 images of one class each, 4 patients a class: 2 folds have two patients of each."""
    labels = torch.arange(3).repeat_interleave(16)
    patients = [f"p{index // 4}" for index in range(48)]
    found = [assign_folds(labels, CLASSES, 2, seed, patients) for seed in range(4)]
    for fold_of in found:
        for patient in set(patients):
            assert len({int(fold_of[i]) for i, own in enumerate(patients) if own == patient}) == 1
        assert torch.bincount(labels[fold_of == 0], minlength=3).tolist() == [8, 8, 8]
    assert len({tuple(fold_of.tolist()) for fold_of in found}) > 1
    assert found[2].tolist() == assign_folds(labels, CLASSES, 2, 2, patients).tolist()
    with pytest.raises(DataError, match=r"class 'cat' has 4 groups of images that stay together, fewer than the 5 "):
        assign_folds(labels, CLASSES, 5, 0, patients)


def test_who_does_what():
    assert roles(4, 3, tested=True) == {"train": [0, 1, 2], "val": [3]}
    assert roles(4, 3, tested=False) == {"train": [1, 2], "val": [0], "test": [3]}
    with pytest.raises(ConfigError, match=r"data\.folds: 2 given, at least 3 are needed: without test images"):
        roles(2, 0, tested=False)
    for folds, fold, message in (
        (1, 0, r"data\.folds: 1 given, 2 or more"),
        (3, 3, r"data\.fold: 3 given, 0 to 2 is"),
        (0, 1, r"data\.fold: 1 given, 0 without"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_folds(folds, fold)


def test_a_folder_with_test_images(tmp_path):
    """Train and val are cut anew; the test images are the same whichever fold is left out."""
    root = make_concept_folder(tmp_path, train=6, val=2, test=2)
    opened = [ConceptFolder(str(root), 16, folds=4, fold=fold) for fold in range(4)]
    for data in opened:
        assert of_class(data, "train") == [6, 6, 6]
        assert of_class(data, "val") == [2, 2, 2]
        assert paths(data, "test") == paths(opened[0], "test")
        assert all(path.startswith("test/") for path in paths(data, "test"))
        assert not paths(data, "train") & paths(data, "val")
    left_out = [path for data in opened for path in paths(data, "val")]
    assert len(left_out) == len(set(left_out)) == 24
    sample = opened[1].dataset("val")[3]  # an image's label and concepts go with it
    name = opened[1].dataset("val").sample_id(3).split("/")[1]
    assert opened[1].spec.class_names[sample.label] == name


def test_a_folder_without_test_images(tmp_path):
    """Each image is tested once, and never by a training that saw it, nor chose its checkpoint by it."""
    root = make_concept_folder(tmp_path, train=6, test=0)
    tested = []
    for fold in range(3):
        data = ConceptFolder(str(root), 16, folds=3, fold=fold)
        own = [paths(data, split) for split in ("train", "val", "test")]
        assert sum(map(len, own)) == len(set.union(*own)) == 18
        assert of_class(data, "train") == of_class(data, "val") == of_class(data, "test") == [2, 2, 2]
        tested += own[2]
    assert len(tested) == len(set(tested)) == 18
    with pytest.raises(DataError, match=r"data\.folds: class 'cat' has 6 images, fewer than the 7 folds"):
        ConceptFolder(str(root), 16, folds=7)


@pytest.fixture
def patients(tmp_path):
    """A folder whose images are of patients, three images of each one."""
    root = make_concept_folder(tmp_path, train=12, test=1)
    rows = [[f"train/{name}/{i:03d}.png", f"{name}-{i // 3}"] for name in CLASSES for i in range(12)]
    write_rows(root / "groups.csv", [["image", "patient"], *rows])
    return root


def test_patients_stay_together(patients):
    for fold in range(4):
        data = ConceptFolder(str(patients), 16, folds=4, fold=fold, together="patient")
        own = [set(data.dataset(split).groups["patient"]) for split in ("train", "val")]
        assert not own[0] & own[1]
        assert of_class(data, "val") == [3, 3, 3]
    apart = ConceptFolder(str(patients), 16, together="patient")  # no folds: what is set aside
    assert not set(apart.dataset("train").groups["patient"]) & set(apart.dataset("val").groups["patient"])
    assert of_class(apart, "val") == [3, 3, 3]
    assert set(ConceptFolder(str(patients), 16).dataset("val").groups["patient"]) <= set(
        ConceptFolder(str(patients), 16).dataset("train").groups["patient"]
    )  # without a word they do not


def test_a_patient_who_is_tested_and_trained(patients):
    with (patients / "groups.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    write_rows(patients / "groups.csv", [*rows, ["test/cat/000.png", "cat-0"]])
    with pytest.raises(DataError, match=r"data\.together: 'cat-0' of 'patient' has images in test and in train or val"):
        ConceptFolder(str(patients), 16, folds=4, together="patient")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"together": "patent", "folds": 2}, r"data\.together: there is no column 'patent'.*Did you mean 'patient'"),
        (
            {"folds": 5, "together": "patient"},
            r"class 'cat' has 4 groups of images that stay together, fewer than the 5",
        ),
        ({"folds": -1}, r"data\.folds: -1 given"),
        ({"folds": 3, "fold": 3}, r"data\.fold: 3 given, 0 to 2 is needed"),
    ],
)
def test_what_cannot_be_cut(patients, given, message):
    with pytest.raises((ConfigError, DataError), match=message):
        ConceptFolder(str(patients), 16, **given)


def test_nothing_is_cut(tmp_path):
    root = make_concept_folder(tmp_path, val=2)
    write_rows(root / "groups.csv", [["class", "kind"], ["cat", "a"], ["dog", "b"], ["owl", "c"]])
    with pytest.raises(ConfigError, match=r"data\.together: .* has a folder val, so nothing is cut here"):
        ConceptFolder(str(root), 16, together="kind")


def test_birds():
    """The same birds in other parts: 60 + 20 images in 4 folds, the test images as ever."""
    plain = ToyBirds("tiny", train_size=60, val_size=20, test_size=5)
    every = {data_id for split in ("train", "val") for data_id in paths(plain, split)}
    left_out = []
    for fold in range(4):
        data = ToyBirds("tiny", train_size=60, val_size=20, test_size=5, folds=4, fold=fold)
        assert paths(data, "train") | paths(data, "val") == every
        assert 18 <= len(data.dataset("val")) <= 22
        assert paths(data, "test") == paths(plain, "test")
        left_out += paths(data, "val")
    assert sorted(left_out) == sorted(every)
    dataset = data.dataset("val")
    split, number = dataset.sample_id(7).split("/")[1:]
    same, own = plain.dataset(split)[int(number)], dataset[7]
    assert own.label == same.label
    assert torch.equal(own.image, same.image)
    assert torch.equal(own.concepts, same.concepts)
    assert torch.equal(dataset.masks(7), plain.dataset(split).masks(int(number)))
