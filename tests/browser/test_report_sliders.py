"""Sliders of a report against `Prediction.intervene`: the same logits, whatever the rule of the family."""

import json

import pytest
import torch

from tests.model_makers import LARGE, make_module, make_whitening
from tests.slider_makers import IMAGES, slider_models, slider_report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    modules, images = slider_models(), torch.rand(IMAGES, 3, 32, 32)
    path = tmp_path_factory.mktemp("sliders") / "index.html"
    path.write_text(slider_report(modules, images).html(), encoding="utf-8")
    return modules, images, path.as_uri()


def moved(panel, moves):
    """Move sliders in turn to shares of their range, as a hand would; return what is set and the logits, each time."""
    told = panel.evaluate(
        """(panel, moves) => moves.map(([name, share]) => {
          const rows = [...panel.querySelectorAll(".unit")];
          const slider = rows.find((row) => row.querySelector(".name").textContent === name).querySelector("input");
          slider.value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
          slider.dispatchEvent(new Event("input"));
          return [panel.querySelector(".call").textContent, panel.dataset.logits];
        })""",
        moves,
    )
    return [(values_in(call), torch.tensor(json.loads(logits)).double()) for call, logits in told]


def values_in(call):
    """What the page says was set, as a dict."""
    return json.loads(call.removeprefix("prediction.intervene(").removesuffix(")")) if call else {}


def panels_of(page, name):
    """Show a family, and return its panels once they are alive."""
    family = page.query_selector(f'#units .family[data-family="{name.replace("_", "-")}"]')
    page.query_selector(f"#{family.get_attribute('aria-labelledby')}").click()
    found = family.query_selector_all(".panel")
    for panel in found:
        panel.scroll_into_view_if_needed()
        page.wait_for_function("(panel) => panel.dataset.logits", arg=panel)
    return found


@pytest.mark.slow
def test_sliders_do_what_intervene_does(made, open_page):
    modules, images, address = made
    page = open_page(address)
    for name, module in modules.items():
        panels = panels_of(page, name)
        assert len(panels) == IMAGES
        for number, panel in enumerate(panels):
            prediction = module.predict(images[int(panel.get_attribute("data-image"))].unsqueeze(0))
            names = panel.evaluate(_NAMES)
            assert len(names) == sum(map(bool, module.network.sliders(prediction.units).asked))
            shares = [share if number else 1 - share for share in (0.3, 0.72, 1.0, 0.0, 0.55)]
            steps = moved(panel, list(zip(names, shares, strict=False)))
            panel.query_selector(".reset").click()
            steps.append(({}, torch.tensor(json.loads(panel.get_attribute("data-logits"))).double()))
            for values, logits in steps:
                wanted = (prediction.intervene(values) if values else prediction).logits[0].double()
                said = f"{name}, {values}: {logits.tolist()}, wanted {wanted.tolist()}"
                torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5, msg=said)
            assert [len(values) > 0 for values, _ in steps] == [True] * (len(steps) - 1) + [False]


_NAMES = """(panel) => [...panel.querySelectorAll(".unit:has(input)")]
  .map((row) => row.querySelector(".name").textContent)"""


def test_a_one_clears_its_siblings_and_a_half_lets_them_be(made, open_page):
    page = open_page(made[2])
    panel = panels_of(page, "probabilities")[0]

    def said(name):
        row = next(
            row for row in panel.query_selector_all(".unit") if row.query_selector(".name").text_content() == name
        )
        return row.query_selector(".value").text_content(), row.get_attribute("class").split()[1:]

    before = {name: said(name) for name in ("wing::red", "wing::blue", "wing::green", "flies")}
    moved(panel, [("wing::red", 1)])
    assert said("wing::red") == ("1.00", ["changed"])
    assert [said(name)[0] for name in ("wing::blue", "wing::green")] == ["0.00", "0.00"]
    assert said("flies") == before["flies"]
    ((values, _),) = moved(panel, [("wing::blue", 0.25)])  # what is set adds up to 1 at most: the other gives way
    assert values == {"wing::red": 0.75, "wing::blue": 0.25}
    assert said("wing::green") == before["wing::green"]
    assert moved(panel, [("wing::blue", 1)])[0][0] == {"wing::blue": 1}
    panel.query_selector(".reset").click()
    assert {name: said(name) for name in before} == before
    slider = panel.query_selector(".unit:has(input) input[aria-label=flies]")
    slider.focus()
    place = float(slider.input_value())
    page.keyboard.press("ArrowLeft" if place > 0.5 else "ArrowRight")
    after = values_in(panel.query_selector(".call").text_content())["flies"]
    assert 0.005 < abs(after - place) < 0.1
    best = panel.query_selector(".classes > div")
    assert panel.query_selector("[role=status]").text_content() == " ".join(
        part.text_content() for part in best.query_selector_all("span")
    )


def test_probabilities_are_those_of_the_network(made, open_page):
    modules, images, address = made
    page = open_page(address)
    for name in ("probabilities", "pipnet"):
        panel = panels_of(page, name)[1]
        ((values, _),) = moved(panel, [(panel.query_selector(".unit .name").text_content(), 0.9)])
        prediction = modules[name].predict(images[int(panel.get_attribute("data-image"))].unsqueeze(0))
        share = float(prediction.intervene(values).probabilities.max())
        assert panel.query_selector(".classes .share").text_content() == f"{100 * share:.1f} %"


def test_a_factor_is_no_similarity_and_a_share_is_not_cut(made, open_page):
    page = open_page(made[2], viewport={"width": 390, "height": 800})
    panel = panels_of(page, "pipnet")[0]
    row = panel.query_selector(".unit:has(input)")
    moved(panel, [(row.query_selector(".name").text_content(), 0.75)])
    assert row.query_selector(".value").text_content() == "\N{MULTIPLICATION SIGN} 1.50"
    share = panel.query_selector(".classes .share")
    assert share.evaluate("cell => { cell.textContent = '100.0 %'; return cell.scrollWidth <= cell.clientWidth; }")


def test_a_finger_that_scrolls_the_page_sets_nothing(made, open_page, swipe):
    page = open_page(made[2], viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    panel = panels_of(page, "probabilities")[0]
    slider = panel.query_selector("input[type=range]")
    stood, logits, at_first = slider.input_value(), panel.get_attribute("data-logits"), page.evaluate("scrollY")
    swipe(page, slider, 0.6, 3, -180)
    assert page.evaluate("scrollY") != at_first
    assert panel.query_selector(".call").text_content() == ""
    assert (slider.input_value(), panel.get_attribute("data-logits")) == (stood, logits)
    swipe(page, slider, 0.3, 60, 2)
    assert len(values_in(panel.query_selector(".call").text_content())) == 1


def test_where_setting_takes_the_network_the_page_says_so(open_page, tmp_path):
    modules = {"mlp": make_module(LARGE, head="mlp"), "axes": make_whitening(LARGE)}
    (tmp_path / "index.html").write_text(slider_report(modules, torch.rand(2, 3, 32, 32)).html(), encoding="utf-8")
    page = open_page((tmp_path / "index.html").as_uri())
    assert page.query_selector_all("#units input[type=range]") == []
    said = page.text_content("#units")
    assert "No sliders: the head has a hidden layer: what setting a concept does, it alone tells." in said
    assert "No sliders: layers of the network follow the axes: what setting one does, they alone tell." in said
