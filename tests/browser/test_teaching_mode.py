"""The teaching mode in a browser: by keys alone, over reloads and a restart, in two windows, small and dark."""

import csv
import json
import re
import shutil

import pytest

from ibd.app.teaching.record import sessions
from ibd.io import load_run
from tests.command import QUIET, TINY, fitted

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """A bottleneck that has learnt something."""
    more = ("data.test_size=24", "data.val_size=33", "trainer.max_epochs=4", "logger.figures_every=0")
    return fitted(TINY, *QUIET, f"output={tmp_path_factory.mktemp('runs')}", *more)


@pytest.fixture
def run(trained_run, tmp_path):
    """A run of the test's own: sessions are written into it."""
    return shutil.copytree(trained_run, tmp_path / "birds" / "2026-01-01_00-00-00")


@pytest.fixture
def address(run):
    from tests.page_server import serving

    with serving(run) as address:
        yield address


def begin(page, **choices):
    """Begin a session on the page that was opened."""
    go(page, "teach")
    page.wait_for_selector("form.begin")
    for label, value in choices.items():
        if label == "blind":
            page.get_by_label("Hide the true class").set_checked(value)
        else:
            page.get_by_label(label).select_option(value)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("form.question", timeout=30_000)


def go(page, rest):
    page.evaluate("rest => { location.hash = `#/${document.getElementById('run').value}/${rest}`; }", rest)


def where(page):
    return page.locator(".where").inner_text()


def group(page):
    """The group that is asked for now."""
    return page.locator("form.question legend").evaluate("legend => legend.firstChild.textContent")


def press(page, *keys):
    """Press keys, each once the page shows what the one before it has done."""
    for key in keys:
        before = page.evaluate("document.querySelector('main').innerText")
        page.keyboard.press(key)
        if not key.isdigit():
            page.wait_for_function("before => document.querySelector('main').innerText !== before", arg=before)


def rows(run):
    with (run / "teaching" / f"{sessions(run)[0]}.csv").open() as file:
        return list(csv.DictReader(file))


def image_of(model, data, page):
    index = int(page.locator(".part-picture img").get_attribute("src").split("test%3A")[1])
    return index, data.dataset("test")[index]


def test_a_session_by_keys(address, open_page, run):
    """What is written, and what the page shows, is what `Prediction.intervene` says of the same answers."""
    model, data = load_run(run)
    page = open_page(address)
    begin(page)
    assert page.evaluate("document.activeElement.type") == "radio"  # nothing needs the mouse
    index, sample = image_of(model, data, page)
    expected, values = model.predict(sample.image), {}
    count = len(model.network.unit_groups)
    for _ in range(count):
        name = group(page)
        units = model.network.unit_groups[name]
        assert page.evaluate("document.activeElement.checked")
        press(page, "2")
        assert page.locator("form.question input:checked").count() == 1
        values[model.network.unit_names[units[1]]] = 1.0
        press(page, "Enter")
    after = expected.intervene(values)
    best = page.locator(".classes tr.best")
    assert best.locator("th").inner_text() == after.classes[0]
    assert (
        best.locator("td").nth(1).inner_text().replace("\xa0", " ") == f"{100 * float(after.probabilities.max()):.1f} %"
    )
    assert page.get_by_role("button", name="Next image").evaluate("button => button === document.activeElement")
    written = rows(run)
    assert [row["unit"] for row in written] == list(values)
    assert {row["image"] for row in written} == {str(index)}
    assert float(written[-1]["probability_after"]) == pytest.approx(float(after.probabilities.max()), abs=1e-5)
    assert [int(row["step"]) for row in written] == list(range(1, count + 1))
    assert all(0 <= float(row["seconds"]) < 30 for row in written)
    for row in written:
        unit = model.network.unit_names.index(row["unit"])
        assert float(row["annotated"]) == float(sample.concepts[unit])
        assert row["truth"] == data.spec.class_names[sample.label]
    press(page, "Enter")
    assert where(page).startswith("Image 2 of 24")


def test_a_key_that_is_held_down_answers_once(address, open_page, run):
    page = open_page(address)
    begin(page)
    for key, events in (("Enter", ["answer"]), ("u", ["answer", "unknown"]), ("n", ["answer", "unknown", "done"])):
        for _ in range(12):  # those after the first one are repeats, as of a key that is held
            page.keyboard.down(key)
            page.wait_for_timeout(60)
        page.keyboard.up(key)
        assert list(dict.fromkeys((row["step"], row["event"]) for row in rows(run))) == [
            (str(step), event) for step, event in enumerate(events, 1)
        ]
    assert where(page).startswith("Image 2 of 24")


