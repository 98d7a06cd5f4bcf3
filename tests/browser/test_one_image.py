"""The one-image mode in a browser: bringing an image, sliders, groups, undo, search, keyboard, small screens."""

import io
import re

import pytest
import torch
from PIL import Image

from ibd.models.loading import load_network
from tests.model_makers import make_module, make_pipnet, make_stochastic_module
from tests.page_makers import bird_data, make_run

pytest.importorskip("uvicorn")
expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.slow

MAKERS = {"concepts": make_module, "parts": make_pipnet, "linked": make_stochastic_module}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(folder / name, make) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def address(runs):
    from tests.page_server import serving

    with serving(*runs.values()) as address:
        yield address


@pytest.fixture
def at(open_page, address):
    """Return a function that opens an image of a run."""

    def at(run="concepts", image="test:5", **options):
        page = open_page(f"{address}#/{run}/image{f'?image={image}' if image else ''}", **options)
        if image:
            expect(page.locator(".headline strong")).to_be_visible()
        return page

    return at


def predicted(runs, run="concepts", image=5):
    return load_network(runs[run]).predict(bird_data().dataset("test")[image].image)


def shown_answer(prediction):
    return f"{prediction.classes[0]} {100 * float(prediction.probabilities.max()):.1f} %"


def row(page, unit):
    return page.locator(f'.unit[data-unit="{unit}"]')


def number(text):
    """Read a number that the page has written, with the sign that is as wide as a digit."""
    return float(text.replace("\N{MINUS SIGN}", "-"))


def names():
    return list(bird_data().spec.concept_names)


def picture(size=(50, 40)):
    file = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(file, "PNG")
    return file.getvalue()


def slide(page, unit, value):
    """Drag a slider: many inputs, one change."""
    page.evaluate(
        """([unit, value]) => {
            const slider = document.querySelector(`.unit[data-unit="${unit}"] .slider`);
            const from = Number(slider.value);
            for (let step = 1; step <= 5; step++) {
                slider.value = from + (value - from) * step / 5;
                slider.dispatchEvent(new Event("input", {bubbles: true}));
            }
            slider.dispatchEvent(new Event("change", {bubbles: true}));
        }""",
        [unit, value],
    )


def test_the_numbers_are_those_of_python(at, runs):
    page, prediction = at(), predicted(runs)
    expect(page.locator(".headline strong")).to_have_text(shown_answer(prediction))
    for unit, value in enumerate(prediction.unit_values[0].tolist()):
        expect(row(page, unit).locator(".value")).to_have_text(f"{value:.2f}")
    assert page.locator("li.unit").count() == len(names())
    assert "token" not in page.url


def test_a_slider_changes_the_prediction_as_intervene_does(at, runs):
    page, unit = at(), names().index("eye::ring")
    slide(page, unit, 0.25)
    after = predicted(runs).intervene({"eye::ring": 0.25})
    expect(page.locator(".headline strong")).to_have_text(shown_answer(after))
    expect(page.locator(".headline")).to_contain_text(f"before: {shown_answer(predicted(runs))}")
    expect(row(page, unit).locator(".mark")).to_have_text("set by hand")
    expect(row(page, unit).locator(".value")).to_contain_text("→ 0.25")
    told = page.locator(".classes tbody tr").first.locator("td.after").get_attribute("title").split()[1]
    assert number(told) == pytest.approx(float(after.logits.max()), abs=6e-5)


def test_a_choice_clears_the_rest_of_an_exclusive_group(at, runs):
    page = at()
    needle, cone = names().index("beak::needle"), names().index("beak::cone")
    for chosen in ("beak::cone", "beak::needle"):  # the second one takes the place of the first
        page.get_by_role("radio", name=f"{chosen} holds").check()
        after = predicted(runs).intervene({chosen: 1})
        expect(page.locator(".headline strong")).to_have_text(shown_answer(after))
    expect(row(page, needle).locator(".value")).to_contain_text("1.00")
    expect(row(page, cone).locator(".value")).to_contain_text("0.00")
    expect(row(page, cone).locator(".mark")).to_have_text("follows")
    page.get_by_role("radiogroup", name="beak").get_by_role("radio", name="as predicted").check()
    expect(page.locator(".headline strong")).to_have_text(shown_answer(predicted(runs)))


