"""`ibd export RUN model.onnx`: every family in onnxruntime, as somebody uses it who has no part of this package."""

import copy
import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ibd as package
from ibd import registry
from ibd.app.exporting import export as exporting
from ibd.app.exporting.checking import check
from ibd.app.exporting.formats import run_onnx
from ibd.app.exporting.programs import Program, possible_parts
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.targets import Target
from ibd.models.baseline.lightning import Baseline
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.values import Scale
from ibd.types import Quantity
from tests.command import ibd
from tests.exported_models import MAKERS, MORE, Deployed
from tests.model_makers import SMALL, SPEC, make_module, make_stochastic_module

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
MEASURED = dataclasses.replace(
    SPEC,
    concept_names=(*SPEC.concept_names, "length"),
    concept_groups={**SPEC.concept_groups, "length": (6,)},
    quantities={"length": Quantity("mm", 20.0, 4.0)},
)
FAMILIES = {
    **MAKERS,
    **MORE,
    "scbm for all images": lambda: make_stochastic_module(rank=2),
    "scbm by percentiles": lambda: make_stochastic_module(placement="percentile"),
    "cbm with a quantity": lambda: make_module(MEASURED),
    "cbm of logits": lambda: make_module(bottleneck="logits"),
}
WHOLE = ("concept_whitening", "calibrated, with a rule of its own")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Return a function: name of a family -> the model, and its parts as exported; each once."""
    known = {}

    def make(name):
        if name not in known:
            module = FAMILIES[name]()
            folder = tmp_path_factory.mktemp("onnx")
            written = package.export(module, folder / "model.onnx", parts=possible_parts(module)[0])
            assert written.difference < 1e-5
            known[name] = module, Deployed(written.files)
        return known[name]

    return make


def close(value, expected):
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(torch.from_numpy(value), expected, rtol=0, atol=1e-5 * scale)


def corrections(names):
    """Return some corrections, each a mapping of names to values, by what a unit is set to."""
    able = [(name, kind) for name, kind in zip(names["unit_names"], names["edits"], strict=True) if kind != "none"]
    typical = {
        "truth": (1.0, 0.0, 0.25),
        "quantity": (26.0, 15.0, 20.0),
        "value": (0.0, 1.5, -2.0),
        "factor": (0, 2, 0.5),
    }
    for seed in range(3):
        yield {able[seed][0]: typical[able[seed][1]][seed]}
    yield {name: typical[kind][2] for name, kind in able[2:]}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_correction_gives_the_same(name, deployed):
    module, files = deployed(name)
    images = torch.rand(3, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(7))
    read = files.run("encode", {"image": images.numpy()})
    before = module.predict(images)
    close(read["values"], before.unit_values)
    close(files.run("decode", read)["logits"], before.logits)
    for edits in corrections(files.names):
        after, units = before.intervene(edits), files.intervene(read, edits)
        made = files.run("decode", units)
        close(made["logits"], after.logits)
        close(made["probabilities"], after.probabilities)
        close(units["values"], after.unit_values)
        assert units["edited"][:, [files.names["unit_names"].index(edit) for edit in edits]].all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cbm", "scbm", "cem", "protopnet", "concept_whitening"])
def test_corrections_one_after_the_other(name, deployed):
    module, files = deployed(name)
    image = torch.rand(1, 3, *module.spec.image_size)
    before, units = module.predict(image), files.run("encode", {"image": image.numpy()})
    for edits in list(corrections(files.names))[:3]:
        before, units = before.intervene(edits), files.intervene(units, edits)
    close(files.run("decode", units)["logits"], before.logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_account_is_that_of_the_intrinsic_explainer(name, deployed):
    module, files = deployed(name)
    if "explain" not in files.sessions:
        assert name in ("concept_whitening", "whitened several times")
        return
    images = torch.rand(2, 3, *module.spec.image_size)
    read = files.run("encode", {"image": images.numpy()})
    for index in range(len(module.spec.class_names)):
        found = files.run("explain", {**read, "class_index": np.full(2, index)})
        close(found["contributions"], module.predict(images).contributions[..., index])
        if "class_map" in found:
            close(found["class_map"], package.explain.Intrinsic()(module, images, Target.cls(index)).map)
        else:
            assert name == "cbm on a B-cos backbone"


@pytest.mark.slow
def test_the_python_of_the_page_runs(deployed, monkeypatch):
    """As it stands in docs/export.md, in the folder of the files."""
    module, files = deployed("cbm")
    monkeypatch.chdir(files.folder)
    package.export(module, "model.pt2")
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    first, second = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert "ibd" not in re.sub(r"ibd\.json", "", first + second)
    made = {}
    exec(compile(first, "export.md", "exec"), made)
    prediction = module.predict(torch.from_numpy(made["image"]))
    close(made["before"], prediction.probabilities[0])
    close(made["after"], prediction.intervene({0: 1}).probabilities[0])
    exec(compile(second, "export.md", "exec"), made)
    assert made["logits"].shape == (4, 3)


@pytest.mark.slow
def test_a_correction_worked_out_by_hand(deployed):
    """Every concept at 0.5, and a head that counts: red clears blue and green."""
    module, files = deployed("cbm")
    head = module.network.head
    scores = {"scores": np.zeros((1, 6), np.float32)}
    after = files.run("decode", files.intervene(scores, {"wing::red": 1}))["logits"]
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    np.testing.assert_allclose(after[0], bias + weight @ [1, 0, 0, 0.5, 0.5, 0.5], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "edits", [{"flies": 1.5}, {"flies": -0.1}, {"wing::red": 0.7, "wing::blue": 0.7}, {"flies": np.nan}]
)
def test_what_python_refuses_is_no_number(edits, deployed):
    module, files = deployed("cbm")
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(ConfigError):
        module.predict(images).intervene(edits)
    after = files.run("decode", files.intervene(files.run("encode", {"image": images.numpy()}), edits))
    assert np.isnan(after["logits"]).all()


@pytest.mark.slow
def test_one_image_of_several_with_values_of_their_own(deployed):
    module, files = deployed("cbm")
    images = torch.rand(2, 3, 16, 16)
    column = torch.tensor([0.0, 1.0])
    units = files.intervene(files.run("encode", {"image": images.numpy()}), {"flies": column.numpy()})
    close(files.run("decode", units)["logits"], module.predict(images).intervene({"flies": column}).logits)


@pytest.mark.slow
def test_a_factor_is_a_value_times_what_is_there(deployed):
    module, files = deployed("interpretable_cnn")
    images = torch.rand(2, 3, 16, 16)
    read = files.run("encode", {"image": images.numpy()})
    name = files.names["unit_names"][0]
    units = files.intervene(read, {name: 0.5 * read["scores"][:, 0]})
    close(files.run("decode", units)["logits"], module.predict(images).intervene({name: Scale(0.5)}).logits)


@pytest.mark.slow
def test_what_the_file_says_of_the_model(deployed):
    names = deployed("cbm")[1].names
    assert names["model"] == "cbm"
    assert names["opset"] == 18
    assert names["unit_names"] == list(SPEC.concept_names)
    assert names["exclusive_groups"] == [[0, 1, 2]]
    assert names["edits"] == ["truth"] * 6
    assert names["image_size"] == [16, 16]
    assert names["parts"]["decode"] == {"inputs": ["scores"], "outputs": ["logits", "probabilities"]}


@pytest.mark.slow
def test_a_quantity_is_in_its_unit(deployed):
    names = deployed("cbm with a quantity")[1].names
    assert names["edits"][-1] == "quantity"
    assert names["quantities"] == {"length": "mm"}
    assert names["ranges"][-1] == [8.0, 32.0]


@pytest.mark.slow
def test_a_residual_cannot_be_set(deployed):
    assert deployed("cbm with a residual")[1].names["edits"][-2:] == ["none", "none"]


@pytest.mark.parametrize("name", ["baseline", *(pytest.param(name, marks=pytest.mark.slow) for name in WHOLE)])
def test_the_whole_in_one_file(name, tmp_path):
    module = FAMILIES[name]()
    files = Deployed(package.export(module, tmp_path / "x.onnx").files)
    assert [each.shape[0] for each in files.sessions["whole"].get_inputs()] == ["batch"]
    for count in (1, 4):
        images = torch.rand(count, 3, *module.spec.image_size)
        found, prediction = files.run("whole", {"image": images.numpy()}), module.predict(images)
        close(found["logits"], prediction.logits)
        close(found["probabilities"], prediction.probabilities)
        close(found["values"], prediction.unit_values)
        close(found["maps"], prediction.units.maps)
        if "class_map" in found:
            heat = package.explain.Intrinsic()(module, images, Target.cls(prediction.labels)).map
            close(found["class_map"], heat)
        if "abstains" in found:
            assert found["abstains"].tolist() == prediction.abstains.tolist()


@pytest.mark.slow
def test_the_verb_and_the_same_correction_as_ibd_intervene(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    module = make_module()
    module.save("model.ckpt")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    answer = ibd("export", "model.ckpt", "model.onnx", "--parts", "decode,encode,edit", "--opset", "20")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    assert [line.split(":")[0] for line in answer.out.splitlines()][:3] == ["written"] * 3
    assert "opset 20, by torch.onnx.export(dynamo=True) of PyTorch" in answer.out
    assert "for 1 and 3 images, and with units set by hand: logits equal to" in answer.out
    files = Deployed({name: tmp_path / f"model.{name}.onnx" for name in ("encode", "edit", "decode")})
    read = files.run("encode", {"image": (pixels.transpose(2, 0, 1)[None] / 255).astype(np.float32)})
    after = files.run("decode", files.intervene(read, {"flies": 1}))["probabilities"][0]
    said = ibd("intervene", "model.ckpt", "image.png", "flies=1").out.split("after flies=1\n")[1].splitlines()[0]
    best = int(after.argmax())
    assert f"{module.spec.class_names[best]} {100 * after[best]:.1f} %" in said


MISTAKES = {
    "part": (["x.onnx", "--parts", "encode,explian"], "--parts: unknown part 'explian'. Did you mean 'explain'?"),
    "twice": (["x.onnx", "--parts", "edit,edit"], "--parts: a part is given twice: edit, edit"),
    "opset of PyTorch": (
        ["x.pt2", "--opset", "18"],
        "--opset is of ONNX's operators, and a .pt2 file has PyTorch's: leave it out",
    ),
    "nothing": ([], "which file? For example: ibd export RUN model.onnx (or a page: --page FOLDER)"),
    "runtime": (
        ["x.onnx", "--runtime", "y"],
        "--runtime is what a page runs the model by: add --page FOLDER, or leave it out",
    ),
    "parts of no file": (
        ["--page", "x", "--parts", "edit"],
        "--parts and --opset are of a file: name it, such as model.onnx",
    ),
}


@pytest.mark.parametrize(("given", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Baseline(SPEC, SMALL).save("model.ckpt")
    assert ibd("export", "model.ckpt", *given).mistake == message


@pytest.mark.slow
def test_a_version_of_the_operators_that_there_is_not(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^--opset: 99 given, which PyTorch .* cannot write this model in: it wrote 18;"
    ):
        package.export(Baseline(SPEC, SMALL), tmp_path / "x.onnx", opset=99)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_model_of_another_type(dtype, tmp_path):
    """Of float64, onnxruntime has no convolution."""
    with pytest.raises(UnsupportedError, match=rf"^the model is {dtype}, and a \.onnx file is written in float32"):
        package.export(Baseline(SPEC, SMALL).to(dtype), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_runtime_refuses():
    with pytest.raises(UnsupportedError, match=r"^whole: onnxruntime .* runs no such file: .*[Pp]rotobuf"):
        run_onnx(b"nothing", Program("whole", ("image",), ("logits",), None))


def test_a_model_that_gives_no_numbers_is_told_from_a_file_that_is_wrong():
    module = Baseline(SPEC, SMALL).eval()
    torch.nn.init.constant_(module.network.head.weight, torch.nan)
    same = {"whole": lambda given: {"logits": module(given["image"]).logits}}
    with pytest.raises(
        UnsupportedError, match=r"^Baseline itself gives logits that are no finite numbers, for 1 image"
    ):
        check(module, same)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_without_the_extra(missing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UnsupportedError, match=rf'^a \.onnx file needs {missing}: pip install "ibd\[onnx\]"$'):
        package.export(Baseline(SPEC, SMALL), tmp_path / "x.onnx")


@pytest.mark.parametrize(
    "part", ["decode", *(pytest.param(part, marks=pytest.mark.slow) for part in ("explain", "edit"))]
)
def test_a_part_alone_is_checked_too(part, tmp_path, monkeypatch):
    monkeypatch.setattr(BaselineNetwork, "for_inference", untrue)
    with pytest.raises(UnsupportedError, match="what was exported is not Baseline: for 1 image its "):
        package.export(Baseline(SPEC, SMALL), tmp_path / "x.pt2", parts=(part,))
    assert not list(tmp_path.iterdir())


def untrue(network):
    """Return a copy for inference that is another network."""
    found = copy.deepcopy(network).eval()
    torch.nn.init.constant_(found.head.weight, 7.0)
    torch.nn.init.constant_(next(found.backbone.parameters()), 0.3)
    return found


def test_files_that_are_not_verified_replace_none(tmp_path, monkeypatch):
    def refuse(*given):
        raise UnsupportedError("not the same")

    old = tmp_path / "x.pt2"
    old.write_text("good")
    monkeypatch.setattr(exporting, "check", refuse)
    with pytest.raises(UnsupportedError, match="not the same"):
        package.export(Baseline(SPEC, SMALL), old)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt2"]
    assert old.read_text() == "good"


class Strange(BaselineNetwork):
    """A network with an operator that ONNX has not."""

    def encode(self, image):
        return super().encode(torch.special.gammainc(image + 1, image + 1))


@pytest.mark.slow
def test_an_operator_that_onnx_has_not(tmp_path):
    module = Baseline(SPEC, SMALL)
    module.network.__class__ = Strange
    with pytest.raises(UnsupportedError, match=r"^baseline: whole: ONNX has no operator .*gamma"):
        package.export(module, tmp_path / "x.onnx")


def test_parts_that_a_model_has_not(tmp_path):
    wide = make_stochastic_module(placement="confidence")
    assert possible_parts(wide)[0] == ("encode", "decode", "explain")
    with pytest.raises(UnsupportedError, match=r"^edit: the bound of a confidence region"):
        package.export(wide, tmp_path / "x.onnx", parts=("encode", "edit"))
    whitened = MAKERS["concept_whitening"]()
    with pytest.raises(UnsupportedError, match=r"^explain: what an axis adds"):
        package.export(whitened, tmp_path / "x.onnx", parts=("explain",))
    module = make_module(bottleneck="logits")
    module.network.low.fill_(torch.nan)
    with pytest.raises(UnsupportedError, match="no training percentiles"):
        package.export(module, tmp_path / "x.onnx", parts=("edit",))


def test_every_family_is_here():
    assert set(registry.names("models")) <= set(FAMILIES)
