"""A user's folder of images: what is read, what is refused, and that training sees the same images anywhere."""

import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ibd.data.dataset import Key
from ibd.data.folder import ConceptFolder
from ibd.data.images import read_image
from ibd.errors import ConfigError, DataError
from tests.data_makers import CLASSES, CONCEPTS, make_concept_folder, write_image, write_rows


@pytest.fixture
def root(tmp_path):
    return make_concept_folder(tmp_path / "pets")


def open_folder(root, **kwargs):
    return ConceptFolder(str(root), **{"image_size": 16, **kwargs})


def error(root, **kwargs):
    with pytest.raises(DataError) as caught:
        open_folder(root, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_concepts_per_class(root):
    data = open_folder(root, image_size=[16, 20])
    assert data.spec.class_names == CLASSES
    assert data.spec.concept_names == tuple(CONCEPTS)
    assert data.spec.concept_groups == {"legs": (0, 1), "sound": (2, 3), "flies": (4,)}
    assert data.spec.exclusive_groups == ("legs",)
    test = data.dataset("test")
    assert test is data.dataset("test")
    sample = test[3]
    assert (sample.label, sample.index, test.sample_id(3)) == (1, 3, "test/dog/001.png")
    assert sample.concepts.tolist() == [values[1] for values in CONCEPTS.values()]
    assert sample.image.shape == (3, 16, 20)
    assert sample.image.dtype == torch.float32
    assert sample.masks is None
    batch = next(iter(data.val_dataloader()))
    assert batch.label.tolist() == [0, 1, 2]  # a tenth of six, and at least one


def test_concepts_per_image_with_unknowns(tmp_path):
    root = make_concept_folder(tmp_path, concepts="image")
    text = (root / "concepts.csv").read_text().splitlines()
    assert text[1] == "train/cat/000.png,0,1,0,1,0"
    text[1] = ".\\train\\cat\\000.png,1.0,,1,,0"  # as pandas on Windows would write it
    (root / "concepts.csv").write_text("\n".join(line for line in text if "owl/001" not in line), encoding="utf-8-sig")
    data = open_folder(root)
    table = {path: row for t in data.tables.values() for path, row in zip(t.paths, t.concepts, strict=True)}
    torch.testing.assert_close(
        table["train/cat/000.png"], torch.tensor([1, torch.nan, 1, torch.nan, 0]), equal_nan=True
    )
    assert table["train/owl/001.png"].isnan().all()
    assert table["test/owl/000.png"].tolist() == [1, 0, 1, 1, 1]
    assert data.spec.exclusive_groups == ("legs",)


def test_without_concepts(tmp_path):
    root = make_concept_folder(tmp_path, concepts=None)
    assert open_folder(root).dataset("train").concepts.shape == (15, 0)
    assert error(root, concepts="concepts.csv") == f"{root / 'concepts.csv'}: there is no such file."
    write_rows(root / "concept.csv", [["class"]])
    assert "Did you mean 'concept.csv'?" in error(root, concepts="concepts.csv")


def test_the_validation_split_depends_on_names_and_seed_alone(tmp_path):
    def validation(root, seed=0):
        data = open_folder(root, val_fraction=0.3, split_seed=seed)
        paths = data.tables["val"].paths
        assert not set(paths) & set(data.tables["train"].paths)
        assert len(paths) + len(data.tables["train"].paths) == 60
        assert data.tables["val"].labels.bincount().tolist() == [6, 6, 6]
        return paths

    root = make_concept_folder(tmp_path / "a", train=20, size=(4, 4))
    paths = validation(root)
    assert paths[:6] == [f"train/cat/{n}.png" for n in ("004", "005", "006", "007", "011", "012")]  # on any machine
    shuffled = [np.random.default_rng(0).permutation(20), np.arange(20)[::-1], np.arange(20)]
    for name, order in zip(CLASSES, shuffled, strict=True):
        for index in order:  # another order of creation
            (tmp_path / f"b/train/{name}").mkdir(parents=True, exist_ok=True)
            shutil.copy(root / f"train/{name}/{index:03d}.png", tmp_path / f"b/train/{name}")
    assert validation(tmp_path / "b") == paths
    data = open_folder(tmp_path / "b")
    reversed_table = data.tables["train"].select(torch.ones(54, dtype=torch.bool))
    reversed_table = type(reversed_table)(
        reversed_table.paths[::-1], reversed_table.labels.flip(0), reversed_table.concepts, reversed_table.rows
    )
    forward, backward = (table.split(0.3, 5)[1].paths for table in (data.tables["train"], reversed_table))
    assert forward == backward[::-1]
    assert validation(root, seed=1) != paths


def test_own_validation_folder_and_missing_test(tmp_path):
    data = open_folder(make_concept_folder(tmp_path, val=2, test=0))
    assert (len(data.dataset("train")), len(data.dataset("val"))) == (18, 6)
    with pytest.raises(DataError, match=r": there are no images for 'test'; put them in .*test$"):
        data.test_dataloader()


@pytest.mark.parametrize("augment", ["none", "flip", "shift", "crop", "crop_color"])
@pytest.mark.parametrize("size", [(24, 32), (16, 16)])
def test_the_cache_changes_nothing(tmp_path, augment, size):
    root = make_concept_folder(tmp_path, masks=("left", "right"), size=size)
    write_image(root / "train/owl/x.png", (9, 9, 9), (30, 40))  # one of another size, without masks
    kept, read = (open_folder(root, augment=augment, masks="masks", cache=cache) for cache in (True, False))
    kept.setup("fit")
    assert open_folder(root).tables["train"].paths == read.tables["train"].paths
    for split, augmented in (("train", True), ("train", False), ("val", False)):
        a, b = kept.dataset(split, augmented), read.dataset(split, augmented)
        for index in range(len(a)):
            key = Key(index, seed=index)
            torch.testing.assert_close(a[key].image, b[key].image, rtol=0, atol=0)
            torch.testing.assert_close(a[key].masks, b[key].masks, rtol=0, atol=0)


@pytest.mark.parametrize("augment", ["flip", "shift", "crop"])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_masks_follow_the_image(tmp_path, augment, resize):
    root = make_concept_folder(tmp_path, train=2, size=(64, 48))
    white = np.zeros((64, 48), np.uint8)
    white[16:48, 20:40] = 255
    path = root / "train/cat/000.png"
    Image.fromarray(white).convert("RGB").save(path)
    for part in ("box", "rest"):
        (root / f"masks/{part}/train/cat").mkdir(parents=True)
    Image.fromarray(white).save(root / "masks/box/train/cat/000.png")
    Image.fromarray(255 - white).save(root / "masks/rest/train/cat/001.png")
    data = open_folder(root, image_size=32, masks="masks", augment=augment, resize=resize, val_fraction=0.01)
    assert data.spec.part_names == ("box", "rest")
    train = data.dataset("train", augment=True)
    table = data.tables["train"]
    if "train/cat/000.png" not in table.paths:
        train = data.dataset("val")
        table = data.tables["val"]
    index = table.paths.index("train/cat/000.png")
    images = set()
    for seed in range(8):
        sample = train[Key(index, seed)]
        assert sample.masks.dtype == torch.bool
        assert sample.masks.shape == (2, 32, 32)
        assert not sample.masks[1].any()
        bright = sample.image.mean(0) > 0.5
        assert (bright != sample.masks[0]).float().mean() < 0.06  # the edge, where pixels mix
        images.add(sample.image.numpy().tobytes())
        again = train[Key(index, seed)]
        assert torch.equal(again.image, sample.image)
    assert len(images) >= 2 or table is data.tables["val"]


def test_a_seeded_sample_leaves_the_generator_as_it_was(root):
    train = open_folder(root, augment="crop_color").dataset("train", augment=True)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train[Key(0, seed=11)]
    assert torch.equal(torch.rand(4), expected)


def test_shift_and_flip_keep_every_pixel_they_show(tmp_path):
    root = make_concept_folder(tmp_path, size=(16, 16))
    data = open_folder(root, augment="shift")
    train = data.dataset("train", augment=True)
    original = read_image(root / train.sample_id(0)).float() / 255
    padded = torch.nn.functional.pad(original, [2, 2, 2, 2])
    allowed = {
        crop.numpy().tobytes()
        for y in range(5)
        for x in range(5)
        for crop in (padded[:, y : y + 16, x : x + 16].contiguous(), padded[:, y : y + 16, x : x + 16].flip(-1))
    }
    seen = {train[Key(0, seed)].image.contiguous().numpy().tobytes() for seed in range(400)}
    assert seen <= allowed
    assert len(seen) == 50


def test_exclusive_groups_by_name(root):
    assert open_folder(root, exclusive_groups=["sound"]).spec.exclusive_groups == ("sound",)
    with pytest.raises(ConfigError, match=r"there is no group 'leg'\. Did you mean 'legs'\?"):
        open_folder(root, exclusive_groups=["leg"])
    with pytest.raises(ConfigError, match=r"^data\.exclusive_groups: 'all' given"):
        open_folder(root, exclusive_groups="all")


@pytest.mark.parametrize(
    ("argument", "value"),
    [("image_size", [1, 2, 3]), ("image_size", 0), ("val_fraction", 1.0), ("resize", "x"), ("augment", "x")],
)
def test_bad_arguments(root, argument, value):
    with pytest.raises(ConfigError, match=rf"^data.{argument}: "):
        open_folder(root, **{"augment": "crop", argument: value})


def test_wrong_folders(root):
    assert error(root.parent / "pet") == f"{root.parent / 'pet'}: there is no such folder. Did you mean 'pets'?"
    assert f"nor {root.parent / 'pet'}. Did you mean 'pets'?" in error(root.parent / "pet" / "small")
    assert error(root / "concepts.csv").endswith("concepts.csv: is a file, a folder is needed")
    (root / "val" / "catt").mkdir(parents=True)
    write_image(root / "val/catt/x.png", (0, 0, 0), (4, 4))
    assert error(root) == f"{root / 'val/catt'}: there is no class 'catt' in train. Did you mean 'cat'?"
    (root / "val").rename(root / "validation")
    assert error(root) == f"{root / 'validation'}: name this folder 'val' to have it read"
    shutil.rmtree(root / "validation")
    (root / "train/empty").mkdir()
    (root / "train/empty/.hidden.png").touch()
    (root / "train/empty/readme.txt").touch()
    assert error(root).startswith(f"{root / 'train/empty'}: there is no image in it (jpg, ")
    assert error(root).endswith("; it holds 'readme.txt'")
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    assert error(root) == f"{root / 'train'}: there are no class folders; images must lie in train/CLASS/"
    (root / "train").rename(root / "Train")
    assert error(root).startswith(f"{root}: there is no folder 'train'; images must lie in train/CLASS/. Did you mean")


HEADER = "class," + ",".join(CONCEPTS)
ROWS = ["cat,0,1,0,1,0", "dog,0,1,1,0,0", "owl,1,0,1,1,1"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ": the file is empty; its first line must be 'class,CONCEPT,...' or 'image,CONCEPT,...'"),
        ([HEADER], ": there is no line after the header; one for each class is needed"),
        ([HEADER.replace(",", ";")], ":1: the columns are separated by semicolons; save the file with commas"),
        ([HEADER.replace(",", "\t")], ":1: the columns are separated by tabs; save the file with commas"),
        (["klass,a", *ROWS], ":1: the first column is 'klass', it must be 'class' or 'image'"),
        (["class", *ROWS], ":1: there is no concept after 'class'"),
        (["class,a,,b"], ":1: column 3 has no name"),
        (["class,a,b,a"], ":1: columns 2 and 4 are both named 'a'"),
        ([HEADER, *ROWS, "dog,0,1,1,0,0"], ":5: class 'dog' has a row already, on line 3"),
        ([HEADER, ROWS[0], "", "dog,0,1,1"], ":4: 4 fields, the header has 6"),
        (
            [HEADER, "cat,0,1,yes,1,0"],
            ":2: column 'sound::loud': 'yes' given, a truth value from 0 to 1 or nothing (unkn",
        ),
        ([HEADER, *ROWS[:2], "old,1,0,1,1,1"], ":4: class 'old' has no folder in train. Did you mean 'owl'?"),
        ([HEADER, *ROWS[:2]], ": class 'owl' has no row. Known: cat, dog."),
        (["image,a", "train/cat/000.pnk,1"], ":2: there is no image 'train/cat/000.pnk'. Did you mean one of: 't"),
    ],
)
def test_a_wrong_concept_file_names_the_line(root, lines, message):
    (root / "concepts.csv").write_text("\n".join(lines))
    assert error(root).startswith(f"{root / 'concepts.csv'}{message}")


