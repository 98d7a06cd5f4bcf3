"""CUB-200-2011 in miniature: the votes, the certainties, malformed lines, and the published choice of attributes."""

from collections import Counter

import numpy as np
import pytest
import torch

from ibd.data.cub import CUB
from ibd.data.cub_attributes import PUBLISHED, class_majority, image_values, read_labels
from ibd.data.dataset import Key
from ibd.errors import ConfigError, DataError
from ibd.types import groups_of
from tests.data_makers import CUB_ATTRIBUTES, make_cub

# fmt: off
GROUP_SIZES = (
    ("bill_shape", 9), ("wing_color", 15), ("upperparts_color", 15), ("underparts_color", 15), ("breast_pattern", 4),
    ("back_color", 15), ("tail_shape", 6), ("upper_tail_color", 15), ("head_pattern", 11), ("breast_color", 15),
    ("throat_color", 15), ("eye_color", 14), ("bill_length", 3), ("forehead_color", 15), ("under_tail_color", 15),
    ("nape_color", 15), ("belly_color", 15), ("wing_shape", 5), ("size", 5), ("shape", 14), ("back_pattern", 4),
    ("tail_pattern", 4), ("belly_pattern", 4), ("primary_color", 15), ("leg_color", 15), ("bill_color", 15),
    ("crown_color", 15), ("wing_pattern", 4),
)
# fmt: on
NAMES = [f"has_{name}::{value}" for name, size in GROUP_SIZES for value in range(size)]


def open_cub(root, **kwargs):
    return CUB(str(root), **{"min_classes": 1, "image_size": 16, "val_fraction": 0.2, **kwargs})


def error(root, **kwargs):
    with pytest.raises(DataError) as caught:
        open_cub(root, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_attributes_and_their_groups():
    assert len(NAMES) == 312
    assert len(PUBLISHED) == len(set(PUBLISHED)) == 112
    assert list(PUBLISHED) == sorted(PUBLISHED)
    groups = groups_of([NAMES[index] for index in PUBLISHED])
    assert len(groups) == 28
    assert Counter(map(len, groups.values())) == {1: 3, 2: 4, 3: 6, 4: 2, 5: 3, 6: 10}


def test_votes_ties_and_what_was_not_visible():
    # One class, three images; columns: 2 of 3; a tie; absent but twice not visible; a hidden yes counts; no vote: NaN.
    present = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 1, 0], [0, 0, 1, 0, 0]], np.uint8)
    certainty = np.array([[4, 4, 1, 1, 1], [1, 4, 1, 1, 1], [4, 1, 4, 4, 1]], np.uint8)
    found = class_majority(present, certainty, np.zeros(3, np.int64), 1)
    np.testing.assert_array_equal(found, [[1, 1, 1, 1, np.nan]])
    certainty[1, 0] = certainty[2, 1] = 4
    found = class_majority(present, certainty, np.array([0, 0, 1]), 2)
    np.testing.assert_array_equal(found, [[1, 1, np.nan, 1, np.nan], [0, 0, 1, 0, np.nan]])


def test_a_class_without_images_has_no_vote():
    """Five classes, attribute k holds iff (class + k) % 3 == 0, images of the first and the last class alone."""
    holds = np.array([[(c + k) % 3 == 0 for k in range(6)] for c in range(5)])
    labels = np.array([0, 4, 4])
    found = class_majority(holds[labels].astype(np.uint8), np.full((3, 6), 4, np.uint8), labels, 5)
    np.testing.assert_array_equal(found[[0, 4]], holds[[0, 4]])
    assert np.isnan(found[1:4]).all()


def test_uncertainty():
    present = np.repeat([[0], [1]], 4, axis=1).astype(np.uint8)
    certainty = np.tile(np.arange(1, 5, dtype=np.uint8), (2, 1))
    nan = np.nan
    expected = {
        "unknown": [[nan, 0, 0, 0], [nan, 1, 1, 1]],
        "soft": [[0, 0.5, 0.25, 0], [0, 0.5, 0.75, 1]],
        "ignore": [[0, 0, 0, 0], [1, 1, 1, 1]],
    }
    for choice, values in expected.items():
        np.testing.assert_array_equal(image_values(present, certainty, choice), np.array(values, np.float32))