def test_the_truth_is_not_even_sent_where_it_is_hidden(address, open_page, run):
    page, texts = open_page(address), []
    page.on(
        "response",
        lambda answer: texts.append(answer) if "/api/" in answer.url and "/teaching/" in answer.url else None,
    )
    begin(page)
    press(page, "Enter", "n")
    bodies = [json.loads(answer.text()) for answer in texts]
    images = [body["image"] for body in bodies if body.get("image")]
    assert len(images) >= 3
    assert {image["truth"] for image in images} == {None}
    assert re.fullmatch(r"test image \d+", page.locator("figcaption").inner_text())  # a folder's name would tell it
    begin(page, blind=False)
    data = load_run(run)[1]
    _, sample = image_of(None, data, page)
    assert f"true class: {data.spec.class_names[sample.label]}" in page.locator("figcaption").inner_text()


def test_a_reload_and_a_restart_lose_nothing(address, open_page, run):
    from tests.page_server import serving

    page = open_page(address)
    begin(page)
    press(page, "1", "Enter", "u", "n", "2", "Enter")
    said, place, hash_now = page.locator("ol.groups").inner_text(), where(page), page.evaluate("location.hash")
    page.reload()
    page.wait_for_selector("form.question")
    assert (page.locator("ol.groups").inner_text(), where(page)) == (said, place)
    with serving(run) as again:  # as if the first server had been killed: it knows nothing but the files
        other = open_page(again)
        other.evaluate("hash => { location.hash = hash; }", hash_now)
        other.wait_for_selector("form.question")
        assert (other.locator("ol.groups").inner_text(), where(other)) == (said, place)
        press(other, "Enter")
    go(page, "teach")
    page.wait_for_selector("table.sessions")
    assert "1 of 24" in page.locator("table.sessions").inner_text()
    page.get_by_role("link", name="Go on").click()
    page.wait_for_selector("form.question")
    assert where(page) == place


def test_taking_back_skipping_and_not_knowing(address, open_page, run):
    page = open_page(address)
    begin(page)
    first = group(page)
    at_first = page.locator(".classes tr.best").inner_text()
    press(page, "0", "Enter", "u")
    said = page.locator("ol.groups li").all_inner_texts()
    assert "none of these" in said[0]
    assert "you could not tell" in said[1]
    assert page.locator("#said").text_content().startswith(said[1].split()[0])  # what a screen reader says
    press(page, "z", "z")
    assert group(page) == first
    assert page.locator(".classes tr.best").inner_text() == at_first
    press(page, "]")
    assert group(page) != first
    press(page, "[", "x")
    assert "0 finished, 1 skipped" in where(page)
    units = [row["event"] for row in rows(run)]
    assert units[-4:] == ["unknown", "undo", "undo", "skipped"]
    assert set(units[:-4]) == {"answer"}


def test_wrong_first_begins_with_a_wrong_image(address, open_page, run):
    model, data = load_run(run)
    page = open_page(address)
    go(page, "teach")
    page.wait_for_selector("form.begin")
    assert "estimate of that of the whole split" in page.locator("#order-why").inner_text()
    page.get_by_label("Order of the images").select_option("wrong")
    assert "begins at 0 %" in page.locator("#order-why").inner_text()
    begin(page, **{"Order of the images": "wrong"})
    _, sample = image_of(model, data, page)
    assert int(model.predict(sample.image).labels[0]) != sample.label


def test_the_curve_and_its_files(address, open_page, run):
    """All answers as the data has them: the curve is that of `ibd curve`, point by point."""
    model, data = load_run(run)
    page = open_page(address)
    begin(page)
    for _ in range(3):
        _, sample = image_of(model, data, page)
        for _ in model.network.unit_groups:
            units = model.network.unit_groups[group(page)]
            holds = [place for place, unit in enumerate(units, 1) if sample.concepts[unit] > 0.5]
            press(page, str(holds[0] if holds else 0), "Enter")
        press(page, "n")
    page.get_by_text("Accuracy by number of corrections").click()
    page.wait_for_selector("table.points", timeout=60_000)
    page.get_by_text("Compared with the truth of the data").wait_for(timeout=60_000)
    assert re.search(r"(\d+) of \1 units that you set are as the data has them", page.locator(".curve").inner_text())
    with page.expect_download() as download:
        page.get_by_role("link", name="Curve (CSV)").click()
    points = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert [point["groups"] for point in points] == [str(n) for n in range(len(model.network.unit_groups) + 1)]
    assert all(point["images"] == "3" for point in points)
    assert [float(point["accuracy"]) for point in points] == pytest.approx([float(point["oracle"]) for point in points])
    with page.expect_download() as download:
        page.get_by_role("link", name="Every step (CSV)").click()
    assert download.value.path().read_text() == (run / "teaching" / f"{sessions(run)[0]}.csv").read_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="All (JSON)").click()
    whole = json.loads(download.value.path().read_text())
    assert len(whole["steps"]) == len(rows(run))
    assert whole["settings"]["order"] == "random"
    assert page.locator("svg.chart").get_attribute("aria-label").startswith("Accuracy rises")