def test_a_concept_file_that_is_not_utf_8(root):
    (root / "concepts.csv").write_bytes(f"{HEADER}é".encode("latin-1"))
    assert error(root) == f"{root / 'concepts.csv'}: is not UTF-8 text; save it as 'CSV UTF-8'"


def test_wrong_masks(root):
    assert error(root, masks="mask") == f"{root / 'mask'}: there is no such folder. Known: test, train."
    (root / "masks").mkdir()
    assert "there are no part folders; masks must lie in PART/train/CLASS/" in error(root, masks="masks")
    (root / "masks/wing").mkdir()
    assert error(root, masks="masks").endswith("no mask for any image; the first would be 'train/cat/000.png'")
    (root / "masks/wing/test/cat").mkdir(parents=True)
    Image.new("L", (5, 6)).save(root / "masks/wing/test/cat/000.png")
    with pytest.raises(DataError, match=r"the mask is 5 x 6 pixels, its image 'test/cat/000.png' is 32 x 24$"):
        open_folder(root, masks="masks").dataset("test")[0]


def test_a_damaged_image_is_found_before_training(root):
    bad = root / "test/dog/000.png"
    bad.write_bytes(bad.read_bytes()[:200])
    data = open_folder(root)
    with pytest.raises(DataError, match=re.escape(f"{bad}: cannot be read: ")):
        data.prepare_data()
    open_folder(root, check_images=False).prepare_data()
    with pytest.raises(DataError, match=re.escape(f"{bad}: cannot be read: ")):
        data.dataset("test")[2]