def test_a_class_has_what_its_training_images_show(tmp_path):
    # 5 training and 2 test images a class. Image 1 says otherwise than its class, and so do its two test images.
    odd = {(image, attribute): (0, 4) for image in (1, 6, 7) for attribute in (1, 3, 5)}
    data = open_cub(make_cub(tmp_path, labels=odd))
    expected = [[float((label + attribute) % 2 == 0) for attribute in range(5)] for label in range(4)]
    for split, size in (("train", 16), ("val", 4), ("test", 8)):
        dataset = data.dataset(split)
        assert len(dataset) == size
        assert dataset.concepts.tolist() == [expected[label] for label in dataset.labels.tolist()]
    assert data.dataset("val").labels.tolist() == [0, 1, 2, 3]
    assert data.spec.class_names == ("Bird_1", "Bird_2", "Bird_3", "Bird_4")
    assert data.spec.concept_names == CUB_ATTRIBUTES
    assert data.spec.concept_groups == {"has_bill_shape": (0, 1), "has_wing_color": (2, 3), "has_size": (4,)}
    assert data.spec.exclusive_groups == ("has_bill_shape", "has_wing_color")
    assert open_cub(tmp_path, min_classes=2).spec == data.spec  # the folder around it will do as well
    assert "no attribute holds for 3 classes" in error(tmp_path, min_classes=3)
    assert open_cub(tmp_path, min_classes=3, attributes="all").spec == data.spec


