"""Pages in a real Chromium: no test passes that wrote an error to the console, or asked a stranger for anything.

Nor one that ends on a page which says "null" where it has nothing to say.
"""

import re
import shutil
from urllib.parse import urlsplit

import pytest


@pytest.fixture(scope="session")
def chromium():
    """A Chromium: Playwright's own where it is installed, or that of the system (`make browser` fetches one)."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=30_000)  # as long as all other waits: machines may be busy
    with sync_api.sync_playwright() as playwright:
        system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        options = {"args": ["--no-sandbox"]}  # tests run as root in containers
        try:
            browser = playwright.chromium.launch(**options)
        except sync_api.Error:
            if system is None:
                pytest.skip("no Chromium: `make browser` fetches one")
            browser = playwright.chromium.launch(executable_path=system, **options)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Return a function that opens an address in a context of its own, as another person would.

    Keywords are those of ``browser.new_context``, such as ``viewport={"width": 390, "height": 800}``.
    """
    contexts, wrong = [], []

    def open_page(address, **options):
        context = chromium.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(f"console: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        home = urlsplit(address)

        def asked(request):
            there = urlsplit(request.url)
            if there.scheme in ("http", "https", "ws", "wss") and there.netloc != home.netloc:
                wrong.append(f"asked a stranger: {request.url}")

        page.on("request", asked)
        page.wrong = wrong  # a test of a mistake takes out what it expects
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            wrong += re.findall(r"\bnull\b|\bNaN\b|\[object ", page.inner_text("body"))
        context.close()
    assert not wrong, wrong


@pytest.fixture
def swipe():
    """Return a function: draw a finger over a page, from a share of an element's width, by (right, down) pixels."""

    def swipe(page, element, share, right, down):
        finger = page.context.new_cdp_session(page)
        element.scroll_into_view_if_needed()
        box = element.bounding_box()
        x, y = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        for kind, step in [("touchStart", 0), *(("touchMove", step) for step in range(1, 20)), ("touchEnd", None)]:
            points = [] if step is None else [{"x": x + right * step / 19, "y": y + down * step / 19}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.wait_for_timeout(10)

    return swipe
