"""Thresholds on the page: by several people at once, beside the command line, and while images are read."""

import json
import threading

import pytest

from ibd.models.thresholds import FILE
from ibd.training.calibrating import calibrate
from ibd.training.thresholding import set_thresholds
from tests.page_makers import Page, make_run, predict

AT = "/api/runs/birds/data"


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "birds")


@pytest.fixture
def page(run):
    return Page(run)


def kept(run):
    """The thresholds in the run's file."""
    return json.loads((run / FILE).read_text())["best.ckpt"]


def concepts_of(client):
    answer = client.get(f"{AT}/thresholds")
    assert answer.status_code == 200, answer.text
    return answer.json()["can"]


def test_two_browsers_at_once_lose_nothing(page, run):
    clients = [page.browser(), page.browser()]
    names = concepts_of(clients[0])[:4]

    def set_some(client, some):
        for name in some:
            assert client.post(f"{AT}/threshold", json={"concept": name, "value": 0.7}).status_code == 200

    threads = [
        threading.Thread(target=set_some, args=(client, names[start::2])) for start, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept(run)["concepts"]) == sorted(names)


def test_what_the_command_line_sets_meanwhile_stays_and_is_shown(page, run):
    client = page.browser()
    name, other = concepts_of(client)[:2]
    client.post(f"{AT}/threshold", json={"concept": name, "value": 0.7})
    set_thresholds(run, value=0.2, concepts=(other,), confidence=0.4)
    assert set(kept(run)["concepts"]) == {name, other}
    assert client.get(f"{AT}/thresholds").json()["confidence"]["value"] == 0.4
    client.post(f"{AT}/threshold", json={"concept": name, "value": 0.9})
    assert {key: one["value"] for key, one in kept(run)["concepts"].items()} == {name: 0.9, other: 0.2}
    assert kept(run)["confidence"]["value"] == 0.4


def test_a_run_that_was_calibrated_meanwhile_gets_no_threshold_of_the_old_probabilities(page, run):
    client = page.browser()
    name = concepts_of(client)[0]
    calibrate(run, coverage=None)
    answer = client.post(f"{AT}/threshold", json={"concept": name, "value": 0.7})
    assert answer.status_code == 410
    assert "was calibrated or trained since it is served" in answer.json()["error"]
    assert not (run / FILE).exists()


def test_a_typed_threshold_is_taken_as_it_is(page, run):
    client = page.browser()
    name = concepts_of(client)[0]
    place = client.get(f"{AT}/threshold", params={"concept": name, "value": 0.9973}).json()["place"]
    client.post(f"{AT}/threshold", json={"concept": name, "value": 0.9973})
    assert place["value"] == kept(run)["concepts"][name]["value"] == 0.9973
    assert place["called"] == kept(run)["concepts"][name]["called"]
    assert client.get(f"{AT}/threshold", params={"concept": name, "value": 1.2}).status_code == 400


def test_a_switch_goes_by_the_threshold_as_the_words_beside_it_do(page):
    client = page.browser()
    before = predict(client, "birds", "test:5")["before"]
    names = concepts_of(client)
    units = [k for k, value in enumerate(before["values"]) if 0.05 < value < 0.95]
    for unit in units:
        value = before["values"][unit]
        assert before["present"][unit] == (value > 0.5)
        threshold = value - 0.01 if value < 0.5 else value + 0.01
        client.post(f"{AT}/threshold", json={"concept": names[unit], "value": threshold})
    after = predict(client, "birds", "test:5")["before"]
    assert {after["present"][unit] for unit in units} == {True, False}
    for unit in units:
        assert after["present"][unit] != before["present"][unit]
        assert after["details"][unit].startswith("present" if after["present"][unit] else "absent")
