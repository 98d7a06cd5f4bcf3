"""Functions that write a tiny data set, in the form that a user would bring."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "owl")
CONCEPTS = {
    "legs::two": (0, 0, 1),
    "legs::four": (1, 1, 0),
    "sound::loud": (0, 1, 1),
    "sound::soft": (1, 0, 1),
    "flies": (0, 0, 1),
}
"""Concept -> its value for each of `CLASSES`: `legs` is exclusive, `sound` is not."""


def write_image(path, color, size, seed=0):
    """Write a noisy image of one color; `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-20, 21, (*size, 3))
    Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)).save(path)


def write_rows(path, rows):
    """Write a CSV file."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def make_concept_folder(root, train=6, val=0, test=2, size=(24, 32), concepts="class", masks=(), classes=CLASSES):
    """Write a `ConceptFolder` of three classes with `CONCEPTS`, and return its root.

    Args:
        root: the folder; made if it is missing.
        train: images of each class; so are `val` and `test`, and 0 leaves the split out.
        val: see `train`.
        test: see `train`.
        size: (height, width) of the images.
        concepts: "class", "image" or None: what a row of concepts.csv is about.
        masks: parts that get a masks folder; part i is the i-th of len(masks) vertical stripes.
        classes: names of the three, in alphabetical order.
    """
    root = Path(root)
    rows = []
    for split, count in {"train": train, "val": val, "test": test}.items():
        for label, name in enumerate(classes):
            for index in range(count):
                path = f"{split}/{name}/{index:03d}.png"
                color = np.roll((200, 80, 40), label)
                write_image(root / path, color, size, seed=len(rows))
                rows.append([path, *(values[label] for values in CONCEPTS.values())])
                _write_stripes(root / "masks", path, masks, size)
    if concepts == "class":
        rows = [[name, *(values[label] for values in CONCEPTS.values())] for label, name in enumerate(classes)]
    if concepts is not None:
        write_rows(root / "concepts.csv", [[concepts, *CONCEPTS], *rows])
    return root


def _write_stripes(folder, path, parts, size):
    for stripe, part in enumerate(parts):
        mask = np.zeros(size, np.uint8)
        width = size[1] // len(parts)
        mask[:, stripe * width : (stripe + 1) * width] = 255
        (folder / part / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save((folder / part / path).with_suffix(".png"))


CUB_ATTRIBUTES = (
    "has_bill_shape::hooked",
    "has_bill_shape::cone",
    "has_wing_color::blue",
    "has_wing_color::red",
    "has_size::large_(16_-_32_in)",
)


def cub_label(image_class, attribute):
    """Return the presence and certainty that `make_cub` writes unless told otherwise."""
    return int((image_class + attribute) % 2 == 0), 4


def make_cub(root, classes=4, train=5, test=2, labels=None, attributes=CUB_ATTRIBUTES, segmentations=False):
    """Write a tiny CUB-200-2011 in the distributed layout, and return its folder ``root/CUB_200_2011``.

    Args:
        root: the folder that holds ``CUB_200_2011``, ``attributes.txt`` and ``segmentations``.
        classes: how many there are.
        train: training images of each class.
        test: test images of each class.
        labels: {(image id, attribute id): (presence, certainty)} for what differs from `cub_label`; ids are from 1.
        attributes: their names.
        segmentations: write them too: the left half of each image.
    """
    root = Path(root)
    cub = root / "CUB_200_2011"
    (cub / "attributes").mkdir(parents=True)
    (cub / "parts").mkdir()
    names = [f"{number:03d}.Bird_{number}" for number in range(1, classes + 1)]
    images = [f"{name}/{name[4:]}_{index:04d}.jpg" for name in names for index in range(train + test)]
    lines = {key: [] for key in ("class", "split", "box", "part", "label")}
    for number, path in enumerate(images, 1):
        label, index = divmod(number - 1, train + test)
        write_image(cub / "images" / path, np.roll((200, 80, 40 * label % 255), label), (36, 48), seed=number)
        lines["class"].append(f"{number} {label + 1}")
        lines["split"].append(f"{number} {int(index < train)}")
        lines["box"].append(f"{number} 4.0 5.0 {30 + index}.0 20.0")
        lines["part"] += [f"{number} {part} {10.5 * part} 7.0 {part % 2}" for part in (1, 2)]
        for attribute in range(1, len(attributes) + 1):
            present, certainty = (labels or {}).get((number, attribute), cub_label(label, attribute - 1))
            lines["label"].append(f"{number} {attribute} {present} {certainty} 1.25")
        if segmentations:
            mask = np.zeros((36, 48), np.uint8)
            mask[:, :12], mask[:, 12:24] = 255, 153
            mask[:, 24:36] = 102  # two of five annotators: not the bird
            (root / "segmentations" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save((root / "segmentations" / path).with_suffix(".png"))
    _write_lines(cub / "images.txt", _numbered(images))
    _write_lines(cub / "classes.txt", _numbered(names))
    _write_lines(cub / "image_class_labels.txt", lines["class"])
    _write_lines(cub / "train_test_split.txt", lines["split"])
    _write_lines(cub / "bounding_boxes.txt", lines["box"])
    _write_lines(cub / "parts" / "parts.txt", _numbered(["back", "left eye"]))
    _write_lines(cub / "parts" / "part_locs.txt", lines["part"])
    _write_lines(root / "attributes.txt", _numbered(attributes))
    _write_lines(
        cub / "attributes" / "certainties.txt", _numbered(["not visible", "guessing", "probably", "definitely"])
    )
    _write_lines(cub / "attributes" / "image_attribute_labels.txt", lines["label"])
    return cub


def _numbered(names):
    return [f"{number} {name}" for number, name in enumerate(names, 1)]


def _write_lines(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
