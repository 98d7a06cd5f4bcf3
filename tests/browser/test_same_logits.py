"""One image and one correction, asked everywhere: `ibd intervene`, Python, the page, a report, an exported file."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ibd.models.loading import load_network
from tests.command import QUIET, ROOT, fitted, ibd
from tests.data_makers import make_concept_folder
from tests.exported_models import Deployed

pytest.importorskip("uvicorn")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.slow

SIZE = (32, 48)
SMALL = (
    *QUIET,
    "logger.figures_every=0",
    f"data.image_size=[{SIZE[0]},{SIZE[1]}]",
    "data.num_workers=0",
    "model.backbone={name: small_cnn, width: 4, depth: 3, weights: null}",
)
FAMILIES = {
    "cbm": ("cbm", "trainer.max_epochs=2"),
    "scbm": ("cbm", "model.name=scbm", "model.imbalance=null", "trainer.max_epochs=2"),
    "protopnet": (
        *("protopnet", "model.per_class=2", "model.dimension=8", "model.warm.epochs=1", "model.joint.epochs=1"),
        *("model.push={start: 0, every: 1}", "model.prune=null"),
    ),
}
MOVES = {  # what a hand does in the report: units, and where in their range their sliders go
    "cbm": (("legs::two", 1.0), ("flies", 0.27)),
    "scbm": (("legs::two", 1.0), ("flies", 0.27)),
    "protopnet": (("prototype 1", 0.9), ("prototype 4", 0.05)),
}


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, tmp_path_factory):
    """Return a family, its trained run, and the folder of its images."""
    folder = tmp_path_factory.mktemp(request.param)
    images = make_concept_folder(folder / "images", train=8, val=3, test=4, size=SIZE)
    config, *changes = FAMILIES[request.param]
    path = ROOT / "configs" / "folder" / f"{config}.yaml"
    return request.param, fitted(path, *SMALL, *changes, f"data.root={images}", f"output={folder / 'runs'}"), images


def test_the_logits_are_the_same(trained, open_page, tmp_path, monkeypatch):
    family, run, images = trained
    monkeypatch.chdir(tmp_path)
    edits, position, found = in_the_report(run, MOVES[family], open_page)
    file = images / ids(tmp_path / "report")[position]
    said = {"report": found, "python": in_python(run, file, edits), "ibd intervene": by_command(run, file, edits)}
    said |= {"page": on_the_page(run, file, edits, open_page), "ONNX": exported(run, file, edits)}
    plain = torch.stack([before for before, _ in said.values()])
    corrected = torch.stack([after for _, after in said.values()])
    assert float((corrected - plain).abs().amax(1).min()) > 1e-3  # the correction does something everywhere
    for values in (plain, corrected):
        apart = values.amax(0) - values.amin(0)
        assert float(apart.max()) <= 1e-5, {name: row.tolist() for name, row in zip(said, values, strict=True)}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def in_the_report(run, moves, open_page):
    """Move sliders of an image in the report; return what was set, where the image is, and the logits."""
    asked = ("explainers=intrinsic,gradcam", "metrics=deletion", "images=12", "probe_images=1", "progress=false")
    answer = ibd("compare", run, *asked, "--out", "report")
    assert answer.code == 0, answer.err
    page = open_page((Path.cwd() / "report" / "index.html").as_uri())
    panel = page.locator("#units .panel.live").first
    panel.scroll_into_view_if_needed()
    expect(panel).to_have_attribute("data-logits", re.compile(r"\[.+\]"))
    before = json.loads(panel.get_attribute("data-logits"))
    for name, share in moves:
        slider = panel.locator(".unit", has=page.get_by_text(name, exact=True)).locator("input")
        slider.evaluate(
            """(slider, share) => {
              slider.value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
              slider.dispatchEvent(new Event("input"));
            }""",
            share,
        )
    call = panel.locator(".call").text_content()
    edits = json.loads(call.removeprefix("prediction.intervene(").removesuffix(")"))
    assert list(edits) == [name for name, _ in moves]
    after = json.loads(panel.get_attribute("data-logits"))
    return edits, int(panel.get_attribute("data-image")), (tensor(before), tensor(after))


def ids(report):
    """Return the images of a report by their places, as its table names them."""
    with (report / "scores.csv").open(encoding="utf-8", newline="") as table:
        return list(dict.fromkeys(row["image"] for row in csv.DictReader(table)))


def in_python(run, file, edits):
    before = load_network(run).predict(file)
    return before.logits[0].double(), before.intervene(edits).logits[0].double()


def by_command(run, file, edits):
    words = [f"{name}={value!r}" for name, value in edits.items()]
    answer = ibd("intervene", run, file, *words, "-o", "corrected.json")
    assert answer.code == 0, answer.err
    return both(json.loads(Path("corrected.json").read_text(encoding="utf-8")))


def both(record):
    return tensor(record["before"]["logits"]), tensor(record["after"]["logits"])


def on_the_page(run, file, edits, open_page):
    """Bring the image to the page of `ibd serve`, set units there, and take the result along."""
    from tests.page_server import serving

    with serving(run) as address:
        page = open_page(address)
        page.locator("#file").set_input_files(file)
        expect(page.locator(".headline strong")).to_be_visible()
        for name, value in edits.items():
            page.get_by_label(f"{name}: exact value", exact=True).fill(repr(value))
            page.keyboard.press("Tab")
            expect(page.locator(".downloads pre").first).to_contain_text(f"{name}={value!r}")
        with page.expect_download() as download:
            page.locator(".downloads").get_by_role("button", name="JSON", exact=True).click()
        record = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert record["edits"] == edits
    return both(record)


def exported(run, file, edits):
    answer = ibd("export", run, "model.onnx", "--parts", "encode,edit,decode")
    assert answer.code == 0, answer.err
    files = Deployed({name: Path.cwd() / f"model.{name}.onnx" for name in ("encode", "edit", "decode")})
    pixels = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255
    units = files.run("encode", {"image": pixels.transpose(2, 0, 1)[None]})
    made = [files.run("decode", each)["logits"][0] for each in (units, files.intervene(units, edits))]
    return tuple(torch.from_numpy(logits).double() for logits in made)
