"""The model mode in a browser: prototypes edited and saved as a new run, names, the weights, small and dark."""

import csv
import functools
import re

import pytest
import torch

from ibd.config import save_config
from ibd.config.loading import load_config
from ibd.io import build_data, load_model, load_run
from ibd.models.protopnet.editing import right_images
from tests.command import QUIET, SMALL, TINY, fitted
from tests.model_makers import make_embedding, make_module, make_pipnet, make_posthoc, make_whitening

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

UNNAMED = """() => [...document.querySelectorAll('main input, main select, main button, main a')].filter((element) =>
    !(element.labels?.length || element.innerText?.trim() || element.getAttribute('aria-label')
      || element.querySelector('img[alt]'))).length"""
"""How many things that can be used have no name for who does not see them."""
PROTOS = """
name: protos
model: {name: protopnet, per_class: 2, dimension: 8, distance: cosine, activation: linear,
        backbone: {name: small_cnn, width: 8, depth: 3}, warm: {epochs: 1}, joint: {epochs: 3}}
data: {name: toybirds, preset: tiny, train_size: 96, val_size: 33, test_size: 33, batch_size: 32}
"""


@functools.cache
def config():
    return load_config(TINY, *SMALL)


@functools.cache
def spec():
    return build_data(config().data).spec


