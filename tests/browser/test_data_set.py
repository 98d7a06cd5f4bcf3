"""The data-set mode in a browser: table, filters, confusion matrix, figures, thresholds, by mouse and by keys."""

import json
import re
import threading

import pytest

from ibd.models.thresholds import FILE
from ibd.training.runner import evaluate
from tests.command import QUIET, TINY, fitted, ibd

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow
VIEWS = ("images", "confusion", "figures", "thresholds")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A bottleneck that has learnt something."""
    folder = tmp_path_factory.mktemp("runs")
    more = ("data.test_size=120", "trainer.max_epochs=5", "logger.figures_every=0")
    return fitted(TINY, *QUIET, f"output={folder}", *more)


@pytest.fixture(scope="module")
def address(run):
    """Where the run is served, with the token."""
    import uvicorn

    from ibd.app.page.access import Access
    from ibd.app.page.server import bound_socket, make_app
    from ibd.app.page.site import Site

    with bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        access = Access("127.0.0.1", port)
        server = uvicorn.Server(uvicorn.Config(make_app(Site([str(run)]), access), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{port}/?token={access.token}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def look(open_page, address):
    """A function that opens a view of the data set, and returns the page when it is there."""

    def look(**parameters):
        options = {key: parameters.pop(key) for key in ("viewport", "color_scheme") if key in parameters}
        page = open_page(address, **options)
        go(page, **parameters)
        return page

    return look


def go(page, **parameters):
    """Go to a view of the data set."""
    query = "&".join(f"{key}={value}" for key, value in parameters.items())
    page.wait_for_selector("#run option", state="attached")
    page.evaluate("query => { location.hash = `#/${document.getElementById('run').value}/data?${query}`; }", query)
    wanted = {"confusion": "table.matrix, canvas.matrix", "figures": "svg", "thresholds": ".setter svg"}
    page.wait_for_selector(wanted.get(parameters.get("view", "images"), "table.images tbody tr"), timeout=30_000)


def rows(page):
    page.wait_for_function(
        "() => /^[0-9]/.test(document.querySelector('p.count')?.textContent) && !document.querySelector('[aria-busy]')"
    )
    return page.locator("table.images tbody tr")


def shares(page):
    """The confidences of the rows, in percent."""
    rows(page)
    return [float(text.removesuffix("\u00a0%")) for text in page.locator("td.sure .number").all_inner_texts()]


@pytest.fixture(scope="module")
def concept(run):
    """The concept that is true in most validation images."""
    return max(truths(run).items(), key=lambda item: item[1])[0]


def count(page):
    rows(page)
    return int(re.match(r"\d+", page.locator("p.count").inner_text()).group())


def test_the_table_is_filtered_sorted_and_cut_into_pages(look, run):
    page, accuracy = look(), evaluate(run)["test/accuracy"]
    assert count(page) == 120
    assert rows(page).count() == 50
    assert page.locator(
        "p.count"
    ).inner_text() == f"120 images, {round(120 * accuracy)} of them right ({accuracy:.1%})".replace("%)", "\u00a0%)")
    page.get_by_role("button", name="Next").click()
    page.wait_for_function("() => document.querySelector('th.name').textContent.endsWith('/50')")
    page.get_by_label("Answer").select_option("wrong")
    page.wait_for_function("() => document.querySelectorAll('table.images tbody tr:not(.wrong)').length === 0")
    wrong = count(page)
    assert wrong == 120 - round(120 * accuracy)
    page.get_by_role("button", name="Confidence").click()
    page.wait_for_selector("th[aria-sort=ascending]:has-text('Confidence')")
    rows(page)
    sure = shares(page)
    assert sure == sorted(sure)
    page.get_by_label("Name").fill("test/1")
    page.wait_for_function("n => Number(document.querySelector('p.count').textContent.split(' ')[0]) < n", arg=wrong)
    page.reload()  # the address has all of it
    page.wait_for_selector("table.images tbody tr")
    assert page.get_by_label("Name").input_value() == "test/1"
    assert page.get_by_label("Answer").input_value() == "wrong"
    page.get_by_role("button", name="Clear filters").click()
    page.wait_for_function("() => document.querySelector('p.count').textContent.startsWith('120 ')")


def test_filters_of_a_concept_and_of_confidence(look, concept):
    page = look(concept=concept, having="wrong")
    assert count(page) > 0
    assert page.locator("table.images tbody tr").first.get_by_text("wrong").count() > 0
    page.get_by_label("Concept").select_option("")
    page.wait_for_function("() => document.querySelector('p.count').textContent.startsWith('120 ')")
    middle = int(sorted(shares(page))[25])
    page.get_by_label("Confidence from").fill(str(middle))
    page.get_by_label("Confidence from").press("Enter")
    page.wait_for_function("() => !document.querySelector('p.count').textContent.startsWith('120 ')")
    assert min(shares(page)) >= middle


def test_an_image_opens_by_a_click_and_by_a_key_and_back_returns(look):
    page = look(state="wrong")
    name = page.locator("th.name a").first
    title = name.inner_text()
    name.focus()
    name.press("Enter")
    page.wait_for_selector("h1:has-text('One image')")
    assert f"image=test%3A{title.rsplit('/', 1)[1]}" in page.url
    page.go_back()
    page.wait_for_selector("table.images tbody tr")
    page.locator("table.images tbody tr td").nth(2).click()
    page.wait_for_selector("h1:has-text('One image')")


def test_a_cell_of_the_matrix_opens_its_images(look):
    page = look(view="confusion")
    cell = page.locator("table.matrix a.cell").first
    said = cell.get_attribute("aria-label")
    number = int(cell.inner_text())
    assert said.split(": ")[1].startswith(f"{number} of ")
    cell.click()
    assert count(page) == number
    assert f"truth={said.split(' taken for ')[0]}" in page.url
    page.go_back()
    page.wait_for_selector("table.matrix")
    page.locator("table.matrix [tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp", "End", "Home"):
        page.keyboard.press(key)
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == page.locator("table.matrix .cell").first.get_attribute("aria-label")
    assert page.locator("table.matrix [tabindex='0']").count() == 1
    page.locator("table.matrix a.cell").first.focus()
    page.keyboard.press("Enter")
    assert count(page) == number


def many_classes(route):
    """Answer with a confusion matrix of 200 classes, in which class 7 is taken for class 150 five times."""
    cells = [[index, index, 10] for index in range(200)] + [[7, 150, 5], [3, 4, 2]]
    images = [10 + 5 * (index == 7) + 2 * (index == 3) for index in range(200)]
    names = [f"class number {index}" for index in range(200)]
    route.fulfill(json={"classes": names, "cells": cells, "images": images, "silent": [0] * 200})


def test_a_matrix_of_many_classes_is_walked_through_by_keys(look):
    page = look()
    page.route("**/data/confusion*", many_classes)
    go(page, view="confusion")
    canvas = page.get_by_role("application")
    canvas.focus()
    canvas.press("n")
    said = page.locator("#matrix-said")
    assert said.inner_text().startswith("class number 7 taken for class number 150: 5 of 15 images (33.3\u00a0%)")
    canvas.press("ArrowRight")
    assert said.inner_text().startswith("class number 7 taken for class number 151: 0 of 15 images")
    canvas.press("p")
    canvas.press("n")
    assert said.inner_text().startswith("class number 3 taken for class number 4: 2 of 12")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 150 * 4 + 3, box["y"] + 7 * 4 + 3)
    assert said.inner_text().startswith("class number 7 taken for class number 150")
    assert page.locator("table.matrix thead th span").all_inner_texts() == [
        "class number 3",
        "class number 4",
        "class number 7",
        "class number 150",
        "images",
    ]
    page.get_by_label("The classes").select_option("7")
    assert page.locator("table.matrix tbody th").all_inner_texts() == ["class number 7", "class number 150"]
    canvas.focus()
    canvas.press("Enter")
    page.wait_for_function("() => location.hash.includes('predicted=class+number+150')")
    page.wait_for_selector("#alerts p")  # this run has no such class
    page.wrong.clear()


def test_figures_are_those_of_the_command_line(look, run, concept):
    page, tested = look(view="figures"), evaluate(run)
    accuracy = page.locator(".view p strong").first.inner_text()
    assert accuracy.startswith(f"{tested['test/accuracy']:.3f} [")
    lines = page.locator("table.sheet").nth(1).locator("tbody tr").all_inner_texts()
    assert len(lines) == 26
    page.get_by_role("button", name="Concept").click()
    assert page.locator("table.sheet").nth(1).locator("tbody th").first.inner_text() == "beak::cone"
    page.get_by_role("button", name="Concept").click()
    assert page.locator("table.sheet").nth(1).locator("tbody th").first.inner_text().startswith("wing::")
    whole = page.locator("figcaption").nth(1).inner_text()
    page.get_by_label("Curve of").select_option(concept)
    page.wait_for_selector(f"figcaption:has-text('{concept}')")
    error = re.search(r"error ([\d.]+)", page.locator("figcaption").nth(1).inner_text()).group(1)
    assert error == page.locator("table.sheet").nth(1).locator(f"tr:has-text('{concept}') td").last.inner_text()
    assert whole.startswith("All known concepts")
    page.locator("table.sheet").nth(1).get_by_role("link", name=concept).click()
    assert count(page) >= 0
    assert page.get_by_label("Concept").input_value() == concept


def test_a_threshold_is_moved_by_keys_kept_and_taken_away(look, run, concept):
    page = look(view="thresholds", concept=concept)
    slider = page.get_by_role("slider")
    assert slider.input_value() == "0.5"
    before = page.locator("dl.at").inner_text()
    slider.focus()
    for _ in range(20):
        slider.press("ArrowRight")
    assert slider.input_value() == "0.6"
    assert page.locator("dl.at").inner_text() != before
    page.get_by_role("button", name="Save this threshold").press("Enter")
    page.wait_for_selector("p[role=status]:has-text('Kept in')")
    kept = json.loads((run / FILE).read_text())["best.ckpt"]["concepts"][concept]
    assert kept["value"] == 0.6
    assert (
        page.locator("dl.at dd").last.inner_text()
        == f"{kept['called']} of {kept['images']} images, {kept['right']} of them rightly"
    )
    assert page.locator("dl.at dd").first.inner_text().startswith(f"{kept['precision']:.3f} [")
    row = page.locator("table.sheet tbody tr").inner_text().split("\t")
    assert row[:3] == [concept, "0.6000", "by hand"]
    said = next(line for line in ibd("threshold", run).out.splitlines() if line.startswith(concept))
    assert row[3] in said
    assert row[4] in said
    page.get_by_role("button", name="Take it away").click()
    page.wait_for_selector("p[role=status]:has-text('Taken away')")
    assert json.loads((run / FILE).read_text()) == {}


def test_a_threshold_by_a_wanted_precision_or_a_line_that_none_has_it(look, run, concept):
    page = look(view="thresholds", concept=concept)
    page.get_by_label("Wanted precision in percent").fill("60")
    page.get_by_role("button", name="Find and save").click()
    page.wait_for_selector("p[role=status]:has-text('Kept in')")
    kept = json.loads((run / FILE).read_text())["best.ckpt"]["concepts"][concept]
    assert kept["precision"] >= kept["wanted"] == 0.6
    page.get_by_role("button", name="For all concepts").click()
    page.wait_for_selector("p[role=status]:has-text('Not reached')")
    several = json.loads((run / FILE).read_text())["best.ckpt"]["concepts"]
    assert page.locator("table.sheet tbody tr").count() == len(several) > 1
    never = next(name for name, true in truths(run).items() if not true)
    page.locator(".view > p select").select_option(never)
    page.wait_for_function(
        "name => document.querySelector('.setter input').getAttribute('aria-label').includes(name)", arg=never
    )
    page.get_by_role("button", name="Find and save").click()
    page.wait_for_selector("#alerts p")
    assert "is true in none of the" in page.locator("#alerts").inner_text()
    assert len(page.wrong) == 1  # the answer 400, on the console
    page.wrong.clear()
    page.locator(".view > p select").select_option("")
    page.wait_for_selector("text=Wanted accuracy")
    page.get_by_label("Threshold as a number").fill("0.7312")  # between two places of the slider
    page.get_by_label("Threshold as a number").press("Enter")
    page.get_by_role("button", name="Save this threshold").click()
    page.wait_for_selector("table.sheet tbody tr:has-text('Confidence of the class')")
    go(page, state="abstains", split="val")
    confidence = json.loads((run / FILE).read_text())["best.ckpt"]["confidence"]
    assert confidence["value"] == 0.7312
    assert count(page) == confidence["images"] - confidence["called"]
    assert page.locator("table.images tbody .chip:has-text('not answered')").count() == rows(page).count()


def truths(run):
    """In how many validation images each concept is true."""
    from ibd.io import load_run_data

    data = load_run_data(run)
    return dict(zip(data.spec.concept_names, data.dataset("val").concepts.sum(0).tolist(), strict=True))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_a_narrow_screen_has_no_horizontal_scroll_and_every_field_a_name(look, view, color_scheme):
    page = look(view=view, viewport={"width": 390, "height": 844}, color_scheme=color_scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    fields = "[...document.querySelectorAll('main input, main select')]"
    assert page.evaluate(f"{fields}.filter(e => !e.labels.length && !e.getAttribute('aria-label')).length") == 0
    assert page.locator("nav.tabs a[aria-current=page]").count() == 1
