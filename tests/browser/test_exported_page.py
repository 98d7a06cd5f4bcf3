"""A page that `ibd export --page` wrote, opened as a file in Chromium: the same numbers as in Python."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import ibd as package
from ibd.app.exporting import page as pages
from ibd.app.exporting.runtime import find_runtime
from ibd.data.fitting import fit_image
from ibd.errors import UnsupportedError
from ibd.explain.targets import Target
from ibd.models.calibration.calibration import Calibration
from ibd.models.calibration.scaling import Scaling
from tests.exported_models import MAKERS
from tests.model_makers import LARGE, make_module, make_stochastic_module, make_whitening

pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

FAMILIES = {
    **MAKERS,
    "cbm": lambda: make_module(LARGE),
    "scbm": make_stochastic_module,
    "scbm by confidence": lambda: make_stochastic_module(placement="confidence"),
    "of logits": lambda: make_module(LARGE, bottleneck="logits"),
    "beyond its percentiles": lambda: narrowed(make_whitening()),
    "ranked by its calibration": lambda: ranked_anew(make_module(LARGE)),
}


def ranked_anew(module):
    """Return a model with a calibration that makes the class of the lowest logit the most probable one."""
    lift = (20.0, 0.0, 0.0)  # of images of noise, the first class is last
    module.calibration = Calibration("val", True, 1, Scaling("vector", (1.0,) * 3, lift, 10))
    return module


def narrowed(module):
    """Return a model all of whose percentiles are 0."""
    module.network.low.fill_(0.0)
    module.network.high.fill_(0.0)
    return module


@pytest.fixture(scope="session")
def engine():
    """What runs models in a browser, as npm fetches it, once."""
    try:
        return find_runtime(None)
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def written(engine, tmp_path_factory):
    """Return a function: name of a family -> the model, and the address of its page; each once."""
    known = {}

    def write(name):
        if name not in known:
            module, folder = FAMILIES[name](), tmp_path_factory.mktemp("page") / "model page"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pages, "find_runtime", lambda path: engine)
                lines = list(pages.write_page(module, folder))
            assert lines[0].startswith("page: ")
            known[name] = module, folder
        return known[name]

    return write


@pytest.fixture
def opened(written, open_page, tmp_path):
    """Return a function: family, (width, height) of an image -> the model, the file, the page that has read it."""

    def show(name, size=None, **options):
        module, folder = written(name)
        width, height = size or module.spec.image_size[::-1]
        pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "seen.png")
        page = open_page((folder / "index.html").as_uri(), **options)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        page.set_input_files("#file", tmp_path / "seen.png")
        answer(page, 1)
        return module, tmp_path / "seen.png", page

    return show


def answer(page, number):
    """Wait for an answer of the page, counted from 1."""
    page.wait_for_function(f"Number(document.body.dataset.answers) >= {number}", timeout=30_000)


def close(value, expected):
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(torch.tensor(value, dtype=expected.dtype), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_says_what_python_says(name, opened):
    module, file, page = opened(name)
    before = module.predict(file)
    close(page.evaluate("ibdPage.state.before.logits"), before.logits[0])
    close(page.evaluate("[...ibdPage.state.read.values.data]"), before.unit_values[0])
    shown = page.evaluate("[...(ibdPage.shown() ?? [])]")
    if shown:
        image = module.read_images([file])
        close(shown, package.explain.Intrinsic()(module, image, Target.cls(int(before.labels[0]))).map.flatten())
    name = module.network.unit_names[1]
    field = page.get_by_label(f"{name}, as a number").or_(page.get_by_label(f"{name}, times, as a number"))
    if not field.count():
        assert module.network.dependent  # by confidence: no graph can
        assert "confidence" in page.inner_text("#note")
        return
    field.fill("0.5")
    field.press("Tab")
    answer(page, 2)
    after = before.intervene({name: 0.5})
    close(page.evaluate("ibdPage.state.after.logits"), after.logits[0])
    close(page.evaluate("[...ibdPage.state.after.units.values.data]"), after.unit_values[0])
    assert (
        f"{module.spec.class_names[int(after.labels[0])]}, {100 * float(after.probabilities[0].max()):.1f} %"
        in (page.inner_text("#said").split("With your values: ")[1])
    )
    assert page.inner_text("#command") == f"ibd intervene RUN 'seen.png' '{name}=0.5'"


def test_the_class_is_the_most_probable_one(opened):
    """Where a calibration ranks classes otherwise than the logits do."""
    module, file, page = opened("ranked by its calibration")
    prediction = module.predict(file)
    assert int(prediction.labels[0]) != int(prediction.logits[0].argmax())
    assert page.inner_text("#said").startswith(f"{module.spec.class_names[int(prediction.labels[0])]}, ")
    assert page.locator("#ranking tr").first.inner_text().startswith(module.spec.class_names[0])


@pytest.mark.parametrize("size", [(90, 70), (31, 45), (20, 20), (500, 40)])
def test_an_image_of_another_size(size, opened):
    module, file, page = opened("cbm", size)
    close(page.evaluate("ibdPage.state.before.logits"), module.predict(file).logits[0])


def test_every_way_to_another_size_is_that_of_python(opened):
    """To the bit where PyTorch resizes bytes; elsewhere it rounds once less."""
    _, _, page = opened("cbm")
    source = np.random.default_rng(0)
    for (h, w), size, way in (
        ((64, 90), (32, 32), "crop"),
        ((90, 64), (32, 48), "crop"),
        ((33, 90), (32, 32), "pad"),
        ((90, 31), (32, 40), "pad"),
        ((17, 23), (32, 32), "squash"),
        ((200, 7), (32, 32), "squash"),
        ((45, 45), (30, 30), "crop"),
        ((32, 32), (32, 32), "pad"),
    ):
        planes = source.integers(0, 256, (3, h, w), dtype=np.uint8)
        given = {"planes": planes.reshape(3, -1).tolist(), "h": h, "w": w, "size": size, "way": way}
        made = page.evaluate(
            """given => {
                const image = {...given, planes: given.planes.map(plane => Uint8Array.from(plane))};
                return ibdResize.fit(image, given.size, given.way).planes.map(plane => [...plane]);
            }""",
            given,
        )
        expected = fit_image(torch.from_numpy(planes), size, way)
        difference = torch.tensor(made).view(3, *size) - expected.long()
        assert int(difference.abs().max()) <= 1, (h, w, size, way)
        assert float(difference.abs().float().mean()) < 0.01, (h, w, size, way)


def test_groups_undo_and_reset(opened):
    module, file, page = opened("cbm")
    before = module.predict(file)
    page.get_by_label("Which wing?").select_option("blue")
    answer(page, 2)
    close(page.evaluate("ibdPage.state.after.logits"), before.intervene({"wing": "blue"}).logits[0])
    page.get_by_role("button", name="wing::red: yes", exact=True).click()  # what was set before gives way
    answer(page, 3)
    close(page.evaluate("ibdPage.state.after.logits"), before.intervene({"wing": "red"}).logits[0])
    page.get_by_label("wing::green, as a number").fill("0.5")
    page.get_by_label("wing::green, as a number").press("Tab")
    answer(page, 4)
    close(page.evaluate("ibdPage.state.after.logits"), before.intervene({"wing::green": 0.5}).logits[0])
    page.get_by_role("button", name="Undo").click()
    answer(page, 5)
    close(page.evaluate("ibdPage.state.after.logits"), before.intervene({"wing": "red"}).logits[0])
    page.get_by_label("Which wing?").select_option("none of them")
    answer(page, 6)
    none = before.intervene({"wing::red": 0, "wing::blue": 0, "wing::green": 0})
    close(page.evaluate("ibdPage.state.after.logits"), none.logits[0])
    page.get_by_role("button", name="As read again").click()
    answer(page, 7)
    close(page.evaluate("ibdPage.state.after.logits"), before.logits[0])


def test_the_numbers_of_a_line_are_explained(opened):
    """Of which class the contributions are, also after it changed; and why a concept set to 0.9 is shown as another."""
    module, file, page = opened("of logits")
    before = module.predict(file)
    assert "95th and 5th percentile" in page.inner_text("#note")
    told, seen = {}, {page.inner_text("#account")}
    for number, name in enumerate(module.network.unit_names, start=2):
        page.get_by_role("button", name=f"{name}: no", exact=True).click()
        answer(page, number)
        told[name] = 0
        label = module.spec.class_names[int(before.intervene(told).labels[0])]
        seen.add(page.inner_text("#account"))
        assert page.inner_text("#account").endswith(f"adds to the logit of {label}.")
    assert len(seen) > 1  # the class did change


def test_sliders_of_a_bottleneck_of_logits_stand_where_nothing_changes(opened):
    """A truth value is a place between percentiles there: at the probability, the first touch would let them jump."""
    module, file, page = opened("of logits")
    low, high, scores = module.network.low, module.network.high, module.predict(file).units.scores[0]
    places = ((scores - low) / (high - low)).clamp(0, 1).tolist()
    assert any(abs(place - float(score.sigmoid())) > 0.05 for place, score in zip(places, scores, strict=True))
    sliders = [page.get_by_role("slider", name=name, exact=True) for name in module.network.unit_names]
    for slider, place in zip(sliders, places, strict=True):
        assert abs(float(slider.input_value()) - place) < 0.006
    sliders[0].focus()
    page.keyboard.press("Home")
    answer(page, 2)
    assert float(sliders[0].input_value()) == 0


def test_sliders_reach_to_what_was_read(opened):
    """Their ends are percentiles of training images, and an image may lie beyond."""
    module, file, page = opened("beyond its percentiles")
    values, sliders = module.predict(file).unit_values[0], page.locator(".unit input[type=range]")
    assert sliders.count() == len(values)
    for unit, value in enumerate(values.tolist()):
        assert abs(float(sliders.nth(unit).input_value()) - value) < 1e-4


def test_a_drag_is_one_step_of_undo(opened):
    module, file, page = opened("cbm")
    slider = page.get_by_role("slider", name="flies", exact=True)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    for shares in ((0.2, 0.3, 0.4, 0.5), (0.6, 0.7, 0.8)):  # two drags of the same slider
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()
        for share in shares:
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        page.mouse.up()
    assert page.evaluate("ibdPage.state.set.size") == 1
    page.get_by_role("button", name="Undo").click()
    assert abs(page.evaluate("[...ibdPage.state.set.values()][0]") - 0.5) < 0.05
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("#undo:disabled")
    close(page.evaluate("ibdPage.state.after.logits"), module.predict(file).logits[0])


def test_a_finger_that_scrolls_the_page_sets_nothing(opened, swipe):
    _, _, page = opened("cbm", viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    slider = page.get_by_role("slider", name="flies", exact=True)
    stood = slider.input_value()
    slider.scroll_into_view_if_needed()
    at_first = page.evaluate("scrollY")
    swipe(page, slider, 0.6, 3, 180)
    assert page.evaluate("scrollY") != at_first
    page.wait_for_selector("#undo:disabled")
    assert page.evaluate("ibdPage.state.set.size") == 0
    assert slider.input_value() == stood
    swipe(page, slider, 0.3, 60, 2)
    assert page.evaluate("[...ibdPage.state.set.values()]") == [float(slider.input_value())]


def test_by_keyboard_on_a_telephone_in_the_dark(opened):
    module, file, page = opened("cbm", viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("slider", name="flies", exact=True).focus()
    page.keyboard.press("End")
    answer(page, 2)
    close(page.evaluate("ibdPage.state.after.logits"), module.predict(file).intervene({"flies": 1}).logits[0])
    assert page.get_attribute("#heat", "data-of") == "flies"  # its map, while the keyboard is there
    page.get_by_label("Search").fill("SIZE")
    assert page.locator(".unit[role=group]").count() == 2


def test_what_is_saved(opened):
    module, file, page = opened("cbm")
    page.get_by_role("button", name="flies: no", exact=True).click()
    answer(page, 2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    saved = json.loads(download.value.path().read_text())
    assert saved["set"] == {"flies": 0}
    close(saved["with_your_values"]["logits"], module.predict(file).intervene({"flies": 0}).logits[0])


def test_a_file_that_is_no_image(opened, tmp_path):
    (tmp_path / "<b>none.png").write_text("nothing")
    _, _, page = opened("cbm")
    page.set_input_files("#file", tmp_path / "<b>none.png")
    page.wait_for_selector("#said.wrong")
    assert page.inner_text("#said") == "<b>none.png is no image that this browser can read."


def test_an_image_that_is_too_large(opened):
    _, _, page = opened("cbm")
    page.evaluate("window.createImageBitmap = async () => ({ width: 30000, height: 12000 })")
    page.evaluate("ibdPage.take(new File([], 'seen.png'))")
    assert page.inner_text("#said").startswith("seen.png has 30000 x 12000 pixels, and this page reads up to 100 mill")


def test_of_two_images_the_later_one_stays(opened):
    """Also if the first takes longer to read."""
    _, _, page = opened("cbm")
    shown = page.evaluate(
        """async () => {
            const decode = createImageBitmap, waiting = Promise.withResolvers();
            window.createImageBitmap = async (file, options) => {
                if (file.name === "first.png") await waiting.promise;
                return await decode(file, options);
            };
            const pixels = await new Promise((made) => document.createElement("canvas").toBlob(made));
            const [first, second] = ["first.png", "second.png"].map((name) => ibdPage.take(new File([pixels], name)));
            await second;
            waiting.resolve();
            await first;
            return ibdPage.state.file;
        }"""
    )
    assert shown == "second.png"
    assert page.inner_text("#caption").startswith("second.png, ")


def test_a_value_that_no_unit_can_take_is_undone(opened):
    module, file, page = opened("baseline")
    field = page.get_by_label(f"{module.network.unit_names[1]}, as a number")
    field.fill("1e60")
    field.press("Tab")
    page.wait_for_selector("#said.wrong")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("#said:not(.wrong)")
    close(page.evaluate("ibdPage.state.after.logits"), module.predict(file).logits[0])


def test_what_lies_in_the_folder(written, engine):
    _, folder = written("cbm")
    assert engine.version in (folder / "runtime" / "LICENSE").read_text()
    assert "MIT License" in (folder / "runtime" / "LICENSE").read_text()
    assert "Copyright (c) Microsoft Corporation" in (folder / "runtime" / "LICENSE").read_text()
    assert not [file for file in folder.rglob("*") if file.name.startswith(".")]
