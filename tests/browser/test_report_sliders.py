"""Sliders of a report against `Prediction.intervene`: the same logits, whatever the rule of the family."""

import json

import pytest
import torch

from tests.slider_makers import IMAGES, slider_models, slider_report

KINDS = list(slider_models())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    modules, images = slider_models(), torch.rand(IMAGES, 3, 32, 32)
    path = tmp_path_factory.mktemp("sliders") / "index.html"
    path.write_text(slider_report(modules, images).html(), encoding="utf-8")
    return modules, images, path.as_uri()


@pytest.fixture
def page(made, open_page):
    return open_page(made[2])


def set_slider(panel, name, share):
    """Move a slider to a share of its range, as a hand would."""
    panel.evaluate(
        """(panel, [name, share]) => {
          const rows = [...panel.querySelectorAll(".unit")];
          const slider = rows.find((row) => row.querySelector(".name").textContent === name).querySelector("input");
          slider.value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
          slider.dispatchEvent(new Event("input"));
        }""",
        [name, share],
    )


def panels_of(page, name):
    """Show a family, and return its panels once they are alive."""
    family = page.query_selector(f'#units .family[data-family="{name.replace("_", "-")}"]')
    page.query_selector(f"#{family.get_attribute('aria-labelledby')}").click()
    found = family.query_selector_all(".panel")
    for panel in found:
        panel.scroll_into_view_if_needed()
        page.wait_for_function("(panel) => panel.dataset.logits", arg=panel)
    return found


def told(panel):
    """What the page says was set, as a dict."""
    call = panel.query_selector(".call").text_content()
    return json.loads(call.removeprefix("prediction.intervene(").removesuffix(")")) if call else {}


def same(modules, images, name, panel):
    """Whether the page's logits are those of Python with the same values set."""
    prediction = modules[name].predict(images[int(panel.get_attribute("data-image"))].unsqueeze(0))
    values = told(panel)
    wanted = (prediction.intervene(values) if values else prediction).logits[0].double()
    found = torch.tensor(json.loads(panel.get_attribute("data-logits"))).double()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    return values


@pytest.mark.parametrize("name", KINDS)
def test_sliders_do_what_intervene_does(made, page, name):
    modules, images, _ = made
    panels = panels_of(page, name)
    assert len(panels) == IMAGES
    network = modules[name].network
    for number, panel in enumerate(panels):
        assert same(modules, images, name, panel) == {}
        names = [row.query_selector(".name").text_content() for row in panel.query_selector_all(".unit:has(input)")]
        for unit, share in zip(names, (0.3, 0.72, 1.0, 0.0, 0.55), strict=False):
            set_slider(panel, unit, share if number else 1 - share)
            values = same(modules, images, name, panel)
            assert unit in values
        assert set(values) <= set(network.unit_names)
        panel.query_selector(".reset").click()
        assert same(modules, images, name, panel) == {}
