"""What the model mode asks of the server: pictures, names and edits, and mistakes in one line."""

import io
import shutil
import time

import pytest
import torch
from PIL import Image

from ibd.io import load_model, load_run
from tests.model_makers import make_module, make_pipnet
from tests.page_makers import Page, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "parts" / "2026-01-01_00-00-00", make_pipnet)


@pytest.fixture
def client(run):
    return Page(run).browser()


def ask(client, path, **given):
    """Ask until it is there."""
    for _ in range(600):
        answer = client.get(f"/api/runs/{path}", params=given)
        assert answer.status_code == 200, answer.text
        if not isinstance(answer.json().get("work"), dict):
            return answer.json()
        time.sleep(0.05)
    raise AssertionError("it never ends")


def test_a_part_of_an_image_is_cut_out_of_it(client, run):
    image = load_run(run)[1].dataset("train")[4].image
    answer = client.get("/api/runs/parts/model/image", params={"image": "train:4", "box": "0.25,0.5,0.5,1"})
    shown = torch.from_numpy(__import__("numpy").asarray(Image.open(io.BytesIO(answer.content))).copy())
    height, width = image.shape[1:]
    part = (image[:, height // 4 : height // 2, width // 2 :] * 255).round().byte().permute(1, 2, 0)
    times = shown.shape[0] // part.shape[0]
    assert torch.equal(shown[::times, ::times], part)
    assert min(shown.shape[:2]) >= 160


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": "train:999"}, "no image 'train:999'"),
        ({"image": "upload:abc"}, "no split 'upload'"),
        ({"image": "train:0", "box": "1,2"}, "four numbers are needed"),
        ({"image": "train:0", "box": "0.5,0,0.2,1"}, "shares of the image from 0 to 1"),
        ({"image": "train:0", "box": "nan,0,1,1"}, "shares of the image from 0 to 1"),
    ],
)
def test_pictures_that_there_are_not(client, given, message):
    answer = client.get("/api/runs/parts/model/image", params=given)
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]


def test_an_edit_is_a_new_run_that_is_served(client, run):
    edits = {"forget": [1], "keep": [], "replace": {}}
    work = client.post("/api/runs/parts/model/edits", json=edits).json()["work"]
    edited = ask(client, f"parts/model/edits/{work}")["edited"]
    assert load_model(edited["folder"]).network.mask.tolist()[:3] == [True, False, True]
    assert load_model(run).network.mask.all()
    about = client.get(f"/api/runs/{edited['run']}/model").json()
    assert about["on"][:3] == [True, False, True]
    assert about["edited"]["forget"] == [1]
    assert edited["before"]["n"] == edited["after"]["n"] == 33
    assert edited["after"]["mean"] - edited["before"]["mean"] == pytest.approx(
        (edited["mended"] - edited["broken"]) / 33
    )


def test_an_edit_whose_run_was_deleted_is_made_anew(client):
    work = client.post("/api/runs/parts/model/edits", json={"forget": [1]}).json()["work"]
    edited = ask(client, f"parts/model/edits/{work}")["edited"]
    again = client.post("/api/runs/parts/model/edits", json={"forget": [1]}).json()["work"]
    assert ask(client, f"parts/model/edits/{again}")["edited"]["folder"] == edited["folder"]
    shutil.rmtree(edited["folder"])
    again = client.post("/api/runs/parts/model/edits", json={"forget": [1]}).json()["work"]
    assert load_model(ask(client, f"parts/model/edits/{again}")["edited"]["folder"])


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({}, "nothing is to be forgotten"),
        ({"forget": [999]}, "no prototype 999"),
        ({"forget": "all"}, "numbers of prototypes are needed"),
        ({"replace": {"1": 3}}, "for each an image, row and column"),
        ({"forget": [1], "keep": [1]}, "is to be two of"),
    ],
)
def test_edits_that_cannot_be(client, run, edits, message):
    answer = client.post("/api/runs/parts/model/edits", json=edits)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert not run.parent.with_name("parts-edited").exists()


def test_work_that_fails_says_why(client, run):
    """Channels cannot become a patch, which is found when the work is under way."""
    edits = {"replace": {"1": {"image": 0, "row": 0, "column": 0}}}
    work = client.post("/api/runs/parts/model/edits", json=edits).json()["work"]
    for _ in range(600):
        answer = client.get(f"/api/runs/parts/model/edits/{work}")
        if answer.status_code != 200:
            break
        time.sleep(0.05)
    assert "are channels, and cannot become a patch" in answer.json()["error"]
    assert client.get("/api/runs/parts/model/edits/none").status_code == 404


def test_weights_that_were_changed_since(client, run, tmp_path):
    make_run(tmp_path / "other", make_pipnet, seed=1)
    (run / "checkpoints" / "best.ckpt").write_bytes((tmp_path / "other" / "checkpoints" / "best.ckpt").read_bytes())
    work = client.post("/api/runs/parts/model/edits", json={"forget": [1]}).json()["work"]
    for _ in range(600):
        answer = client.get(f"/api/runs/parts/model/edits/{work}")
        if answer.status_code != 200:
            break
        time.sleep(0.05)
    assert "holds other weights than those that are served" in answer.json()["error"]
    make_run(tmp_path / "same", make_pipnet)
    (run / "checkpoints" / "best.ckpt").write_bytes((tmp_path / "same" / "checkpoints" / "best.ckpt").read_bytes())
    work = client.post("/api/runs/parts/model/edits", json={"forget": [1]}).json()["work"]
    assert load_model(ask(client, f"parts/model/edits/{work}")["edited"]["folder"])  # a failure is not kept


def test_concepts_are_not_edited_as_prototypes_are(tmp_path):
    client = Page(make_run(tmp_path / "birds", make_module)).browser()
    answer = client.post("/api/runs/birds/model/edits", json={"forget": [1]})
    assert "its units are concepts: only prototypes can be edited" in answer.json()["error"]
    patches = client.get("/api/runs/birds/model/patches", params={"unit": 0})
    assert "its concepts are no training patches" in patches.json()["error"]
    about = client.get("/api/runs/birds/model").json()
    assert about["prototypes"] is about["patches"] is False
    assert about["nameless"] == []
