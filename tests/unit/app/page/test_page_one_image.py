"""The page's predictions and corrections are those of Python and of the command line; runs that go; two browsers."""

import math
import shutil
import threading

import pytest
import torch
from torch.testing import assert_close

from ibd.app.page.answers import plain
from ibd.models.loading import load_network
from ibd.models.values import Scale
from tests.command import ibd
from tests.model_makers import (
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_posthoc,
    make_stochastic_module,
    make_whitening,
)
from tests.page_makers import Page, bird_data, logits, make_run, predict

EDITS = {
    "bottleneck": ({"beak::cone": 1, "eye::ring": 0.25}, {"beak::cone": 1, "eye::ring": 0.25}),
    "logits": ({"beak::cone": 1}, {"beak::cone": 1}),
    "stochastic": ({"beak::cone": 1, "eye::ring": 0}, {"beak::cone": 1, "eye::ring": 0}),
    "embedding": ({"beak": "cone"}, {"beak": "cone"}),
    "posthoc": ({"beak::cone": 1}, {"beak::cone": 1}),
    "scores": ({"beak::cone": "x2"}, {"beak::cone": Scale(2.0)}),
    "prototypes": ({"prototype 3": 0, "prototype 1": 1.5}, {3: 0, 1: 1.5}),
    "filters": ({"x": 0}, {0: 0}),
    "whitening": ({"beak::cone": 2.5, "eye::ring": 0}, {"beak::cone": 2.5, "eye::ring": 0}),
}
MAKERS = {
    "bottleneck": make_module,
    "logits": lambda spec: make_module(spec, bottleneck="logits"),
    "stochastic": make_stochastic_module,
    "embedding": make_embedding,
    "posthoc": make_posthoc,
    "scores": lambda spec: make_posthoc(spec, truth=False),
    "prototypes": make_pipnet,
    "filters": make_filters,
    "whitening": lambda spec: make_whitening(spec, concepts=list(spec.concept_names[:6])),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(folder / name, make) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def page(runs):
    return Page(*runs.values())


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_correction_is_the_same_as_in_python(page, runs, name):
    client, (given, values) = page.browser(), EDITS[name]
    model = load_network(runs[name])
    if name == "filters":
        given = {model.network.unit_names[0]: 0}
    before = model.predict(bird_data().dataset("test")[5].image)
    after = before.intervene(values)
    said = predict(client, name, "test:5", given)
    assert_close(logits(said["before"]), before.logits[0], rtol=0, atol=1e-6)
    assert_close(logits(said["after"]), after.logits[0], rtol=0, atol=1e-6)
    assert not torch.equal(before.logits, after.logits)
    assert_close(torch.tensor(said["after"]["values"]), after.unit_values[0], rtol=0, atol=1e-6)
    assert said["after"]["edited"] == after.edited[0].tolist()
    assert said["after"]["class"] == after.classes[0]
    best = int(after.labels[0])
    assert_close(torch.tensor(said["after"]["contributions"]), after.contributions[0, :, best], rtol=0, atol=1e-6)
    earlier = torch.tensor(said["after"]["contributions_before"])
    assert_close(earlier, before.contributions[0, :, best], rtol=0, atol=1e-6)
    again = predict(client, name, "test:5", {"prototype 3": 0} if name == "prototypes" else given, before=False)
    assert again["before"] is None


def test_a_one_clears_the_rest_of_an_exclusive_group_as_on_the_command_line(page, runs, tmp_path):
    said = predict(page.browser(), "bottleneck", "test:5", {"beak::needle": 1})
    names = list(bird_data().spec.concept_names)
    values = dict(zip(names, said["after"]["values"], strict=True))
    assert values["beak::needle"] == 1
    assert all(values[name] < 1e-6 for name in names if name.startswith("beak::") and name != "beak::needle")
    from ibd.app.page.site import as_png

    (tmp_path / "bird.png").write_bytes(as_png(bird_data().dataset("test")[5].image))
    out = ibd("intervene", runs["bottleneck"], tmp_path / "bird.png", "beak::needle=1", "--top", 0).out
    table = out.split("after beak::needle=1")[1]
    for name, value in values.items():
        row = next(line for line in table.splitlines() if line.split()[:1] == [name])
        assert row.split()[1].rstrip("*~") == f"{value:.2f}"
    total = next(line for line in table.splitlines() if line.split()[:2] == ["=", "logit"])
    assert float(total.split()[2]) == pytest.approx(said["after"]["logits"][said["after"]["label"]], abs=0.006)


@pytest.mark.parametrize("name", ["bottleneck", "logits", "embedding", "posthoc"])
def test_a_unit_set_to_where_its_slider_stands_changes_nothing(page, runs, name):
    network = load_network(runs[name]).network
    client, image = page.browser(), "test:5"
    before = predict(client, name, image)["before"]
    inside = [unit for unit, place in enumerate(before["stands"]) if 0.01 < place < 0.99]
    assert inside
    for unit in inside[:3]:
        after = predict(client, name, image, {network.unit_names[unit]: before["stands"][unit]})["after"]
        assert_close(logits(after), logits(before), rtol=0, atol=1e-4)
    if name == "logits":
        unit = inside[0]
        low, high, place = float(network.low[unit]), float(network.high[unit]), before["stands"][unit]
        read = 1 / (1 + math.exp(-((1 - place) * low + place * high)))  # Koh et al. 2020: a place between percentiles
        assert read == pytest.approx(before["values"][unit], abs=1e-5)
        assert abs(place - before["values"][unit]) > 0.01


def test_others_move_along_in_a_stochastic_bottleneck_and_nowhere_else(page):
    client, edits = page.browser(), {"beak::cone": 1}
    assert any(predict(client, "stochastic", "test:5", edits)["after"]["moved"])
    assert not any(predict(client, "bottleneck", "test:5", edits)["after"]["moved"])


def test_units_are_said_to_add_to_the_class_that_is_asked_for(page):
    said = predict(page.browser(), "bottleneck", "test:5", {"beak::cone": 1}, target=2)["after"]
    assert said["target"] == 2
    assert sum(said["contributions"]) + said["bias"] == pytest.approx(said["logits"][2], abs=1e-4)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"image": "test:5", "edits": {"beak::cone": 2}}, 400, "a truth value from 0 to 1 is needed"),
        ({"image": "test:5", "edits": {"beak::cone": 1, "beak::needle": 1}}, 400, "exclude each other"),
        ({"image": "test:5", "edits": {"beak::con": 1}}, 400, "Did you mean one of: 'beak::cone'"),
        ({"image": "test:5", "edits": {"beak::cone": 10**400}}, 400, "a finite number is needed"),
        ({"image": "test:5", "target": 10**400}, 400, "a number is needed"),
        ({"image": "test:5", "edits": {"beak::cone": None}}, 400, "neither a number nor a word"),
        ({"image": "test:5", "edits": {"beak::cone": [1]}}, 400, "neither a number nor a word"),
        ({"image": "test:5", "edits": [1]}, 400, "values by the names of units"),
        ({"image": "test:5", "target": 99}, 400, "a number from 0 to 5"),
        ({"image": "test:5", "target": {}}, 400, "a number is needed"),
        ({"image": "test:33"}, 404, "test has 33, counted from 0"),
        ({"image": "test:-1"}, 404, "no image"),
        ({"image": "tset:1"}, 404, "one of train, val, test"),
        ({"image": "upload:x"}, 410, "bring it again"),
        ({}, 400, "'image' is missing"),
        ({"image": 3}, 400, "not a text"),
    ],
)
def test_a_mistake_is_one_line(page, body, status, said):
    answer = page.browser().post("/api/runs/bottleneck/predict", json=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 100000, b'{"image": NaN}'])