def test_two_windows_do_not_write_over_each_other(address, open_page, run):
    page = open_page(address)
    begin(page)
    other = open_page(address)
    other.evaluate("hash => { location.hash = hash; }", page.evaluate("location.hash"))
    other.wait_for_selector("form.question")
    press(page, "Enter")
    other.keyboard.press("Enter")
    other.wait_for_selector("#alerts p")
    assert "went on in another window" in other.locator("#alerts").inner_text()
    other.wait_for_function("() => document.querySelectorAll('ol.groups .answered').length === 1")
    assert len({row["step"] for row in rows(run)}) == 1
    press(other, "Enter")
    assert len({row["step"] for row in rows(run)}) == 2
    other.wrong.clear()  # the browser notes that the server said no


def test_a_run_that_was_deleted(address, open_page, run):
    page = open_page(address)
    begin(page)
    shutil.rmtree(run)
    page.keyboard.press("Enter")
    page.wait_for_selector("#alerts p")
    assert "gone" in page.locator("#alerts").inner_text()
    assert not run.exists()
    page.wrong.clear()


def test_small_and_dark_and_for_a_screen_reader(address, open_page):
    page = open_page(address, viewport={"width": 390, "height": 800}, color_scheme="dark")
    begin(page)
    page.get_by_text("Accuracy by number of corrections").click()
    page.wait_for_selector(".curve p")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    unnamed = page.evaluate("""() => [...document.querySelectorAll('input, select, button, a')].filter((element) =>
        !(element.labels?.length || element.innerText?.trim() || element.getAttribute('aria-label'))).length""")
    assert unnamed == 0
    assert page.locator("fieldset legend").count() == 1
    question, prediction = (page.locator(part).bounding_box()["y"] for part in (".part-question", ".part-prediction"))
    assert question < prediction
    go(page, "teach")
    page.wait_for_selector(".sessions tbody a")
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # the table of sessions scrolls by itself


@pytest.fixture
def animals(tmp_path):
    """A run of a random model on images with every kind of group: which one, which of these, is it there, how much."""
    from ibd.config import load_config, save_config
    from ibd.io import build_data
    from tests.data_makers import make_concept_folder, write_rows
    from tests.model_makers import make_module

    root = make_concept_folder(tmp_path / "animals", val=2, concepts="image")
    with (root / "concepts.csv").open() as file:
        head, *lines = csv.reader(file)
    write_rows(
        root / "concepts.csv", [[*head, "size [mm]"], *([*line, 5 + 3 * (n % 4)] for n, line in enumerate(lines))]
    )
    config = load_config("folder/cbm", f"data.root={root}", "data.image_size=[24,32]", "data.batch_size=8")
    run = tmp_path / "runs" / "animals"
    make_module(build_data(config.data).spec).save(run / "checkpoints" / "best.ckpt")
    save_config(config, run / "config.yaml")
    return run


def test_every_kind_of_group(animals, open_page):
    from tests.page_server import serving

    model, data = load_run(animals)
    with serving(animals) as address:
        page = open_page(address)
        begin(page, **{"Order of the concept groups": "given"})
        _, sample = image_of(model, data, page)
        kinds = {}
        for _ in model.network.unit_groups:
            name = group(page)
            boxes = page.locator("form.question input")
            kinds[name] = (boxes.first.get_attribute("type"), boxes.count())
            if name == "legs":
                press(page, "2")
            if name == "sound":
                boxes.nth(0).set_checked(False)
                boxes.nth(1).set_checked(False)
                press(page, "1")
                assert [boxes.nth(n).is_checked() for n in range(2)] == [True, False]
            if name == "flies":
                press(page, "0")
            if name == "size":
                assert "mm" in page.locator("form.question").inner_text()
                boxes.first.fill("")
                page.keyboard.press("Enter")  # nothing is no answer
                assert group(page) == "size"
                page.keyboard.type("12.5")
            press(page, "Enter")
        page.close()
    assert kinds == {"legs": ("radio", 3), "sound": ("checkbox", 2), "flies": ("radio", 2), "size": ("number", 1)}
    written = {row["unit"]: float(row["to"]) for row in rows(animals)}
    assert written == {"legs::four": 1.0, "sound::loud": 1.0, "sound::soft": 0.0, "flies": 0.0, "size": 12.5}
    after = model.predict(sample.image).intervene(written)
    last = rows(animals)[-1]
    assert float(last["probability_after"]) == pytest.approx(float(after.probabilities.max()), abs=1e-5)
    assert last["class_after"] == after.classes[0]


def test_a_run_without_sessions(address, open_page):
    page = open_page(address)
    go(page, "teach")
    page.get_by_role("button", name="Begin").wait_for()
    assert page.locator("main .mode").evaluate("root => root.lastChild.nodeName") == "FORM"