def test_a_single_class(tmp_path):
    root = make_concept_folder(tmp_path)
    for name in CLASSES[1:]:
        for split in ("train", "test"):
            shutil.rmtree(root / split / name)
    assert error(root) == f"{root / 'train'}: there is only one class, '{CLASSES[0]}'; two are needed"


def test_classes_of_one_image_have_none_to_spare_for_validation(tmp_path):
    root = make_concept_folder(tmp_path, train=1)
    assert error(root) == f"{root}: no class has an image to spare for validation; add a folder val"


@pytest.mark.parametrize("place", ["train/cat/000.png", "masks/left/train/cat/000.png", "concepts.csv"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, place):
    root = make_concept_folder(tmp_path / "pets", masks=("left",), val=1)
    (root / place).unlink()
    os.mkfifo(root / place)

    def read():
        data = open_folder(root, masks="masks")
        data.prepare_data()
        return data.dataset("train")[0]

    with pytest.raises(DataError, match=rf"{place}: .*is a pipe or a device, a file is needed"):
        read()


@pytest.mark.parametrize("option", ["root", "concepts", "masks"])
def test_nul_in_a_path(root, option):
    with pytest.raises(DataError, match="a path cannot hold the character NUL"):
        ConceptFolder(**{"root": str(root), option: f"{root}\0"})


def test_a_file_of_something_else_is_refused_at_its_first_line(root):
    """However large: what comes after is not read."""
    lines = ["class,legs::two", "cat,1", f"cow{'w' * 5000},0", *["cow,0"] * 20_000]
    (root / "concepts.csv").write_bytes("\n".join(lines).encode() + b"\xff\xfe")
    message = error(root)
    assert message.startswith(f"{root / 'concepts.csv'}:3: class 'coww")
    assert "has no folder in train. Did you mean" in message or "Known: cat, dog, owl." in message
    assert len(message) < 400


def test_a_wide_table(root):
    """Digits alone are read at once; with a gap, or as pandas writes them, cell by cell: to the same values."""
    names = [f"c{k}" for k in range(300)]
    rows = [["cat", *([0, 1] * 150)], ["dog", "", *[1] * 299], ["owl", *["1.0"] * 300]]
    write_rows(root / "concepts.csv", [["class", *names], *rows])
    train = open_folder(root).dataset("train")
    found = [train.concepts[int((train.labels == label).nonzero()[0])] for label in range(3)]
    assert found[0].tolist() == [0, 1] * 150
    assert found[1][0].isnan()
    assert found[1][1:].tolist() == [1] * 299
    assert found[2].tolist() == [1] * 300


def test_a_class_that_validation_lacks(tmp_path):
    root = make_concept_folder(tmp_path, val=1)
    shutil.rmtree(root / "val/dog")
    assert open_folder(root).dataset("val").labels.tolist() == [0, 2]