def test_what_is_no_json_is_one_line(page, content):
    answer = page.browser().post(
        "/api/runs/bottleneck/predict", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_run_that_is_not_served_is_named(page):
    answer = page.browser().get("/api/runs/botleneck")
    assert answer.status_code == 404
    assert "Did you mean" in answer.json()["error"]


def test_how_each_unit_can_be_set_is_said(page):
    client = page.browser()
    about = {name: client.get(f"/api/runs/{name}").json() for name in MAKERS}
    kinds = {name: {control["set"] for control in said["controls"]} for name, said in about.items()}
    assert kinds["bottleneck"] == kinds["stochastic"] == kinds["posthoc"] == {"truth"}
    assert kinds["prototypes"] == {"factor"}
    assert kinds["filters"] == kinds["scores"] == {"value"}
    assert kinds["whitening"] == {"value"}
    assert [group["name"] for group in about["bottleneck"]["groups"] if group["exclusive"]]
    assert about["stochastic"]["coupled"]
    assert not about["bottleneck"]["coupled"]
    keys = [run["data"] for run in client.get("/api/runs").json()["runs"]]
    assert len(set(keys)) == 1  # all are of the same images
    assert keys[0]


def test_a_run_that_is_deleted_goes_on_and_says_what_is_gone(tmp_path):
    run = make_run(tmp_path / "birds")
    page = Page(run)
    client = page.browser()
    from tests.unit.app.page.test_page_uploads import bring, picture

    kept = bring(client, picture()).json()["image"]
    shutil.rmtree(run)
    assert predict(client, "birds", kept, {"beak::cone": 1})["after"]
    assert client.get("/api/runs").status_code == 200
    answer = client.post("/api/runs/birds/predict", json={"image": "test:0"})
    assert answer.status_code == 410
    assert str(run) in answer.json()["error"]


def test_the_backbone_runs_once_for_an_image(page):
    client = page.browser()
    network, passes = page.site.run("logits").network, []
    handle = network.backbone.register_forward_hook(lambda *_: passes.append(1))
    for value in (0, 0.5, 1):
        predict(client, "logits", "test:7", {"eye::ring": value})
    handle.remove()
    assert len(passes) == 1


def test_two_browsers_at_once_get_their_own_answers(page, runs):
    clients, found = [page.browser(), page.browser()], {}
    expected = {
        i: load_network(runs["stochastic"])
        .predict(bird_data().dataset("test")[i].image)
        .intervene({"eye::ring": i / 9})
        for i in range(8)
    }

    def ask(client, some):
        for i in some:
            found[i] = predict(client, "stochastic", f"test:{i}", {"eye::ring": i / 9})

    threads = [threading.Thread(target=ask, args=(client, range(k, 8, 2))) for k, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, said in found.items():
        assert_close(logits(said["after"]), expected[i].logits[0], rtol=0, atol=1e-6)
    assert len(found) == 8


def test_what_json_does_not_know_becomes_null():
    assert plain({"a": torch.tensor([1.0, math.nan]), 3: (math.inf, True, None)}) == {
        "a": [1.0, None],
        "3": [None, True, None],
    }
