"""One image in a hurry: a slow server never lets another image, or what was before a change, pass for this one."""

import io
import json
import re

import pytest
from PIL import Image

from tests.model_makers import make_module
from tests.page_makers import make_run

pytest.importorskip("uvicorn")
expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.slow

UNIT = 0
PICTURE = io.BytesIO()
Image.new("RGB", (50, 40), "red").save(PICTURE, "PNG")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    from tests.page_server import serving

    with serving(make_run(tmp_path_factory.mktemp("runs") / "concepts", make_module)) as address:
        yield address


@pytest.fixture
def page(open_page, address):
    """Return an image on a page that holds what it asks for from `hold("/unit?")` to `let()`."""
    page = open_page(f"{address}#/concepts/image?image=test:5")
    expect(page.locator(".headline strong")).to_be_visible()
    page.evaluate(
        """() => {
            const ask = window.fetch;
            let held = null, go;
            window.hold = (part, skip = 0) => { held = [part, new Promise((then) => { go = then; }), skip]; };
            window.let = () => { held = null; go(); };
            window.fetch = async (path, options) => {
                if (held && String(path).includes(held[0]) && held[2]-- <= 0) await held[1];
                return ask(path, options);
            };
        }"""
    )
    return page


def go_to(page, image):
    page.evaluate("image => { location.hash = `#/concepts/image?image=${image}`; }", image)
    expect(page.locator("figcaption").first).to_contain_text(f"test/{image.split(':')[1]}:")


def set_first(page, value):
    field = page.locator(f'.unit[data-unit="{UNIT}"] .exact')
    field.fill(str(value))
    field.press("Enter")
    expect(page.locator(f'.unit[data-unit="{UNIT}"] .value')).to_contain_text(f"{value:.2f}")


def saved(page, name):
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
        page.evaluate("window.let()")
    return download.value


def test_the_map_of_one_image_never_lies_over_another(page):
    page.locator(f'.unit[data-unit="{UNIT}"] .name').click()
    page.mouse.move(2, 2)
    expect(page.locator(".picture .over .layer")).to_be_visible()
    page.evaluate("window.hold('/unit?')")
    go_to(page, "test:6")
    expect(page.locator(".picture .over img")).to_have_count(0)
    expect(page.locator(".map-note")).to_be_empty()
    expect(page.get_by_role("button", name="The shown map (PNG)")).to_be_disabled()
    page.evaluate("window.let()")
    expect(page.locator(".picture .over .base")).to_have_attribute("src", "/api/runs/concepts/gray?image=test%3A6")


def test_what_is_taken_along_is_what_is_shown(page):
    page.evaluate("window.hold('/result')")
    set_first(page, 0.25)
    record = json.loads(saved(page, "JSON").path().read_text())
    assert list(record["edits"].values()) == [0.25]
    page.evaluate("window.hold('/result')")
    set_first(page, 0.75)
    expect(page.locator(".line pre").first).to_have_attribute("aria-busy", "true")
    page.evaluate("window.let()")
    expect(page.locator(".line pre").first).to_contain_text("=0.75")
    page.evaluate("window.hold('/result')")
    go_to(page, "test:6")
    assert saved(page, "CSV").suggested_filename == "test_6.csv"


def test_of_two_images_the_one_that_was_chosen_last_is_shown(page):
    page.evaluate("window.hold('/uploads')")
    page.set_input_files("#file", {"name": "slow.png", "mimeType": "image/png", "buffer": PICTURE.getvalue()})
    go_to(page, "test:6")
    with page.expect_response("**/api/uploads*"):
        page.evaluate("window.let()")
    page.wait_for_timeout(300)
    expect(page.locator("figcaption").first).to_contain_text("test/6:")


