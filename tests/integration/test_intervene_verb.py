"""`ibd intervene ... -o FILE`: what the page's JSON and CSV hold, with all digits."""

import csv
import json

import pytest
import torch
from PIL import Image

from ibd.app.records import as_record
from ibd.models.baseline.lightning import Baseline
from ibd.models.loading import load_network
from ibd.models.values import Scale
from tests.command import ibd
from tests.model_makers import SMALL, SPEC, make_module, make_prototypes

MAKERS = {"concepts": make_module, "prototypes": make_prototypes, "channels": lambda: Baseline(SPEC, SMALL)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a photo, and a run of each of some families."""
    monkeypatch.chdir(tmp_path)
    pixels = torch.randint(0, 256, (20, 24, 3), generator=torch.Generator().manual_seed(1)).byte()
    Image.fromarray(pixels.numpy()).save("a bird.png")
    for name, make in MAKERS.items():
        make().save(f"{name}/checkpoints/best.ckpt")
    return tmp_path


CORRECTIONS = {
    "concepts": (("wing=red", "flies=0.25"), {"wing": "red", "flies": 0.25}, {"wing": "red", "flies": 0.25}),
    "prototypes": (("prototype 1=1.7",), {"prototype 1": 1.7}, {"prototype 1": 1.7}),
    "channels": (("channel 1=x0.5",), {"channel 1": Scale(0.5)}, {"channel 1": "x0.5"}),
}


@pytest.mark.parametrize(("run", "given"), CORRECTIONS.items())
def test_a_json_file_holds_what_python_says(here, run, given):
    words, values, edits = given
    answer = ibd("intervene", run, "a bird.png", *words, "-o", "out.json")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == "written: out.json"
    model = load_network(run)
    before = model.predict("a bird.png")
    after = before.intervene(values)
    record = json.loads((here / "out.json").read_text(encoding="utf-8"))
    assert record == json.loads(json.dumps(as_record(before, after, "a bird.png", edits, run, "a bird.png")))
    assert torch.tensor(record["after"]["logits"]).equal(after.logits[0])  # to the last digit
    told = {}
    exec(record["python"], told)
    assert told["after"].logits.equal(after.logits)


def test_a_csv_file_has_two_rows(here):
    assert ibd("intervene", "concepts", "a bird.png", "flies=1", "-o", "out.csv").code == 0
    with (here / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a bird.png", "a bird.png (corrected)"]
    assert rows[1]["flies"] == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "out.txt"), "-o: 'out.txt': the name must end with .json or .csv"),
        (("-o", "there.json"), "-o: 'there.json' is there already: name another file, or add --overwrite"),
        (("-o", "folder.csv"), "-o: 'folder.csv' is a folder, a file is needed"),
        (("--overwrite",), "--overwrite is for a correction that is written down: add -o FILE"),
        (("-o", "there.json/out.json"), "cannot write 'there.json/out.json': 'there.json' is not a folder"),
    ],
)
def test_a_file_that_cannot_be_written(options, message, here):
    (here / "there.json").write_text("mine")
    (here / "folder.csv").mkdir()
    answer = ibd("intervene", "concepts", "a bird.png", "flies=1", *options)
    assert answer.mistake.startswith(message)
    assert (here / "there.json").read_text() == "mine"


def test_a_file_that_may_be_replaced_and_a_name_that_is_no_text(here):
    (here / "there.json").write_text("old")
    odd = "bird\udc80.png"
    (here / "a bird.png").rename(here / odd)
    answer = ibd("intervene", "concepts", odd, "flies=1", "-o", "there.json", "--overwrite")
    assert answer.code == 0, answer.err
    assert json.loads((here / "there.json").read_text(encoding="utf-8"))["image"] == r"bird\udc80.png"
