"""What a closer look at one image asks of the server, and what it is answered where it asks for what there is not."""

import threading
import time
import warnings
from types import SimpleNamespace

import pytest

from ibd.app.page import other_answers
from ibd.app.page.explanations import target_of
from ibd.app.page.long_work import nobody_told
from ibd.app.page.remarks import remarks
from ibd.app.page.site import GoneError
from ibd.errors import ConfigError, DataError
from tests.model_makers import make_prototypes
from tests.page_makers import Page, bird_data, make_run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    prototypes = make_run(folder / "parts", lambda spec: make_prototypes(bird_data(), per_class=1))
    return Page(make_run(folder / "birds"), prototypes)


@pytest.fixture
def browser(page):
    return page.browser()


def ready(ask, seconds=30):
    """Ask until the answer is ready."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        assert answer.status_code == 200, answer.text
        said = answer.json()
        if said.get("ready", True) and not any(row.get("work") for row in said.get("rows", ())):
            return said
        assert time.monotonic() < end
        time.sleep(0.01)


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


@pytest.mark.parametrize("run", ["birds", "parts"])
def test_all_that_is_asked_is_answered(browser, run):
    at = f"/api/runs/{run}"
    assert browser.get(f"{at}/images", params={"split": "train", "read": 0}).json()["of"] == 64
    rows = ready(lambda: browser.get(f"{at}/images", params={"count": 5}))["rows"]
    assert len(rows) == 5
    image = rows[0]["image"]
    for path in ("gray", "file"):
        assert browser.get(f"{at}/{path}", params={"image": image}).content.startswith(b"\x89PNG")
    assert browser.get(f"{at}/unit", params={"image": image, "unit": 1}).json()["picture"].startswith("data:image/png")
    examples = ready(lambda: browser.get(f"{at}/examples", params={"unit": 1}))
    assert examples["examples"][0]["source"] == (run == "parts")
    again = browser.get(f"{at}/examples", params={"unit": 1}).json()
    assert again == examples
    asked = {"image": image, "target": "unit:1", "names": ["intrinsic", "saliency", "attention_rollout"]}
    maps = ready(lambda: browser.post(f"{at}/explanations", json=asked))["rows"]
    assert [bool(row["picture"]) for row in maps] == [True, True, False]
    assert "needs attention" in maps[2]["error"]
    chosen = {"image": image, "explainer": "saliency", **{key: asked[key] for key in ("target", "names")}}
    assert browser.post(f"{at}/map", json=chosen).content.startswith(b"\x89PNG")
    assert browser.post(f"{at}/summary", json={"image": image}).content.startswith(b"\x89PNG")
    assert ready(lambda: browser.post(f"{at}/why", json={"image": image}))["size"]
    assert browser.post(f"{at}/result", json={"image": image}).json()["shell"].startswith("ibd predict ")


MISTAKES = {
    "gray?image=test:999": (404, "there is no image 'test:999'"),
    "file?image=../../etc/passwd": (404, "no split"),
    "images?split=all": (404, "there is no split 'all'"),
    "images?count=100000": (400, "'count'"),
    "unit?image=test:3&unit=999": (400, "no concept 999"),
    "unit?image=test:3&unit=two": (400, "a number is needed"),
    "unit?image=upload:nothing&unit=1": (410, "bring it again"),
    "examples?unit=-1": (400, "'unit'"),
}


@pytest.mark.parametrize(("path", "expected"), MISTAKES.items(), ids=MISTAKES)
def test_what_there_is_not_is_one_line(browser, path, expected):
    assert expected[1] in refused(browser.get(f"/api/runs/birds/{path}"), expected[0])


POSTED = {
    "an unknown explainer": ("explanations", {"target": "class:0", "names": ["gradcan"]}, "Did you mean"),
    "no list": ("explanations", {"target": "class:0", "names": "gradcam"}, "a list of at most"),
    "too many": ("explanations", {"target": "class:0", "names": ["lrp"] * 13}, "a list of at most"),
    "a class that there is not": ("explanations", {"target": "class:99", "names": []}, "class:NUMBER or unit:NUMBER"),
    "a name": ("explanations", {"target": "ant", "names": []}, "class:NUMBER or unit:NUMBER"),
    "a wanted class": ("why", {"is": 99}, "'is'"),
    "words": ("why", {"edits": {"wing": "red"}}, "numbers by the names of units"),
    "an unknown unit": ("result", {"edits": {"nothing": 1}}, "unknown concept 'nothing'"),
    "a map that was not made": ("map", {"explainer": "lrp", "target": "class:0"}, "ask for it again"),
    "an opacity": ("map", {"unit": 1, "opacity": 2}, "from 0 to 1"),
}


@pytest.mark.parametrize("case", POSTED.values(), ids=POSTED)
def test_what_cannot_be_asked_is_one_line(browser, case):
    path, body, line = case
    assert line in refused(browser.post(f"/api/runs/birds/{path}", json={"image": "test:2", **body}))


def test_a_question_that_fails_is_said_once_and_can_be_asked_again(page, browser, monkeypatch):
    import ibd.app.page.other_answers as server

    def fail(*args, **options):
        raise DataError("not today")

    real = server.why
    monkeypatch.setattr(server, "why", fail)

    def ask():
        return browser.post("/api/runs/birds/why", json={"image": "test:6"})

    end = time.monotonic() + 20
    while (answer := ask()).status_code == 200:
        assert time.monotonic() < end
    assert refused(answer) == "not today"
    monkeypatch.setattr(server, "why", real)
    assert ready(ask)["size"]


def test_one_tab_does_not_end_what_another_waits_for(page, browser, monkeypatch):
    import ibd.app.page.explanations as server

    run = page.site.runs["birds"]

    def ask(tab, names):
        body = {"image": "test:8", "target": "class:0", "names": names, "tab": tab}
        return browser.post("/api/runs/birds/explanations", json=body).json()["rows"]

    def slow(model, image, name, target, told):
        while True:
            told(0, 0)
            time.sleep(0.005)

    monkeypatch.setattr(server, "explained", slow)
    ask("one", ["saliency"])
    ask("two", ["lrp"])
    works = {name.rsplit(" ", 1)[1]: run.works.get(name) for name in list(run.works._works) if " test:8 " in name}
    assert set(works) == {"saliency", "lrp"}
    ask("two", [])
    assert works["lrp"].wait(10)
    assert not works["saliency"].stopped
    ask("one", [])
    assert works["saliency"].wait(10)


def test_what_changes_the_answer_is_looked_for_in_a_copy_that_is_whole(page, browser, monkeypatch):
    """A map of a unit hangs tensors without numbers into the network for a moment: who copies it holds the lock."""
    run, held = page.site.run("birds"), []
    copied = other_answers.copy.deepcopy

    def try_lock():
        if free := run.lock.acquire(blocking=False):
            run.lock.release()
        held.append(not free)

    def watched(value):
        other = threading.Thread(target=try_lock)
        other.start()
        other.join()
        return copied(value)

    monkeypatch.setattr(other_answers, "copy", SimpleNamespace(deepcopy=watched))
    assert ready(lambda: browser.post("/api/runs/birds/why", json={"image": "test:3", "edits": {}}))["label"]
    assert held == [True]


def test_a_target_is_written_in_one_way(page):
    run = page.site.runs["birds"]
    assert str(target_of(run, "class:1")) != str(target_of(run, "unit:1"))
    for text in ("class:", "class:-1", "unit:1e3", "unit:²", "3", "class:0:0"):
        with pytest.raises(ConfigError, match="class:NUMBER"):
            target_of(run, text)


def test_a_run_whose_folder_is_gone_says_so(tmp_path):
    lost = Page(make_run(tmp_path / "lost"))
    (tmp_path / "lost").rename(tmp_path / "elsewhere")
    with pytest.raises(GoneError):
        _ = lost.site.runs["lost"].answers
    assert "deleted or moved" in refused(lost.browser().get("/api/runs/lost/images"), 410)


def test_what_an_explainer_warns_of_stands_by_its_map_for_each_image(browser, monkeypatch, recwarn):
    import ibd.app.page.explanations as server

    real = server.explained

    def doubtful(*asked):
        warnings.warn("saliency: of one\ndraw", stacklevel=2)
        return real(*asked)

    monkeypatch.setattr(server, "explained", doubtful)
    for image in ("test:9", "test:10"):
        asked = {"image": image, "target": "class:0", "names": ["saliency"]}
        (row,) = ready(lambda asked=asked: browser.post("/api/runs/birds/explanations", json=asked))["rows"]
        assert row["remarks"] == ["saliency: of one draw"]
    assert not recwarn.list


def test_remarks_are_those_of_one_thread():
    with warnings.catch_warnings(record=True) as others, remarks(nobody_told) as lines:
        warnings.warn("here", stacklevel=1)
        warnings.warn("here", stacklevel=1)
        warnings.warn("here too", RuntimeWarning, stacklevel=1)
        thread = threading.Thread(target=warnings.warn, args=("elsewhere",))
        thread.start()
        thread.join()
    assert lines == ["here"]
    assert [str(each.message) for each in others] == ["here too", "elsewhere"]