def test_keys_that_follow_fast_each_count(page):
    page.evaluate(
        """slider => {
            slider.value = 0;
            for (const kind of ["input", "change"]) slider.dispatchEvent(new Event(kind, {bubbles: true})); // Home
            slider.dispatchEvent(new KeyboardEvent("keydown", {key: "PageUp", bubbles: true}));
        }""",
        page.locator(f'.unit[data-unit="{UNIT}"] .slider').element_handle(),
    )
    page.wait_for_timeout(300)
    expect(page.locator(f'.unit[data-unit="{UNIT}"] .slider')).to_have_value("0.1")
    expect(page.locator(f'.unit[data-unit="{UNIT}"] .value')).to_contain_text("0.10")


def test_a_mode_that_was_left_does_not_move_the_page(page):
    filtered = "#/concepts/data?state=wrong"
    page.evaluate("at => { location.hash = at; }", filtered)
    page.locator("table.images tbody tr a").first.wait_for(state="attached")
    page.locator("table.images tbody tr").first.click()
    expect(page.locator(".headline strong")).to_be_visible()
    page.go_back()
    page.wait_for_timeout(700)  # longer than the address waits for sliders to rest
    assert page.url.endswith(filtered)


def test_going_back_while_a_mode_is_being_loaded_stays_where_the_address_is(page):
    held = []
    page.route("**/static/modes/data_set.js", lambda route: held.append(route))
    page.get_by_role("link", name="Data set").click()
    expect(page).to_have_url(re.compile("/data$"))
    page.go_back()
    page.wait_for_timeout(200)
    for route in held:
        route.continue_()
    assert held
    expect(page.get_by_role("heading", name="One image", level=1)).to_be_visible()
    page.wait_for_timeout(300)
    expect(page.get_by_role("heading", name="One image", level=1)).to_be_visible()
    expect(page.locator(".headline strong")).to_be_visible()


def test_what_is_said_of_a_file_is_not_said_of_the_next_image(page):
    notes = {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"}
    page.set_input_files("#file", notes)
    expect(page.get_by_role("alert")).to_contain_text("this is not an image")
    go_to(page, "test:6")
    expect(page.get_by_role("alert")).to_be_empty()
    page.set_input_files("#file", notes)
    expect(page.get_by_role("alert")).to_contain_text("this is not an image")
    page.set_input_files("#file", {"name": "bird.png", "mimeType": "image/png", "buffer": PICTURE.getvalue()})
    expect(page.locator("figcaption").first).to_contain_text("bird.png")
    expect(page.get_by_role("alert")).to_be_empty()
    page.wrong.clear()  # the answers 400


def test_a_slider_stays_under_the_pointer_that_drags_it(page):
    slider = page.locator(f'.unit[data-unit="{UNIT}"] .slider')
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    expect(page.locator(f'.unit[data-unit="{UNIT}"] .mark')).to_have_text("set by hand")
    assert slider.bounding_box() == box
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2, steps=10)
    page.mouse.up()
    assert float(slider.input_value()) == pytest.approx(0.7, abs=0.04)  # its handle is 16 pixels wide
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f'.unit[data-unit="{UNIT}"] .mark')).to_be_empty()
    expect(page.locator(f'.unit[data-unit="{UNIT}"] .reset')).to_be_hidden()


def test_what_is_set_and_taken_back_before_an_answer_comes_stands_nowhere(page):
    group = page.get_by_role("radiogroup", name="beak")
    free, cone = (group.get_by_role("radio", name=name) for name in ("as predicted", "beak::cone holds"))
    page.evaluate("hold('/predict', 1)")
    field = page.locator(f'.unit[data-unit="{UNIT}"] .exact')
    field.fill("7")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("from 0 to 1")
    cone.check()  # while it is asked again without the 7: this is not asked before it is taken back
    page.keyboard.press("Control+z")
    page.evaluate("window.let()")
    expect(free).to_be_checked()
    expect(cone).not_to_be_checked()
    page.wrong[:] = [line for line in page.wrong if "400" not in line]  # the answer that refuses