def test_a_class_without_training_images_is_named_and_nothing_is_known_of_it(tmp_path, caplog):
    """Images of classes 1 and 5 of six; class 2 has test images alone, the last one has no image at all."""
    attributes = tuple(f"has_it::v{k}" for k in range(6))
    labels = {(i, k + 1): (int(((i - 1) // 3 + k) % 3 == 0), 4) for i in range(1, 16) for k in range(6)}
    root = make_cub(tmp_path, classes=5, train=2, test=1, attributes=attributes, labels=labels)
    (root / "classes.txt").write_text((root / "classes.txt").read_text() + "6 006.Bird_6\n")
    split = [f"{i} {int((i - 1) // 3 in (0, 4) and (i - 1) % 3 < 2)}" for i in range(1, 16)]
    (root / "train_test_split.txt").write_text("\n".join(split))
    data = open_cub(root)
    assert data.spec.concept_names == ("has_it::v0", "has_it::v2", "has_it::v3", "has_it::v5")
    assert "no training image of class 'Bird_2', 'Bird_3', 'Bird_4', 'Bird_6'" in caplog.text
    test = data.dataset("test")
    unknown = test.concepts.isnan()
    assert torch.equal(unknown.all(1), (test.labels > 0) & (test.labels < 4))
    assert torch.equal(unknown.any(1), unknown.all(1))
    (root / "train_test_split.txt").write_text("\n".join(f"{i} 0" for i in range(1, 16)))
    assert error(root) == f"{root / 'train_test_split.txt'}: there is no training image"


def test_an_image_has_its_own_concepts(tmp_path):
    labels = {(1, 1): (0, 4), (1, 2): (1, 1), (1, 3): (0, 1), (1, 4): (1, 2), (2, 2): (1, 3)}
    root = make_cub(tmp_path, labels=labels, segmentations=True)
    data = open_cub(root, concepts="image", masks="segmentations")
    split = "train" if "001.Bird_1/Bird_1_0000.jpg" in data.tables["train"].paths else "val"
    dataset = data.dataset(split)
    index = data.tables[split].paths.index("001.Bird_1/Bird_1_0000.jpg")
    nan = torch.nan
    torch.testing.assert_close(dataset.concepts[index], torch.tensor([0, nan, nan, 1, 1]), equal_nan=True)
    assert dataset.certainties[index].tolist() == [4, 1, 1, 2, 4]
    assert dataset.boxes[index].tolist() == [4, 5, 30, 20]
    assert dataset.part_locations[index].tolist() == [[10.5, 7, 1], [21, 7, 0]]
    assert data.keypoint_names == ("back", "left eye")
    assert dataset.sample_id(index) == "001.Bird_1/Bird_1_0000.jpg"
    assert data.spec.exclusive_groups == ("has_wing_color",)  # image 2 has both bill shapes
    sample = open_cub(root, masks="segmentations", resize="squash", image_size=[36, 48]).dataset("test")[Key(0)]
    assert data.spec.part_names == ("bird",)
    assert sample.masks[0].sum(1).tolist() == [24] * 36  # three annotators of five: the bird; two: not
    assert torch.isnan(open_cub(root, concepts="image", uncertainty="soft").dataset(split).concepts).sum() == 0


def test_lines_with_a_field_too_many_are_read(tmp_path):
    root = make_cub(tmp_path)
    path = root / "attributes/image_attribute_labels.txt"
    before = read_labels(path, 28, 5)
    lines = path.read_text().splitlines()
    lines[7] = lines[7].replace(" 1.25", " 0 2.0")
    lines[9] += " \r"
    lines.insert(3, "")
    path.write_text("\n".join(lines))
    for a, b in zip(before, read_labels(path, 28, 5), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 3 0", ":8: '2 3 0' given, 4 whole numbers are needed"),
        ("2 3 x 4 1.0", ":8: '2 3 x 4 1.0' given, 4 whole numbers are needed"),
        ("99 3 0 4 1.0", ":8: image is 99, a number from 1 to 28 is needed"),
        ("2 6 0 4 1.0", ":8: attribute is 6, a number from 1 to 5 is needed"),
        ("2 3 2 4 1.0", ":8: presence is 2, a number from 0 to 1 is needed"),
        ("2 3 0 5 1.0", ":8: certainty is 5, a number from 1 to 4 is needed"),
        ("2 2 0 4 1.0", ": image 2, attribute 2: two lines or more, one is needed"),
        ("", ": image 2, attribute 3: no line, one is needed"),
    ],
)
def test_a_malformed_label_names_its_line(tmp_path, line, message):
    path = make_cub(tmp_path) / "attributes/image_attribute_labels.txt"
    lines = path.read_text().splitlines()
    assert lines[7 - 1].startswith("2 2 ")
    lines[8 - 1] = line
    path.write_text("\n".join(lines))
    assert error(tmp_path) == f"{path}{message}"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("images.txt", "2 001", "3 001", ":2: '3 001.Bird_1/Bird_1_0001.jpg' given, '2 NAME' is needed"),
        ("classes.txt", None, None, ": there is no such file"),
        ("image_class_labels.txt", "3 1", "3 7", ":3: class is 7, a number from 1 to 4 is needed"),
        ("train_test_split.txt", "2 1", "4 1", ":2: image 2 is missing or not in order"),
        ("train_test_split.txt", "28 0\n", "", ": 27 lines, 28 are needed: 1 for each image"),
        ("bounding_boxes.txt", "1 4.0", "1 four", ":1: '1 four 5.0 30.0 20.0' given, 5 numbers are needed"),
        ("bounding_boxes.txt", None, "", ": the file is empty"),
        ("parts/part_locs.txt", "28 2 21.0 7.0 0\n", "", ": 55 lines, 56 are needed: 2 for each image"),
    ],
)
def test_a_wrong_table_names_its_line(tmp_path, file, old, new, message):
    path = make_cub(tmp_path) / file
    if new is None:
        path.unlink()
    else:
        path.write_text(new if old is None else path.read_text().replace(old, new, 1))
    assert error(tmp_path) == f"{path}{message}"


def test_missing_files_and_bad_choices(tmp_path):
    root = make_cub(tmp_path)
    assert error(root, masks="segmentations").startswith(f"{root / 'segmentations'}: there is no such file or folder")
    (tmp_path / "attributes.txt").rename(root / "attributes.txt")
    data = open_cub(root)
    (root / "images" / data.tables["test"].paths[3]).unlink()
    with pytest.raises(DataError, match="there is no such file"):
        data.prepare_data()
    for argument in ("concepts", "attributes", "uncertainty", "masks"):
        with pytest.raises(ConfigError, match=rf"^data.{argument}: 'x' given, one of .* is needed$"):
            open_cub(root, **{argument: "x"})


def test_the_whole_data_set_keeps_the_published_attributes(tmp_path, caplog):
    data = open_cub(make_cub(tmp_path))
    data.paths = [""] * 11788
    majority = np.zeros((200, 312), np.uint8)
    majority[:10, list(PUBLISHED)] = 1
    assert data._keep(majority, "published", 10, NAMES) == list(PUBLISHED)
    assert data._keep(majority, "all", 10, NAMES) == list(range(312))
    assert not caplog.records
    majority[0, 1], majority[:10, 0] = 0, 1  # near the limit of ten classes, as another split could have it
    assert data._keep(majority, "published", 10, NAMES) == list(PUBLISHED)
    assert "has_bill_shape::0, has_bill_shape::1" in caplog.text
    assert data._keep(majority, "published", 9, NAMES) == sorted({0, *PUBLISHED})
    majority[:10, :20] = 1
    with pytest.raises(DataError, match=r"attributes differ from the published 112; the files are not those of CUB"):
        data._keep(majority, "published", 10, NAMES)
