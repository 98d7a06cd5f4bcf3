"""In a browser: answers come while a slider is dragged, and all rows of hundreds of units follow."""

import pytest

from ibd.models.loading import load_network
from tests.model_makers import make_module, make_prototypes
from tests.page_makers import bird_data, make_run

pytest.importorskip("uvicorn")
expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.slow

DRAG = """async (answers) => {
  const slow = window.fetch, painted = [];
  window.fetch = async (...asked) => { await new Promise((done) => setTimeout(done, 60)); return slow(...asked); };
  const slider = document.querySelector("li.unit .slider"), end = performance.now() + 20000;
  const watcher = new MutationObserver(() => painted.push(Number(slider.value)));
  watcher.observe(document.querySelector(".slot.prediction .classes"), {childList: true});
  for (let step = 0; painted.length < answers && performance.now() < end; step++) {
    slider.value = (step % 100) / 100;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    await new Promise(requestAnimationFrame);
  }
  const seen = painted.length;
  slider.value = 0.25;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  slider.dispatchEvent(new Event("change", {bubbles: true}));
  return [seen, Number(slider.closest("li").dataset.unit)];
}"""


def many(spec):
    return make_prototypes(bird_data(), per_class=1 + 240 // len(spec.class_names))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {"concepts": make_run(folder / "concepts", make_module), "many": make_run(folder / "many", many)}


@pytest.fixture
def at(open_page, runs):
    """A function that opens the sixth test image in a run."""
    from tests.page_server import serving

    with serving(*runs.values()) as address:

        def at(run):
            page = open_page(f"{address}#/{run}/image?image=test:5")
            expect(page.locator(".headline strong")).to_be_visible()
            return page

        yield at


def first_of(runs, run):
    return load_network(runs[run]).predict(bird_data().dataset("test")[5].image)


def in_rows(page, what):
    """Return the numbers that all rows show, in the order of the units."""
    texts = page.eval_on_selector_all(
        "li.unit",
        f"""all => all.sort((a, b) => a.dataset.unit - b.dataset.unit)
            .map((each) => each.querySelector("{what}").textContent)""",
    )
    return [float(text.split("→")[-1].replace("\N{MINUS SIGN}", "-")) for text in texts]


def wait_for_rows(page, what, wanted):
    """Wait until the rows show some numbers, to their two digits."""
    for _ in range(200):
        shown = in_rows(page, what)
        if len(shown) == len(wanted) and shown == pytest.approx(wanted, abs=0.0051):
            return
        page.wait_for_timeout(50)
    assert shown == pytest.approx(wanted, abs=0.0051)


def test_answers_are_shown_while_a_slider_is_dragged(at, runs):
    page = at("concepts")
    seen, unit = page.evaluate(DRAG, 3)
    assert seen >= 3  # none waited until the slider was let go
    after = first_of(runs, "concepts").intervene({unit: 0.25})
    expect(page.locator(".headline strong")).to_have_text(
        f"{after.classes[0]} {100 * float(after.probabilities.max()):.1f} %"
    )
    expect(page.locator(f".unit[data-unit='{unit}'] .value")).to_contain_text("0.25")
    page.get_by_role("button", name="Undo").click()  # the drag was one step
    expect(page.locator(".headline")).not_to_contain_text("before")


def test_all_rows_of_hundreds_follow_also_those_out_of_sight(at, runs):
    page, first = at("many"), first_of(runs, "many")
    assert page.locator("li.unit").count() > 200
    wait_for_rows(page, ".adds .number", first.contributions[0, :, int(first.labels[0])].tolist())
    page.get_by_label("Adds to").select_option("2")
    wait_for_rows(page, ".adds .number", first.contributions[0, :, 2].tolist())
    last = int(page.locator("li.unit").last.get_attribute("data-unit"))
    top = int(page.locator("li.unit").first.get_attribute("data-unit"))
    for unit, factor in ((last, "3"), (top, "0.5")):  # one that is not in sight, then one that is
        page.locator(f".unit[data-unit='{unit}'] .exact").fill(factor)
        page.keyboard.press("Tab")
    edited = first.intervene({last: 3.0, top: 0.5})  # factors
    wait_for_rows(page, ".value", edited.unit_values[0].tolist())
    wait_for_rows(page, ".adds .number", edited.contributions[0, :, 2].tolist())
    page.get_by_label("Show").select_option("edited")
    expect(page.locator("li.unit:visible")).to_have_count(2)