def test_what_excludes_each_other_is_told_and_taken_back(at):
    page = at()
    needle, cone = names().index("beak::needle"), names().index("beak::cone")
    slide(page, needle, 0.7)
    expect(row(page, needle).locator(".value")).to_contain_text("0.70")
    slide(page, cone, 0.6)
    expect(page.get_by_role("alert")).to_contain_text("exclude each other")
    expect(row(page, cone).locator(".mark")).to_be_empty()
    expect(row(page, needle).locator(".mark")).to_have_text("set by hand")
    page.wrong[:] = [line for line in page.wrong if "400" not in line]  # the answer that refuses


def test_a_finger_moves_a_slider_and_scrolls_the_page_without_setting_it(at, runs):
    page, unit = at(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True), names().index("eye::ring")
    slider, finger = row(page, unit).locator(".slider"), page.context.new_cdp_session(page)
    stood = slider.input_value()

    def touch(right, down):
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        x, y = box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2
        for kind, step in [("touchStart", 0), *(("touchMove", step) for step in range(1, 20)), ("touchEnd", None)]:
            points = [] if step is None else [{"x": x + right * step, "y": y + down * step}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.wait_for_timeout(20)

    at_first = page.evaluate("scrollY + document.querySelector('.right').scrollTop")
    touch(0, 6)
    assert page.evaluate("scrollY + document.querySelector('.right').scrollTop") != at_first
    expect(page.locator(".headline")).to_have_text(shown_answer(predicted(runs)))
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    expect(slider).to_have_value(stood)
    touch(3, 0)
    expect(row(page, unit).locator(".mark")).to_have_text("set by hand")
    after = predicted(runs).intervene({"eye::ring": float(slider.input_value())})
    expect(page.locator(".headline strong")).to_have_text(shown_answer(after))


def test_undo_redo_and_reset(at, runs):
    page = at()
    ring = names().index("eye::ring")
    first, tail = predicted(runs), names().index("tail::red_fan") if "tail::red_fan" in names() else 0
    undo, redo = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Redo")
    reset = page.get_by_role("button", name="Reset all")
    for button in (undo, redo, reset):
        expect(button).to_be_disabled()
    slide(page, ring, 0.5)
    expect(row(page, ring).locator(".value")).to_contain_text("0.50")
    slide(page, tail, 0.3)
    expect(row(page, tail).locator(".value")).to_contain_text("0.30")
    undo.click()
    expect(row(page, tail).locator(".mark")).to_be_empty()
    one = first.intervene({"eye::ring": 0.5})
    expect(page.locator(".headline strong")).to_have_text(shown_answer(one))
    page.keyboard.press("Control+z")  # a drag is one step
    expect(page.locator(".headline strong")).to_have_text(shown_answer(first))
    expect(undo).to_be_disabled()
    page.keyboard.press("Control+Shift+Z")
    expect(page.locator(".headline strong")).to_have_text(shown_answer(one))
    redo.click()
    expect(row(page, tail).locator(".value")).to_contain_text("0.30")
    reset.click()
    expect(page.locator(".headline")).to_have_text(shown_answer(first))
    undo.click()
    expect(row(page, tail).locator(".value")).to_contain_text("0.30")


def test_what_is_undone_or_refused_stands_nowhere_any_more(at, runs):
    page, field = at(), "eye::ring: exact value"
    first, set_by_hand = predicted(runs), predicted(runs).intervene({"eye::ring": 0.25})
    for _ in range(2):  # the second time the same number is new to the field again
        page.get_by_label(field).fill("0.25")
        page.keyboard.press("Enter")
        expect(page.locator(".headline strong")).to_have_text(shown_answer(set_by_hand))
        page.keyboard.press("Control+z")
        expect(page.locator(".headline")).to_have_text(shown_answer(first))
        expect(page.get_by_label(field)).to_have_value("")
    page.get_by_label(field).fill("7")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("from 0 to 1")
    expect(page.get_by_label(field)).to_have_value("")
    free = page.get_by_role("radiogroup", name="beak").get_by_role("radio", name="as predicted")
    expect(free).to_be_checked()
    page.get_by_role("radio", name="beak::cone holds").check()
    page.keyboard.press("Control+z")
    expect(free).to_be_checked()
    page.wrong[:] = [line for line in page.wrong if "400" not in line]  # the answer that refuses


def test_an_address_with_other_corrections_of_the_same_image_is_followed(at, runs):
    page = at()
    for value in (0.5, 0.25):
        page.evaluate("at => { location.hash = at; }", f'#/concepts/image?image=test:5&edits={{"eye::ring":{value}}}')
        after = predicted(runs).intervene({"eye::ring": value})
        expect(page.locator(".headline strong")).to_have_text(shown_answer(after))
    page.get_by_role("button", name="Undo").click()
    expect(row(page, names().index("eye::ring")).locator(".value")).to_contain_text("0.50")


def test_reload_and_back_keep_the_image_and_what_was_set(at, runs):
    page = at()
    slide(page, names().index("eye::ring"), 0.5)
    after = shown_answer(predicted(runs).intervene({"eye::ring": 0.5}))
    expect(page.locator(".headline strong")).to_have_text(after)
    expect(page).to_have_url(re.compile("edits"))
    page.reload()
    expect(page.locator(".headline strong")).to_have_text(after)
    page.evaluate("location.hash = '#/concepts/image?image=test:6'")
    expect(page.locator(".headline")).to_have_text(shown_answer(predicted(runs, image=6)))
    page.go_back()
    expect(page.locator(".headline strong")).to_have_text(after)


def test_another_run_shows_the_same_image(at, runs):
    page = at()
    page.get_by_role("combobox", name="Model").select_option("linked")
    expect(page.locator(".headline")).to_have_text(shown_answer(predicted(runs, "linked")))


def test_prototypes_are_multiplied_and_switched_off(at, runs):
    page, first = at("parts"), predicted(runs, "parts")
    page.get_by_role("switch", name="prototype 3 is on").uncheck()
    expect(row(page, 3).locator(".mark")).to_have_text("set by hand")
    off = first.intervene({3: 0})
    told = page.locator(".classes tbody td.after").first.get_attribute("title").split()[1]
    assert number(told) == pytest.approx(float(off.logits.max()), abs=6e-5)
    page.get_by_label("prototype 3: exact value").fill("1.5")
    page.keyboard.press("Enter")
    expect(row(page, 3).locator(".slider")).to_have_attribute("aria-valuetext", "times 1.50")
    page.get_by_role("button", name="Reset prototype 3").click()
    expect(page.locator(".headline")).not_to_contain_text("before")


def test_what_moves_along_is_shown(at, runs):
    page = at("linked")
    slide(page, names().index("eye::ring"), 1)
    after = predicted(runs, "linked").intervene({"eye::ring": 1})
    moved = int(after.moved[0].abs().argmax())
    assert float(after.moved[0].abs().max()) > 0.05
    expect(row(page, moved).locator(".mark")).to_have_text("moved along")


def test_search_and_filters(at):
    page = at()
    page.get_by_role("searchbox").fill("beak con")
    expect(page.locator("li.unit:visible")).to_have_count(1)
    expect(page.locator(".slot.units").get_by_text(f"1 of {len(names())} concepts shown")).to_be_visible()
    expect(page.get_by_role("radiogroup", name="eye")).to_be_hidden()
    page.get_by_role("searchbox").fill("")
    slide(page, names().index("eye::ring"), 0.5)
    expect(row(page, names().index("eye::ring")).locator(".value")).to_contain_text("→ 0.50")
    page.get_by_label("Show").select_option("edited")
    expect(page.locator("li.unit:visible")).to_have_count(1)
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Order").select_option("size")
    parts = [abs(number(text)) for text in page.locator(".unit .adds .number").all_text_contents()]
    assert parts == sorted(parts, reverse=True)
    page.get_by_label("Adds to").select_option("2")
    expect(page.locator(".unit .adds .number").first).to_be_visible()


def test_an_image_is_chosen_pasted_and_dropped(at, runs, tmp_path):
    model = load_network(runs["concepts"])
    (tmp_path / "<b>bird.png").write_bytes(picture())
    expected = shown_answer(model.predict(tmp_path / "<b>bird.png"))
    page = at(image=None)
    page.locator("#file").set_input_files(tmp_path / "<b>bird.png")
    expect(page.locator(".headline strong")).to_have_text(expected)
    expect(page.locator("figcaption").first).to_contain_text("<b>bird.png")
    assert page.locator("figcaption b").count() == 0  # the name of a file is text
    content = list((tmp_path / "<b>bird.png").read_bytes())
    for kind, carrier in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate("location.hash = '#/concepts/image?image=test:5'")
        expect(page.locator(".headline strong")).to_have_text(shown_answer(predicted(runs)))
        page.evaluate(
            """([kind, carrier, content]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(content)], "bird.png", {type: "image/png"}));
                const made = kind === "drop" ? DragEvent : ClipboardEvent;
                document.dispatchEvent(new made(kind, {[carrier]: data, bubbles: true, cancelable: true}));
            }""",
            [kind, carrier, content],
        )
        expect(page.locator(".headline strong")).to_have_text(expected)


def test_what_is_no_image_is_told(at, tmp_path):
    page = at(image=None)
    (tmp_path / "notes.png").write_text("no image")
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    expect(page.get_by_role("alert")).to_contain_text("this is not an image")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_be_empty()
    page.wrong.clear()  # the answer 400


def test_by_the_keyboard_alone(at, runs):
    page = at()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.get_by_role("searchbox").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('slider')"):
            break
    unit = int(page.evaluate("document.activeElement.closest('.unit').dataset.unit"))
    page.keyboard.press("Home")
    before = page.evaluate("Number(document.activeElement.value)")
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")
    expect(row(page, unit).locator(".value")).to_contain_text(f"{before + 0.11:.2f}")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    after = predicted(runs).intervene({unit: before + 0.11})
    expect(page.locator(".headline strong")).to_have_text(shown_answer(after))
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")


def test_every_control_has_a_name_and_the_prediction_is_announced(at):
    page = at("parts")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('main input, main select, main button')].filter((e) =>
            !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator(".headline").get_attribute("role") == "status"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off(at, scheme, width):
    page = at("linked", viewport={"width": width, "height": 800}, color_scheme=scheme)
    slide(page, names().index("eye::ring"), 1)
    expect(page.locator(".headline")).to_contain_text("before")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark, light = page.evaluate(
        """() => { const of = (key) => getComputedStyle(document.body)[key].match(/\\d+/g).slice(0, 3)
            .reduce((sum, part) => sum + Number(part), 0); return [of('color'), of('backgroundColor')]; }"""
    )
    assert (dark < light) == (scheme == "light")
    assert abs(dark - light) > 400


def test_two_browsers_at_once(at, runs):
    first, second = at(), at()
    slide(first, names().index("eye::ring"), 0.5)
    slide(second, names().index("eye::ring"), 1)
    for page, value in ((first, 0.5), (second, 1)):
        after = predicted(runs).intervene({"eye::ring": value})
        expect(page.locator(".headline strong")).to_have_text(shown_answer(after))


def test_old_answers_are_dropped_while_a_slider_moves(at, runs):
    page, value = at(), 0.0
    torch.manual_seed(0)
    for value in torch.rand(30).tolist():
        slide(page, names().index("eye::ring"), value)
    after = predicted(runs).intervene({"eye::ring": value})
    expect(page.locator(".headline strong")).to_have_text(shown_answer(after))


def test_an_alert_is_in_sight_wherever_the_page_is_scrolled_to(at):
    page = at(viewport={"width": 390, "height": 800})
    page.get_by_text("In Python").scroll_into_view_if_needed()
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    expect(page.locator("#alerts p")).to_be_in_viewport()
    page.wrong.clear()  # the browser notes the refusal