def untrained(folder, make, **options):
    """Write a run of a random model on small birds, as if it had been trained."""
    make(spec(), **options).save(folder / "checkpoints" / "best.ckpt")
    save_config(config(), folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def protos(tmp_path_factory):
    """A prototype network that has learnt a little."""
    file = tmp_path_factory.mktemp("config") / "protos.yaml"
    file.write_text(PROTOS)
    return fitted(file, *QUIET, "logger.figures_every=0", f"output={tmp_path_factory.mktemp('runs')}")


@pytest.fixture(scope="module")
def runs(protos, tmp_path_factory):
    """A run of each family, by its key."""
    folder = tmp_path_factory.mktemp("families")
    made = {
        "found": untrained(folder / "found" / "2026-01-01_00-00-00", functools.partial(make_posthoc, truth=False)),
        "parts": untrained(folder / "parts", make_pipnet),
        "cbm": untrained(folder / "cbm", make_module),
        "cem": untrained(folder / "cem", make_embedding),
        "axes": untrained(folder / "axes", make_whitening, backbone={"name": "small_cnn", "width": 8, "depth": 3}),
    }
    return {"protos": protos, **made}


@pytest.fixture(scope="module")
def address(runs):
    from tests.page_server import serving

    with serving(*runs.values()) as address:
        yield address


@pytest.fixture
def look(address, open_page):
    """A function that opens the model mode of a run."""

    def look(run, view="", **options):
        return open_page(f"{address}#/{run}/model{view}", **options)

    return look


def cards(page):
    return page.locator(".card h3").all_inner_texts()


def loaded(page, what=".card img"):
    page.wait_for_selector(what)
    page.wait_for_function("() => !document.querySelector('.waiting')")
    return page


def test_the_gallery_shows_the_patches_and_is_searched(look, protos):
    page, model = loaded(look("protos"), ".card .cut"), load_model(protos)
    assert cards(page) == model.network.unit_names
    owners = page.locator(".card .owner").all_inner_texts()
    assert owners == [model.network.class_names[int(owner)] for owner in model.network.classes]
    source = model.sources()[3]
    shown = page.locator('.card[data-unit="3"] .whole img').get_attribute("src")
    assert shown.endswith(f"train%3A{source.index}")
    assert page.locator(".card img").evaluate_all(
        "all => all.every((one) => one.complete && one.naturalWidth > 0 || one.loading === 'lazy')"
    )
    weight = model.network.weight()[:, 3]
    facts = page.locator('.card[data-unit="3"] .facts').first.inner_text()
    assert f"counts {float(weight.max()):+.2f} for {model.network.class_names[int(weight.argmax())]}" in facts
    assert re.search(r"decides \d+ of 33 validation images", facts)
    page.get_by_label("Search prototypes").fill("prototype 3")
    assert cards(page) == ["prototype 3"]
    page.get_by_label("Search prototypes").fill("")
    page.get_by_label("Class").select_option(label=model.network.class_names[1])
    assert cards(page) == ["prototype 2", "prototype 3"]


def test_prototypes_are_edited_and_saved_as_a_new_run(look, protos):
    """Forget one, replace one by keys; a reload loses neither; the accuracies are those of the models themselves."""
    files = {path: path.read_bytes() for path in protos.rglob("*") if path.is_file()}
    page = loaded(look("protos"), ".card .cut")
    page.get_by_role("button", name="Forget prototype 1", exact=True).press("Enter")
    page.get_by_role("button", name="Replace prototype 4").press("Enter")
    page.wait_for_selector(".offered button")
    assert page.locator(".offered button").count() == 8
    now = load_model(protos).sources()[4]
    assert f"/train/{now.index}," not in page.locator(".offered").inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the third
    page.wait_for_selector("dialog:not([open])", state="attached")
    pending = page.locator(".pending").inner_text()
    assert "To do: forget 1, replace 1." in pending
    page.reload()
    loaded(page, ".card .cut")
    assert page.locator(".pending").inner_text() == pending
    assert page.locator('.card[data-unit="1"] .wish').inner_text() == "to be forgotten"
    page.get_by_role("button", name="Save as an edited model").click()
    page.wait_for_function("() => location.hash.includes('edit=')")
    page.reload()  # the work goes on, and its end is shown all the same
    page.wait_for_selector(".result h2", timeout=60_000)
    text = page.locator(".result").inner_text().replace("\xa0", " ")
    folder = re.search(r"Saved as (\S+)\.", text)[1]
    edited, data = load_run(folder)
    assert edited.network.mask.tolist() == [unit != 1 for unit in range(12)]
    before, after = (int(right_images(model, data).sum()) for model in (load_model(protos), edited))
    assert f"Accuracy before\t{100 * before / 33:.1f} %" in text
    assert f"Accuracy after\t{100 * after / 33:.1f} %" in text
    assert edited.sources()[4].index != load_model(protos).sources()[4].index
    assert float(edited.verify_projection(data).max()) <= 1e-5
    assert {path: path.read_bytes() for path in protos.rglob("*") if path.is_file()} == files
    assert not page.locator(".pending").is_visible()
    assert page.locator(".card .wish").count() == 0
    page.get_by_role("link", name="Open it").click()
    page.get_by_text("Edited from").wait_for()
    assert "forgot 1; replaced 4" in page.locator("main").inner_text()
    assert cards(page).count("prototype 1") == 0  # it is off


def test_a_class_keeps_a_prototype(look):
    page = loaded(look("protos"), ".card .cut")
    for unit in (0, 1):
        page.get_by_role("button", name=f"Forget prototype {unit}", exact=True).click()
    page.get_by_role("button", name="Save as an edited model").click()
    page.wait_for_selector("#alerts p")
    assert "would have no prototype left" in page.locator("#alerts").inner_text()
    page.wrong.clear()  # the browser notes that the server said no
    page.get_by_role("button", name="Drop all edits").click()
    assert page.locator(".card .wish").count() == 0


def test_channels_are_forgotten_without_a_last_layer(look, runs):
    page = loaded(look("parts"))
    assert page.get_by_role("button", name="Replace").count() == 0
    page.get_by_role("button", name="Forget prototype 2", exact=True).click()
    page.get_by_role("button", name="Save as an edited model").click()
    page.wait_for_selector(".result h2", timeout=60_000)
    folder = re.search(r"Saved as (\S+)\.", page.locator(".result").inner_text())[1]
    network, before = load_model(folder).network, load_model(runs["parts"]).network
    assert torch.equal(network.head.weight, before.head.weight)
    assert not network.weight()[:, 2].any()


def test_found_concepts_are_named(look, runs):
    page = loaded(look("found"))
    field = page.get_by_label(f"Name of {spec().concept_names[0]}", exact=True)
    field.fill("<b>stripes</b>")
    field.press("Enter")
    page.wait_for_function("() => document.querySelector('.card h3').textContent.startsWith('<b>stripes</b>')")
    assert page.locator(".card h3 b").count() == 0  # a name is text
    page.reload()
    loaded(page)
    assert cards(page)[0].startswith("<b>stripes</b>")
    with (runs["found"] / "names.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)][:2] == ["<b>stripes</b>", ""]
    other = page.get_by_label(f"Name of {spec().concept_names[1]}", exact=True)
    other.fill("<b>stripes</b>")
    other.press("Enter")
    page.wait_for_selector("#alerts p")
    assert "is what another concept is called" in page.locator("#alerts").inner_text()
    page.wrong.clear()
    page.get_by_role("button", name="Save as a new run with these names").click()
    page.get_by_text("Saved as").wait_for()
    folder = re.search(r"Saved as (\S+)\.", page.locator(".view").inner_text())[1]
    assert load_model(folder).network.unit_names[0] == "<b>stripes</b>"


def test_what_is_typed_is_not_lost_when_another_is_named(look):
    page = loaded(look("found"))
    name = lambda unit: page.get_by_label(f"Name of {spec().concept_names[unit]}", exact=True)  # noqa: E731
    name(2).fill("half a na")
    name(3).fill("wings")
    name(3).press("Enter")
    page.get_by_role("heading", name="wings").wait_for()
    assert name(2).input_value() == "half a na"
    assert name(3).input_value() == "wings"


def test_labelled_concepts_and_axes_have_examples_and_no_names(look):
    page = loaded(look("cbm"))
    assert page.locator(".naming").count() == 0
    assert page.locator('.card[data-unit="0"] .examples img').count() == 6
    page.evaluate("() => { location.hash = '#/axes/model'; }")
    page.get_by_text("stand for concepts").wait_for()
    loaded(page)
    named = page.locator(".naming").count()
    assert named == len(cards(page)) - len(spec().concept_names) or named == 0


def test_the_weights_are_sorted_and_searched(look, runs):
    page, network = look("cbm", "?view=weights"), load_model(runs["cbm"]).network
    page.wait_for_selector("table.weights")
    weight, name = network.linear_weight().detach(), network.class_names[2]
    page.get_by_role("button", name=f"Sort by {name}").press("Enter")
    page.wait_for_selector('th[aria-sort="descending"]')
    order = weight[2].argsort(descending=True).tolist()
    assert page.locator("table.weights tbody th").all_inner_texts() == [network.unit_names[unit] for unit in order]
    column = page.locator("table.weights tbody tr td:nth-child(4)").all_inner_texts()
    shown = [float(text.replace("−", "-")) for text in column]  # noqa: RUF001 - as the page writes it
    assert shown == pytest.approx(weight[2][order].tolist(), abs=0.0051)
    assert page.get_by_role("button", name=f"Sort by {name}").evaluate("one => one === document.activeElement")
    page.get_by_label("Search concepts").fill("beak")
    assert all("beak" in text for text in page.locator("table.weights tbody th").all_inner_texts())
    with page.expect_download() as download:
        page.get_by_role("link", name="Download (CSV)").click()
    rows = list(csv.reader(download.value.path().read_text().splitlines()))
    assert rows[0][1:] == network.class_names
    assert all("beak" in row[0] for row in rows[1:])


def test_a_head_that_is_not_linear_has_mean_contributions(look):
    page = look("cem", "?view=weights")
    page.wait_for_selector("table.weights")
    assert "mean over its validation images" in page.locator(".view").inner_text()


@pytest.mark.parametrize("view", ["", "?view=weights"])
def test_small_and_dark(look, view):
    page = look("protos", view, viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.wait_for_selector("table.weights" if view else ".card .cut")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(UNNAMED) == 0
