"""The lines that do what was done on the page: in a shell and in Python they give its logits."""

import csv
import io
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ibd.app.page.results import file_of, map_png, survives_png
from ibd.app.page.site import Site
from ibd.app.page.taking import run_in_lines
from ibd.app.records import as_csv, as_record, python_lines, shell_line
from ibd.data.folder import ConceptFolder
from ibd.models.prediction import Prediction
from tests.command import ibd
from tests.data_makers import make_concept_folder
from tests.model_makers import TensorData, make_module, make_prototypes
from tests.page_makers import Page, bird_data, make_run

ODD = 'a bird\'s "photo" $HOME; 50% -é.png'


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """An image file whose name a shell would read otherwise, in the current folder."""
    monkeypatch.chdir(tmp_path)
    pixels = torch.randint(0, 256, (20, 24, 3), generator=torch.Generator().manual_seed(1)).byte()
    Image.fromarray(pixels.numpy()).save(ODD)
    return ODD


def saved(model, folder, name="a run's"):
    path = folder / name / "checkpoints" / "best.ckpt"
    model.save(path)
    return str(folder / name)


EDITS = {
    "concepts": (make_module, {"wing::red": 1.0, "flies": 0.123456789}),
    "prototypes": (make_prototypes, {"prototype 1": 1.7}),
}


@pytest.mark.parametrize(("make", "edits"), EDITS.values(), ids=EDITS)
def test_the_shown_lines_give_the_logits_of_the_page(make, edits, photo, tmp_path, monkeypatch):
    model = make()
    run = saved(model, tmp_path)
    after = model.predict(photo).intervene(edits)
    seen = []
    table = Prediction.table
    monkeypatch.setattr(Prediction, "table", lambda self, *args: seen.append(self.logits) or table(self, *args))
    words = shlex.split(shell_line(run, photo, edits))
    assert words[:2] == ["ibd", "intervene"]
    answer = ibd(*words[1:])
    assert answer.code == 0, answer.err
    torch.testing.assert_close(seen[-1], after.logits, rtol=0, atol=1e-5)
    told = {}
    exec(python_lines(run, photo, edits), told)
    torch.testing.assert_close(told["after"].logits, after.logits, rtol=0, atol=1e-5)


