"""A model card in a browser: nothing is asked of anybody, it fits a telephone, and all links lead somewhere."""

import pytest

from tests.card_makers import add_test, digest_of, make_card_run, make_report
from tests.command import ibd


@pytest.fixture(scope="module")
def page_of_a_card(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "insects" / "1"
    make_card_run(run)
    add_test(run)
    make_report(run.parent / "report", run, digest_of(run))
    assert ibd("card", run, "--compare", run.parent / "report", "--eu").code == 0
    return (run / "card.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_a_card(open_page, page_of_a_card, width, scheme):
    asked = []
    page = open_page(page_of_a_card, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("request", lambda request: asked.append(request.url))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("img").count() == 0  # a class is called <img ...>
    assert page.get_by_text("<img src=").count() > 3
    dead = "[...document.querySelectorAll('a')].filter(a => !document.querySelector(a.getAttribute('href'))).length"
    assert page.evaluate(dead) == 0
    colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    dark = colors[1] != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.get_by_role("link", name="Quantitative Analyses", exact=True).click()
    assert page.url.endswith("#analyses")
    assert asked == []
