"""What the teaching mode asks of the server: the same corrections as everywhere, and mistakes in one line."""

import csv
import json
import shutil

import pytest
import torch

from ibd.io import load_run
from tests.model_makers import make_embedding, make_module, make_pipnet, make_posthoc, make_stochastic_module
from tests.page_makers import Page, make_run

MAKERS = {"cbm": make_module, "cem": make_embedding, "scbm": make_stochastic_module, "posthoc": make_posthoc}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "birds")


@pytest.fixture
def client(run):
    return Page(run).browser()


def begin(client, run="birds", **given):
    answer = client.post(f"/api/runs/{run}/teaching", json=given)
    assert answer.status_code == 200, answer.text
    return f"/api/runs/{run}/teaching/{answer.json()['session']}"


def take(client, at, change, **given):
    state = client.get(at).json()
    answer = client.post(f"{at}/{change}", json={"place": state["place"], "step": state["step"], "seconds": 1, **given})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", MAKERS)
def test_answers_are_interventions(name, tmp_path):
    folder = make_run(tmp_path / "birds", MAKERS[name])
    client = Page(folder).browser()
    at = begin(client)
    model, data = load_run(folder)
    image = client.get(at).json()["image"]
    index = int(image["image"].split(":")[1])
    before = model.predict(data.dataset("test")[index].image)
    assert image["now"]["probabilities"] == pytest.approx(before.probabilities[0].tolist(), abs=1e-6)
    values = {}
    for group in [group["name"] for group in image["groups"]][:3]:
        unit = model.network.unit_names[model.network.unit_groups[group][0]]
        values[unit] = 1.0
        state = take(client, at, "answer", group=group, values={unit: 1})
    now = torch.tensor(state["image"]["now"]["probabilities"])
    torch.testing.assert_close(now, before.intervene(values).probabilities[0], atol=1e-6, rtol=0)
    assert state["step"] == 3
    assert [group["answer"] for group in state["image"]["groups"]][:3] == [{unit: 1.0} for unit in values]


def test_a_session_is_found_again(client, run):
    at = begin(client, seed=5, blind=False, groups="given")
    take(client, at, "answer", group="beak", values=None)
    take(client, at, "finish", skip=False)
    listed = client.get("/api/runs/birds/teaching").json()["sessions"]
    assert [(one["done"], one["skipped"], one["total"], one["seed"]) for one in listed] == [(1, 0, 33, 5)]
    again = Page(run).browser().get(at).json()
    assert (again["place"], again["done"]) == (1, 1)
    assert again["image"]["truth"] in load_run(run)[0].network.class_names
    assert [group["name"] for group in again["image"]["groups"]] == list(load_run(run)[0].network.unit_groups)
    table = client.get(f"{at}/record.csv")
    assert table.headers["content-disposition"].startswith("attachment")
    assert [row["event"] for row in csv.DictReader(table.text.splitlines())] == ["unknown", "done"]
    whole = json.loads(client.get(f"{at}/session.json").text)
    assert len(whole["steps"]) == 2
    assert whole["settings"]["seed"] == 5


def test_uncertain_first_reads_the_split_before(client, run):
    answer = client.post("/api/runs/birds/teaching", json={"order": "uncertain"}).json()
    while answer["session"] is None:
        assert answer["work"]["title"] == "reading the test images"
        answer = client.post("/api/runs/birds/teaching", json={"order": "uncertain"}).json()
    model, data = load_run(run)
    images = torch.stack([data.dataset("test")[index].image for index in range(33)])
    first = client.get(f"/api/runs/birds/teaching/{answer['session']}").json()["image"]["image"]
    sure = model.predict(images).probabilities.max(1).values
    assert float(sure[int(first.split(":")[1])]) == pytest.approx(float(sure.min()), abs=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"order": "best"}, "order: 'best' is not one of random, uncertain, wrong"),
        ({"groups": "best"}, "groups: 'best' is not one of"),
        ({"split": "tset"}, "there is no split 'tset'"),
        ({"seed": "x"}, "'seed': a number is needed"),
    ],
)
def test_sessions_that_cannot_be(client, run, given, message):
    answer = client.post("/api/runs/birds/teaching", json=given)
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]
    assert not (run / "teaching").exists()


def test_mistakes_are_one_line_and_write_nothing(client, run):
    at = begin(client)
    for change, given, message in (
        ("answer", {"group": "beak", "values": {"beak::hook": "much"}}, "'values': numbers by the names of units"),
        ("answer", {"group": "beaks", "values": None}, "there is no group 'beaks'"),
        ("answer", {"group": "beak", "values": {"beak::hook": 1}, "seconds": -1}, "'seconds': -1 given"),
        ("undo", {"group": "beak"}, "nothing was said of 'beak' yet"),
        ("finish", {"place": 3}, "this session went on in another window"),
    ):
        answer = client.post(f"{at}/{change}", json={"place": 0, "step": 0, **given})
        assert answer.status_code == 400
        assert message in answer.json()["error"]
    assert client.get(at).json()["step"] == 0
    assert "no session '2000'" in client.get("/api/runs/birds/teaching/2000").json()["error"]
    assert "not the name of a session" in client.get("/api/runs/birds/teaching/..%5Cx").json()["error"]
    shutil.rmtree(run)
    answer = client.post(f"{at}/finish", json={"place": 0, "step": 0})
    assert answer.status_code == 410
    assert not run.exists()


def test_what_nobody_can_teach(tmp_path):
    client = Page(make_run(tmp_path / "birds", make_pipnet)).browser()
    assert "its units are prototypes" in client.get("/api/runs/birds/teaching").json()["why_not"]
    assert client.post("/api/runs/birds/teaching", json={}).status_code == 400


def test_the_page_knows_of_thresholds(client, run):
    assert client.get("/api/runs/birds/teaching").json()["thresholds"] is False


def test_what_another_server_wrote_is_taken_over(client, run):
    at, other = begin(client), Page(run).browser()
    state = other.get(at).json()
    take(client, at, "answer", group="beak", values=None)
    late = other.post(f"{at}/finish", json={"place": state["place"], "step": state["step"], "seconds": 1})
    assert late.status_code == 400
    assert "went on in another window" in late.json()["error"]
    assert other.get(at).json()["step"] == 1
    take(other, at, "finish", skip=False)
    assert client.get(at).json()["place"] == 1


def test_a_session_whose_files_were_deleted(client, run):
    at = begin(client)
    shutil.rmtree(run / "teaching")
    answer = client.get(f"{at}/record.csv")
    assert answer.status_code == 410
    assert "this session was deleted" in answer.json()["error"]