def test_a_real_shell_takes_the_line_apart_as_it_was_meant(tmp_path):
    edits = {'wing::it\'s "red" & $(blue)`x`': 1.0, "-first": 0.5, "länge\\": -2.0}
    line = shell_line("-runs of mine", "-" + ODD, edits)
    program = "import sys, json; print(json.dumps(sys.argv[1:]))"
    shown = subprocess.run(
        ["sh", "-c", line.replace("ibd ", f'{shlex.quote(sys.executable)} -c "{program}" ', 1)],
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    words = json.loads(shown.stdout)
    assert words == ["intervene", "--", "-runs of mine", "-" + ODD, *(f"{n}={v:g}" for n, v in edits.items())]


def test_names_that_begin_with_a_dash_reach_the_command(photo, tmp_path):
    run = saved(make_module(), tmp_path, "-run")
    answer = ibd(*shlex.split(shell_line("-run", photo, {"flies": 1.0}))[1:])
    assert answer.code == 0, answer.err
    assert run.endswith("-run")


def test_without_corrections_the_line_predicts(photo, tmp_path):
    run = saved(make_module(), tmp_path)
    line = shell_line(run, photo, {})
    assert shlex.split(line) == ["ibd", "predict", run, photo]
    assert ibd(*shlex.split(line)[1:]).code == 0
    told = {}
    exec(python_lines(run, photo, {}), told)
    assert "after" not in told


def test_words_of_the_command_line_stay_words():
    assert (
        shell_line("r", "i.png", {"channel 1": "x0.5", "wing": "red"})
        == "ibd intervene r i.png 'channel 1=x0.5' wing=red"
    )
    lines = python_lines("r", "i.png", {"channel 1": "x0.5", "wing": "red", "tail": "x-ray"})
    assert "from ibd.models.values import Scale" in lines
    assert "{'channel 1': Scale(0.5), 'wing': 'red', 'tail': 'x-ray'}" in lines


def test_csv_and_json_hold_what_was_predicted_before_and_after():
    model = make_module()
    before = model.predict(torch.rand(1, 3, 16, 16))
    after = before.intervene({"flies": 1.0})
    rows = list(csv.DictReader(io.StringIO(as_csv(before, after, "bird, the.png"))))
    assert [row["file"] for row in rows] == ["bird, the.png", "bird, the.png (corrected)"]
    assert [row["class"] for row in rows] == [before.classes[0], after.classes[0]]
    assert float(rows[1]["flies"]) == pytest.approx(float(after.unit_values[0, 5]), rel=1e-6)
    assert len(list(csv.reader(io.StringIO(as_csv(before, None, "a.png"))))) == 2
    record = json.loads(json.dumps(as_record(before, after, "bird.png", {"flies": 1.0}, "runs/x", "bird.png")))
    assert record["after"]["logits"] == pytest.approx(after.logits[0].tolist(), rel=1e-6)
    assert record["before"]["units"]["flies"] == pytest.approx(float(before.unit_values[0, 5]))
    assert record["edits"] == {"flies": 1.0}
    assert record["shell"] == shell_line("runs/x", "bird.png", {"flies": 1.0})
    assert "after" not in as_record(before, None, "bird.png", {}, "runs/x", "bird.png")


def test_the_file_of_an_image_of_the_data_predicts_the_same(tmp_path):
    data = ConceptFolder(make_concept_folder(tmp_path), image_size=16)
    dataset = data.dataset("test")
    file = file_of(dataset, 1)
    assert file.is_file()
    model = make_module(data.spec)
    torch.testing.assert_close(model.predict(str(file)).logits, model.predict(dataset[1].image).logits)
    assert file_of(TensorData().dataset("test"), 1) is None


def test_what_eight_bits_hold_survives_a_file():
    assert survives_png(torch.arange(256).float().div(255).view(1, 16, 16).expand(3, -1, -1))
    assert not survives_png(torch.full((3, 2, 2), 0.3))


def test_a_small_map_is_enlarged_and_framed():
    base, layer = np.zeros((16, 32, 3), np.float32), np.ones((16, 32, 3), np.float32)
    picture = np.asarray(Image.open(io.BytesIO(map_png(base, layer, 0.5, (2, 4, 10, 20)))))
    assert picture.shape == (224, 448, 3)
    assert picture[112, 336].tolist() == [128, 128, 128]
    assert picture[28, 56].tolist() == [0, 0, 0]  # the corner of the frame
    assert picture[28 + 1, 56 + 30].tolist() == [255, 212, 59]
    assert picture[28 - 1, 56 + 30].tolist() == [128, 128, 128]
    large = map_png(np.zeros((500, 20, 3), np.float32), np.zeros((500, 20, 3), np.float32), 1.0)
    assert Image.open(io.BytesIO(large)).size == (20, 500)


def test_the_lines_name_the_checkpoint_that_is_served(tmp_path):
    folder = make_run(tmp_path / "birds")
    last = folder / "checkpoints" / "last.ckpt"
    make_module(bird_data().spec, seed=1).save(last)
    site = Site([str(folder), str(last)])
    best, other = site.runs.values()
    assert run_in_lines(best) == str(folder)
    assert run_in_lines(other) == str(last)


def test_lines_of_a_run_that_was_trained_on_say_so(tmp_path):
    folder = make_run(tmp_path / "birds")
    client = Page(folder).browser()
    ask = {"image": "test:1", "edits": {}}
    assert "trained on" not in client.post("/api/runs/birds/result", json=ask).json()["note"]
    make_module(bird_data().spec, seed=1).save(folder / "checkpoints" / "best.ckpt")
    assert "trained on" in client.post("/api/runs/birds/result", json=ask).json()["note"]


def test_the_picture_of_prototypes_is_never_of_others_than_are_served(tmp_path):
    folder = make_run(tmp_path / "birds", lambda spec: make_prototypes(bird_data(), per_class=1))
    client = Page(folder).browser()
    make_prototypes(bird_data(), per_class=1, seed=1).save(folder / "checkpoints" / "best.ckpt")
    answer = client.post("/api/runs/birds/summary", json={"image": "test:1", "edits": {}})
    assert answer.status_code == 400
    assert "start `ibd serve` again" in answer.json()["error"]
