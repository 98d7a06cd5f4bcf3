"""`ibd predict RUN ... -o FILE`: which files, the rows, damaged ones, and going on after a kill."""

import csv
import json
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image

from ibd.app.predictions import journal, predict
from ibd.app.predictions.listing import listed
from ibd.errors import ConfigError, DataError
from ibd.models.loading import load_network
from tests.command import ibd
from tests.model_makers import make_module

ONE = ("--batch-size", 1, "--workers", 0)
NAMES = ["a/1.png", "a/2.png", "b/1.jpg", "b/sub/3.PNG", "c.png"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    make_module().save(path)
    return path


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    """Five images of different sizes in "images"; files that are none, or hidden, beside them."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((20 + number, 30), 80).convert("RGB").save(path)
    for name in ("notes.txt", "a/._1.png", ".hidden/x.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"none")
    return tmp_path / "images"


def rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_a_pattern_and_a_table_mean_files(images):
    everything = ["images/c.png", "images/a/1.png", "images/a/2.png", "images/b/1.jpg", "images/b/sub/3.PNG"]
    assert listed(["images"]) == everything
    assert listed(["images/*/1.*"]) == ["images/a/1.png", "images/b/1.jpg"]
    assert listed(["images/**/*.PNG"]) == ["images/b/sub/3.PNG"]
    (images / "list.csv").write_text("label,image\nx,a/1.png\ny,nowhere.png\nx,a/1.png\n")
    assert listed(["images/list.csv"]) == ["images/a/1.png", "images/nowhere.png"]
    assert listed(["images/c.png", "images"]) == everything  # each once
    (images / "odd[1].png").write_bytes(b"")
    assert listed(["images/odd[1].png"]) == ["images/odd[1].png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nx.png\n", "list.csv: a column file, image or path is needed; there is: name"),
        ("", "list.csv: a column file, image or path is needed; there is: none"),
        ("file,x\n,1\n", "list.csv:2: there is no file in this line"),
        ("file\n", "list.csv: names no image"),
    ],
)
def test_a_wrong_table_is_a_line(content, message):
    Path("list.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        listed(["list.csv"])
    assert str(caught.value) == message


def json_rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_probabilities_of_all_classes_are_columns(checkpoint, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    answer = ibd("predict", checkpoint, "images", "-o", f"out.{kind}", "--probabilities", "--workers", 0)
    assert answer.code == 0, answer.err
    if kind == "parquet":
        import pyarrow.parquet as pq

        found = pq.read_table("out.parquet").to_pylist()
    else:
        found = rows("out.csv")
    prediction = load_network(checkpoint).predict(listed(["images"]))
    names = [f"probability of {name}" for name in prediction.network.class_names]
    assert list(found[0])[4 : 4 + len(names)] == names
    values = torch.tensor([[float(row[name]) for name in names] for row in found])
    torch.testing.assert_close(values, prediction.probabilities, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_rows_are_those_of_python(checkpoint, kind, workers):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    answer = ibd("predict", checkpoint, "images", "-o", f"out.{kind}", "--workers", workers, "--batch-size", 2)
    assert answer.code == 0, answer.err
    assert "out." + kind + " (5 images, 6 units" in answer.out
    files = listed(["images"])
    wanted = load_network(checkpoint).predict(files).to_dict()
    if kind == "parquet":
        import pyarrow.parquet as pq

        found = pq.read_table("out.parquet").to_pylist()
    else:
        found = rows("out.csv") if kind == "csv" else json_rows("out.jsonl")
    assert [list(row) for row in found] == [list(wanted)] * 5
    assert [(row["file"], row["class"]) for row in found] == list(zip(files, wanted["class"], strict=True))
    for name in list(wanted)[4:]:
        values = torch.tensor([float(row[name]) for row in found])
        torch.testing.assert_close(values, torch.tensor(wanted[name]), rtol=1e-5, atol=1e-6)
    assert sorted(path.name for path in Path().iterdir()) == ["images", f"out.{kind}"]


def test_damaged_images_are_a_line_or_listed(checkpoint, images):
    (images / "a" / "2.png").write_bytes(b"no image")
    (images / "b" / "1.jpg").write_bytes((images / "b" / "1.jpg").read_bytes()[:200])
    command = ("predict", checkpoint, "images", "-o", "out.csv", *ONE)
    mistake = ibd(*command).mistake
    assert mistake.startswith("images/a/2.png: cannot be read: it is not an image")
    assert "--skip-damaged lists such images and passes over them; " in mistake
    assert not Path("out.csv").exists()
    answer = ibd(*command, "--skip-damaged")
    assert [row["file"] for row in rows("out.csv")] == ["images/c.png", "images/a/1.png", "images/b/sub/3.PNG"]
    assert [row["file"] for row in rows("out.csv.damaged.csv")] == ["images/a/2.png", "images/b/1.jpg"]
    assert "passed over: 2 damaged images, listed in out.csv.damaged.csv" in answer.out


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("rest", ["", "half", '"half\r\n', '{"file": "im'])
def test_a_killed_run_goes_on(checkpoint, kind, rest):
    """Killed after three of five, as it wrote a line: no image twice, no half line, and none predicted again."""
    ibd("predict", checkpoint, "images", "-o", f"whole.{kind}", *ONE)
    command = ("predict", checkpoint, "images", "-o", f"out.{kind}", *ONE)
    kill_after(3, command)
    partial = Path(f"out.{kind}.partial") / f"rows.{kind}"
    assert not Path(f"out.{kind}").exists()
    assert partial.exists()
    with partial.open("ab") as file:
        file.write(rest.rstrip("\r\n").encode() if kind == "jsonl" else rest.encode())
    seen = []
    with mock.patch.object(
        predict.Prediction, "to_dict", lambda p, *more, whole=to_dict: seen.append(p) or whole(p, *more)
    ):
        answer = ibd(*command)
    assert answer.out.startswith("going on: 3 of 5 images are predicted already\n")
    assert len(seen) == 2
    assert Path(f"out.{kind}").read_bytes() == Path(f"whole.{kind}").read_bytes()
    assert not partial.parent.exists()


to_dict = predict.Prediction.to_dict


def kill_after(count, command):
    """Run a command that ends after so many rows as a kill ends it: nothing is tidied up."""
    done = []

    def add(self, columns, whole=journal.Journal.add):
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(columns)
        whole(self, columns)

    with mock.patch.object(journal.Journal, "add", add):
        answer = ibd(*command)
    assert answer.code == 130
    told = f"{count} of 5 images are predicted; the same command goes on with the others"
    assert answer.err == f"ibd: interrupted: {told}\n"


def test_rows_of_another_model_or_of_other_images_are_not_mixed(checkpoint, tmp_path):
    kill_after(2, ("predict", checkpoint, "images", "-o", "out.csv", *ONE))
    make_module(seed=1).save(tmp_path / "other.ckpt")
    wrong = "'out.csv.partial' holds the beginning of other predictions"
    assert ibd("predict", tmp_path / "other.ckpt", "images", "-o", "out.csv").mistake.startswith(wrong)
    assert ibd("predict", checkpoint, "images/a", "-o", "out.csv").mistake.startswith(wrong)
    assert ibd("predict", checkpoint, "images", "-o", "out.csv").code == 0


def test_a_folder_that_is_a_link_is_below_it_too_and_links_that_go_round_end(images, tmp_path):
    """Pictures of a camera on another disk; links to what is there anyway name nothing twice."""
    other = tmp_path / "disk" / "camera"
    (other / "day").mkdir(parents=True)
    (images / "c.png").rename(other / "day" / "c.png")
    (images / "linked").symlink_to(other, target_is_directory=True)
    (images / "again").symlink_to(images / "a", target_is_directory=True)
    (images / "b" / "up").symlink_to(images, target_is_directory=True)
    (other / "round").symlink_to(other, target_is_directory=True)
    assert listed(["images"]) == [f"images/{name}" for name in (*NAMES[:-1], "linked/day/c.png")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_images_that_were_taken_away_meanwhile_have_no_row(checkpoint, images, kind):
    """A folder from which one goes before the command goes on: the file has what is there, and the count is of that."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    command = ("predict", checkpoint, "images", "-o", f"out.{kind}", *ONE)
    kill_after(3, command)
    (images / "a" / "2.png").unlink()
    answer = ibd(*command)
    assert answer.out.startswith(
        "going on: 2 of 4 images are predicted already\n"
        "left out: rows of images that are not among these any more: 1\n"
        f"written: out.{kind} (4 images, "
    )
    ibd("predict", checkpoint, "images", "-o", f"whole.{kind}", *ONE)
    assert Path(f"out.{kind}").read_bytes() == Path(f"whole.{kind}").read_bytes()
    assert not Path(f"out.{kind}.partial").exists()


def test_a_row_is_there_as_soon_as_its_batch_is(checkpoint):
    """Memory does not grow with the images: at most two batches are in memory, the others are in the file."""
    lines = []

    def counted(self, columns, whole=journal.Journal.add):
        whole(self, columns)
        lines.append(len(rows("out.csv.partial/rows.csv")))

    with mock.patch.object(journal.Journal, "add", counted):
        ibd("predict", checkpoint, "images", "-o", "out.csv", "--batch-size", 2, "--workers", 0)
    assert lines == [2, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images", "-o", "out.txt"], "-o: 'out.txt': the name must end with .csv, .jsonl or .parquet"),
        (["images", "-o", "there.csv"], "-o: 'there.csv' is there already: name another file, or add --overwrite"),
        (["images", "-o", "folder.csv"], "-o: 'folder.csv' is a folder, a file is needed"),
        (["images", "-o", "there.csv/x.csv"], "-o: cannot write to 'there.csv/x.csv.partial'"),
        (["empty", "-o", "x.csv"], "empty: there is no image in it (jpg, "),
        (["no*.png", "-o", "x.csv"], "no*.png: no file matches it"),
        (["missing.csv", "-o", "x.csv"], "missing.csv: there is no such file"),
        (["missing.png", "-o", "x.csv"], "missing.png: cannot be read: there is no such file"),
        (["imags", "-o", "x.csv", "--skip-damaged"], "imags: cannot be read: there is no such file"),
        (
            ["list.csv", "-o", "./list.csv", "--overwrite"],
            "-o: 'list.csv' is what names the images",
        ),
        (["images", "-o", "x.csv", "--batch-size", "0"], "--batch-size: 0 given, at least 1 is needed"),
        (["images", "-o", "x.csv", "--device", "gpu"], "predict: device: 'gpu' cannot be used"),
        (["images", "-o", "x.csv", "--figure", "x.png"], "--figure draws predictions that are shown"),
        (["images/c.png", "--skip-damaged"], "--skip-damaged, --overwrite and --probabilities are for"),
        (["images/c.png", "--probabilities"], "--skip-damaged, --overwrite and --probabilities are for"),
        (["images"], "images: cannot be read: it is a folder, a file is needed (-o FILE.csv predicts all images of"),
    ],
)
def test_a_mistake_is_a_line(checkpoint, arguments, message):
    Path("empty").mkdir()
    Path("folder.csv").mkdir()
    Path("there.csv").write_text("mine")
    Path("list.csv").write_text("image\nimages/c.png\n")
    assert ibd("predict", checkpoint, *arguments).mistake.startswith(message)
    assert Path("there.csv").read_text() == "mine"
    assert Path("list.csv").read_text().startswith("image\n")
    assert not Path("x.csv").exists()


def test_overwrite(checkpoint):
    Path("out.csv").write_text("old")
    assert ibd("predict", checkpoint, "images", "-o", "out.csv", "--overwrite").code == 0
    assert len(rows("out.csv")) == 5


def test_without_pyarrow_or_pandas_a_line_says_what_to_install(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    told = ibd("predict", checkpoint, "images", "-o", "out.parquet").mistake
    assert told == "a .parquet file needs pyarrow: pip install 'ibd[tables]'"
    from ibd.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match=r"pip install 'ibd\[tables\]'"):
        make_module().predict(torch.rand(1, 3, 16, 16)).to_pandas()


def test_two_at_once_into_one_file_are_refused(checkpoint):
    from ibd.lock import locked

    with locked("out.csv.partial", "ibd predict", "-o"), pytest.raises(ConfigError, match="is in use"):
        list(predict.predict_files(str(checkpoint), ["images"], Path("out.csv"), predict.Options()))
