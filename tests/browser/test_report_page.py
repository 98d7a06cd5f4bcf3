"""The page of a report as a person uses it: tabs, pictures, search, small screens, the dark, and no script at all."""

import pytest

from ibd.comparison.report import Report
from tests.report_makers import make_comparison

pytestmark = pytest.mark.slow  # a page of many pictures in a real browser
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DESK = {"viewport": {"width": 1300, "height": 900}}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(Report(make_comparison(images=12, shown=8)).html(), encoding="utf-8")
    return path.as_uri()


def tabs_of(page, where):
    return page.query_selector_all(f"{where} > [role=tablist] > [role=tab]")


def test_tabs_go_by_the_arrow_keys(address, open_page):
    page = open_page(address, **DESK)
    box = "#scores .family:not(.off) > .questions"
    tabs = tabs_of(page, box)
    titles = [tab.text_content() for tab in tabs]
    assert titles[0] == "Parts"  # the question of the verdict's metric
    assert titles[-1] == "Sanity and cost"
    tabs[0].focus()
    for key, place in (("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", len(tabs) - 1), ("Home", 0), ("End", -1)):
        page.keyboard.press(key)
        chosen = page.evaluate("document.activeElement.textContent")
        assert chosen == titles[place]
        assert [tab.get_attribute("aria-selected") for tab in tabs].index("true") == place % len(tabs)
        shown = [panel for panel in page.query_selector_all(f"{box} > [role=tabpanel]") if panel.is_visible()]
        assert [panel.get_attribute("data-title") for panel in shown] == [chosen]
        assert page.evaluate("document.activeElement.getAttribute('aria-controls')") == shown[0].get_attribute("id")


def test_a_family_is_chosen_for_the_whole_page(address, open_page):
    page = open_page(address, **DESK)
    tabs_of(page, "#verdict")[1].click()
    for section in ("answer", "verdict", "scores", "images", "units"):
        shown = [block for block in page.query_selector_all(f"#{section} .family") if block.is_visible()]
        assert [block.get_attribute("data-title") for block in shown] == ["Prototype network"]


def test_every_table_of_scores_fits_the_screen(address, open_page):
    page = open_page(address, **DESK)
    for family in tabs_of(page, "#scores"):
        family.click()
        for tab in tabs_of(page, "#scores .family:not(.off) > .questions"):
            tab.click()
            wide = "(box) => box.scrollWidth - box.clientWidth"
            boxes = [box for box in page.query_selector_all("#scores .scroll") if box.is_visible()]
            assert boxes
            assert [box.evaluate(wide) for box in boxes] == [0] * len(boxes)
            heads = [box.query_selector(".heads th:nth-child(2)").text_content() for box in boxes]
            assert all(head.startswith("Part Spearman") for head in heads)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_alone(address, open_page, scheme):
    page = open_page(address, **PHONE, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    live = (
        "() => { const box = document.querySelector('.panel.live'); box.scrollIntoView(); return box.dataset.logits; }"
    )
    page.wait_for_function(live)  # pictures that are read meanwhile move it away again
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    low = [tab.bounding_box()["height"] for tab in page.query_selector_all("[role=tab]") if tab.is_visible()]
    assert min(low) >= 44
    slider = page.query_selector(".panel.live input[type=range]")
    assert slider.bounding_box()["height"] >= 44
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_a_picture_is_enlarged_by_enter_and_left_by_escape(address, open_page):
    page = open_page(address, **DESK)
    button = page.query_selector("#images .family:not(.off) .enlarge")
    button.scroll_into_view_if_needed()
    small = button.query_selector("img").bounding_box()["width"]
    assert small > 150
    button.focus()
    page.keyboard.press("Enter")
    large = page.query_selector("dialog[open] img")
    assert large.bounding_box()["width"] > 2.5 * small
    first = large.get_attribute("alt")
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("alt") != first
    page.keyboard.press("Escape")
    assert page.query_selector("dialog[open]") is None
    assert page.evaluate("(button) => document.activeElement === button", button)


def test_units_are_found_by_a_part_of_their_name(address, open_page):
    page = open_page(address, **DESK)
    panel = page.query_selector("#units .panel.live")
    panel.scroll_into_view_if_needed()
    panel.query_selector("input[type=search]").fill("WING::")
    names = [row.text_content() for row in panel.query_selector_all(".unit .name") if row.is_visible()]
    assert sorted(names) == ["wing::<u>green</u>", "wing::blue_oval", "wing::red"]


def test_without_the_script_everything_can_be_read(address, open_page):
    page = open_page(address, **DESK, java_script_enabled=False)
    for selector in (".family", ".question", "#units .unit", "img", ".honesty li"):
        found = page.query_selector_all(selector)
        assert found
        folded = [box for box in found if not box.is_visible() and not inside_a_fold(box)]
        assert folded == []
    assert page.query_selector_all("input[type=range], [role=tab], dialog") == []
    assert [each for each in page.query_selector_all(".jsonly") if each.is_visible()] == []


def inside_a_fold(box):
    return box.evaluate("(box) => box.closest('details:not([open])') !== null")
