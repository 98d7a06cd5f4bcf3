"""What the data-set mode of the page asks of the server: its numbers are those of the command line."""

import csv
import json
import shutil
import time

import pytest

from ibd.models.thresholds import FILE
from tests.command import ibd

testing = pytest.importorskip("starlette.testclient")


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A copy of the run, which thresholds may be written to."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("page") / "birds")


@pytest.fixture(scope="module")
def ask(run):
    """A function that asks the page about the data set of the run, and returns the answer's status and content."""
    from ibd.app.page.access import Access
    from ibd.app.page.server import make_app
    from ibd.app.page.site import Site

    access = Access("127.0.0.1", 8765)
    client = testing.TestClient(make_app(Site([str(run)]), access), base_url="http://127.0.0.1:8765")
    client.get(f"/?token={access.token}")

    def ask(path, body=None, **parameters):
        address = f"/api/runs/birds/data/{path}"
        answer = client.get(address, params=parameters) if body is None else client.post(address, json=body)
        return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.content

    return ask


def found(ask, path, body=None, **parameters):
    status, content = ask(path, body, **parameters)
    assert status == 200, content
    return content


def test_a_split_is_read_in_the_background(ask):
    state = found(ask, "state", split="test")
    for _ in range(300):
        if state["ready"]:
            break
        time.sleep(0.05)
        state = found(ask, "state", split="test")
    assert (state["images"], state["of"], state["error"]) == (60, 60, None)
    assert len(state["concepts"]) == 26


def test_the_figures_are_those_of_the_command_line(ask, run):
    """All numbers of the page that `ibd test` writes, too: by class, by concept, by pair of classes, by image."""
    assert ibd("test", run).code == 0
    classes, concepts, matrix, images = (table(run, name) for name in ("classes", "concepts", "confusion", "images"))
    figures = found(ask, "figures", split="test")
    for here, there in zip(figures["classes"], classes, strict=True):
        assert (here["name"], here["images"], here["taken"]) == (
            there["class"],
            int(there["images"]),
            int(there["taken_for_it"]),
        )
        same(here["recall"], there, "recall")
        same(here["precision"], there, "precision")
    for here, there in zip(figures["concepts"], concepts, strict=True):
        assert (here["name"], here["yes"], here["no"]) == (there["concept"], int(there["yes"]), int(there["no"]))
        same(here["accuracy"], there, "accuracy")
        assert here["auroc"] == (pytest.approx(float(there["auroc"]), abs=1e-6) if there["auroc"] else None)
    confusion = found(ask, "confusion", split="test")
    counts = {(i, j): count for i, j, count in confusion["cells"]}
    for i, row in enumerate(matrix):
        assert [counts.get((i, j), 0) for j in range(len(matrix))] == [int(row[name]) for name in confusion["classes"]]
    for here, there in zip(found(ask, "rows", split="test", limit="100")["rows"], images, strict=True):
        names = [figures["classes"][here[key]]["name"] for key in ("truth", "predicted")]
        assert [here["name"], *names] == [there["file"], there["truth"], there["predicted"]]
        assert here["confidence"] == pytest.approx(float(there["confidence"]), abs=1e-6)
        assert (here["known"], here["wrong"]) == (int(there["concepts_known"]), int(there["concepts_wrong"]))
    assert found(ask, "rows", split="test", state="wrong")["count"] == 60 - figures["right"]


def table(run, name):
    with (run / "tested" / "test" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(span, row, name):
    """Check a share with its interval against three columns of a table."""
    written = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    assert span == [pytest.approx(float(text), abs=1e-6) if text else None for text in written]


def test_pages_of_rows_are_the_whole(ask):
    options = {"split": "test", "by": "confidence", "descending": "1"}
    whole = found(ask, "rows", limit="100", **options)["rows"]
    parts = [found(ask, "rows", limit="25", offset=str(start), **options)["rows"] for start in (0, 25, 50)]
    assert [row for part in parts for row in part] == whole
    sure = [row["confidence"] for row in whole]
    assert sure == sorted(sure, reverse=True)
    status, picture = ask("thumbnail", image=whole[0]["image"])
    assert (status, picture[:2]) == (200, b"\xff\xd8")  # JPEG


def test_thresholds_are_kept_with_the_run_and_told_everywhere(ask, run, bird):
    places = found(ask, "threshold", concept="beak::cone")["places"]
    set_now = found(ask, "threshold", {"concept": "beak::cone", "value": 0.25})
    assert set_now["concepts"]["beak::cone"] == places[50]
    said = json.loads((run / FILE).read_text())["best.ckpt"]["concepts"]["beak::cone"]
    assert (said["called"], said["right"]) == (places[50]["called"], places[50]["right"])
    assert "from 0.25)" in ibd("predict", run, bird, "--top", 0).out.replace("below", "from")
    called = found(ask, "rows", split="val", concept="beak::cone", having="called")["count"]
    assert called == places[50]["called"]
    silent = found(ask, "threshold", {"concept": None, "value": 1.0})["confidence"]
    answered = found(ask, "rows", split="val", state="answered")["count"]
    assert answered == silent["called"]
    assert found(ask, "threshold", {"concept": None})["confidence"] is None
    assert found(ask, "threshold", {"concept": "beak::cone"})["concepts"] == {}
    assert ibd("threshold", run).out.startswith("no threshold is set")


def test_a_wanted_precision_is_found_as_by_the_command(ask, run):
    here = found(ask, "threshold", {"precision": 0.5, "all": True})
    ibd("threshold", run, "precision=null")
    assert ibd("threshold", run, "precision=0.5").code == 0
    there = json.loads((run / FILE).read_text())["best.ckpt"]["concepts"]
    assert there.keys() == here["concepts"].keys()
    for name, threshold in here["concepts"].items():
        assert (threshold["called"], threshold["right"]) == (there[name]["called"], there[name]["right"])
        assert threshold["value"] == pytest.approx(there[name]["value"], abs=1e-6)


@pytest.mark.parametrize(
    ("path", "parameters", "line"),
    [
        ("rows", {"split": "tset"}, "there is no split 'tset'"),
        ("rows", {"state": "good"}, "state: there is no 'good'"),
        ("rows", {"truth": "<b>"}, "truth: there is no '<b>'"),
        ("rows", {"concept": "beak::cones"}, "Did you mean"),
        ("rows", {"limit": "100000"}, "'limit': 100000 given, a number from 1 to 200 is needed"),
        ("rows", {"least": "x"}, "'least': a number is needed"),
        ("rows", {"by": "luck"}, "by: there is no 'luck'"),
        ("thumbnail", {"image": "test:99999"}, "there is no image 'test:99999'"),
        ("threshold", {"concept": "nothing"}, "'nothing' can have no threshold"),
    ],
)
def test_mistakes_are_a_line(ask, path, parameters, line):
    status, content = ask(path, **parameters)
    assert status in (400, 404)
    assert line in content["error"]


def test_a_threshold_that_cannot_be_is_a_line(ask):
    status, content = ask("threshold", {"concept": "beak::cone", "precision": 2})
    assert (status, content["error"][:19]) == (400, "precision: 2 given,")
    status, content = ask("threshold", {"concept": "beak::cone", "value": "high"})
    assert (status, content["error"]) == (400, "'value': a number is needed")


def test_a_run_that_was_deleted_takes_no_threshold_and_is_still_looked_at(ask, run):
    shutil.rmtree(run)
    status, content = ask("threshold", {"concept": "beak::cone", "value": 0.5})
    assert status == 410
    assert "was deleted or moved" in content["error"]
    assert found(ask, "rows", split="test", limit="1")["count"] == 60
