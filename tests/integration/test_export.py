"""`ibd export` over every model of the registry; its file is run by a process that cannot import this package."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import ibd as package
from ibd import registry
from ibd.app.exporting import export as exporting
from ibd.app.exporting.formats import NAMES
from ibd.errors import UnsupportedError
from ibd.explain.targets import Target
from ibd.models.baseline.lightning import Baseline
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.pipnet.network import PIPNetwork
from tests.command import ibd
from tests.exported_models import MAKERS, MORE
from tests.model_makers import SMALL, SPEC, make_module, make_pipnet, make_whitening

READER = """
import json, sys
sys.modules["ibd"] = None
import torch
for file in sys.argv[1:]:
    extra = {"ibd.json": ""}
    network = torch.export.load(file, extra_files=extra).module()
    images = torch.load(file + ".images")
    torch.save(([network(image) for image in images], json.loads(extra["ibd.json"])), file + ".read")
"""


QUICK = ("concept_whitening",)
"""What is exported in the quick tests: every model takes seconds."""


def names(*every):
    """Return the names as parameters, those that are not quick among them slow."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in every]


@pytest.fixture(scope="module")
def read(request, tmp_path_factory):
    """Name -> the model, images in batches of several sizes, and what another process made of them: outputs, names.

    Only of what the tests that were chosen ask for.
    """
    folder = tmp_path_factory.mktemp("exported")
    made, files = {}, []
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    asked = {*QUICK, *(item.callspec.params.get("name") for item in here)}
    for name, make in {**MAKERS, **MORE}.items():
        if name not in asked:
            continue
        module, file = make(), folder / "new" / f"{name.replace(' ', '_')}.pt2"
        module.save(folder / "model.ckpt")
        answer = ibd("export", folder / "model.ckpt", file)
        assert answer.code == 0, answer.err
        assert answer.err == ""
        images = [torch.rand(count, 3, *module.spec.image_size) for count in (1, 5, 2)]
        torch.save(images, f"{file}.images")
        made[name] = module, images, answer
        files.append(file)
    subprocess.run([sys.executable, "-I", "-c", READER, *files], check=True, cwd=folder, timeout=240)
    return {
        name: (*each, *torch.load(f"{file}.read", weights_only=True))
        for (name, each), file in zip(made.items(), files, strict=True)
    }


@pytest.mark.parametrize("name", names(*registry.names("models"), *MORE))
def test_the_file_gives_the_same_without_the_package(name, read):
    module, images, _, outputs, _ = read[name]
    for image, output in zip(images, outputs, strict=True):
        prediction = module.predict(image)
        expected = [prediction.logits, prediction.probabilities, prediction.unit_values, prediction.units.maps]
        if len(output) > 4:
            labels = prediction.labels
            expected.append(prediction.contributions[torch.arange(len(labels)), :, labels])
        if len(output) > 5:
            expected.append(package.explain.Intrinsic()(module, image, Target.cls(labels)).map)
        if len(output) > 6:
            expected.append(prediction.abstains)
        for value, same in zip(output, expected, strict=True):
            if value.dtype == torch.bool:
                assert torch.equal(value, same)
                continue
            assert not value.requires_grad
            scale = max(1.0, float(same.abs().max()))
            torch.testing.assert_close(value, same, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", names(*registry.names("models")))
def test_the_file_has_the_names(name, read):
    module, _, _, _, names = read[name]
    network = module.network
    about = {"unit_groups", "exclusive_groups", "edits", "ranges", "ends", "additive", "bias", "cells"}
    assert names["parts"]["whole"]["inputs"] == ["image"]
    assert names["parts"]["whole"]["outputs"][:4] == ["logits", "probabilities", "values", "maps"]
    assert {key: value for key, value in names.items() if key not in about | {"parts"}} == {
        "model": name,
        "ibd": package.__version__,
        "torch": str(torch.__version__),
        "class_names": network.class_names,
        "unit_kind": network.unit_kind,
        "quantities": {},
        "unit_names": network.unit_names,
        "image_size": list(module.spec.image_size),
        "resize": "crop",
        "dtype": "float32",
    }
    assert about <= set(names)


@pytest.mark.parametrize("name", names("calibrated"))
def test_the_file_has_the_calibration(name, read):
    module, _, _, _, names = read[name]
    plain = json.loads(json.dumps(module.calibration.to_dict()))
    assert names["calibration"] == plain
    assert plain["sets"]["coverage"] == 0.8


def test_the_verb_says_what_it_wrote_and_how_far_it_is_from_the_model(read):
    lines = read["concept_whitening"][2].out.splitlines()
    assert lines[0].startswith("written: ")
    assert re.search(r"concept_whitening\.pt2 \(0\.\d MB\): image -> logits, probabilities, values, maps$", lines[0])
    assert lines[2].startswith("checked: by PyTorch, for 1 and 3 images: logits equal to ")
    assert float(lines[2].split()[-1]) < 1e-5


def test_whitened_layers_are_folded_away(tmp_path):
    module = make_whitening()
    package.export(module, tmp_path / "x.pt2")
    program = torch.export.load(tmp_path / "x.pt2")
    assert set(program.state_dict) >= {"network.backbone.stage3.conv.bias"}
    assert not [name for name in program.state_dict if "running_covariance" in name or "rotation" in name]
    assert isinstance(module.network.backbone.stage3.norm, ConceptWhiteningLayer)


def test_a_model_in_memory_is_left_as_it_is(tmp_path):
    module = make_module().double().train()
    state = torch.get_rng_state()
    written = package.export(module, str(tmp_path / "x.pt2"))
    assert torch.equal(torch.get_rng_state(), state)
    assert written.path == tmp_path / "x.pt2"
    assert written.difference < 1e-12
    assert all(part.training for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())
    extra = {"ibd.json": ""}
    network = torch.export.load(written.path, extra_files=extra).module()
    assert json.loads(extra["ibd.json"])["dtype"] == "float64"
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(network(image)[0], module.eval()(image).logits.detach())


@pytest.mark.slow
def test_a_parameter_of_a_block_that_is_looked_into(tmp_path):
    """Whitening traces the blocks around its layers: what they hold beside modules must come along."""
    module = make_whitening()
    block = Scaled(module.network.backbone.stage3)
    module.network.backbone.stage3 = block
    module.network.layer_names = ["stage3.inner.norm"]
    file = package.export(module, tmp_path / "x.pt2").path
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(
        torch.export.load(file).module()(image)[0], module(image).logits.detach(), rtol=0, atol=1e-5
    )


class Scaled(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.scale = inner, nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return self.inner(x * self.scale) * self.scale


class Counting(PIPNetwork):
    """A model with a loop over the images."""

    def encode(self, image):
        return super().encode(torch.cat([image[i : i + 1] for i in range(len(image))]))


class Untrue(BaselineNetwork):
    """A model whose copy for inference is another model."""

    def for_inference(self):
        network = super().for_inference()
        network.head.bias[1] = math.nan
        return network


class Asking(BaselineNetwork):
    """A model that asks for a value."""

    def encode(self, image):
        return super().encode(image * 2 if image.sum() > 3 else image)


@pytest.mark.parametrize(("make", "kind"), [(make_pipnet, Counting), (lambda: Baseline(SPEC, SMALL), Asking)])
def test_a_model_that_cannot_be_followed(make, kind, tmp_path, capfd):
    module = make()
    module.network.__class__ = kind
    with pytest.raises(UnsupportedError, match=rf"^torch\.export cannot follow {type(module).__name__} \("):
        package.export(module, tmp_path / "x.pt2")
    assert capfd.readouterr() == ("", "")  # of what PyTorch prints of its graphs
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_removed(tmp_path):
    module = Baseline(SPEC, SMALL)
    module.network.__class__ = Untrue
    with torch.no_grad(), pytest.raises(UnsupportedError, match="Baseline: for 1 image its logits differ by nan"):
        package.export(module, tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


MISTAKES = {
    "ending": (
        "model.ckpt",
        "out.pt",
        "cannot export to 'out.pt': the name of an exported model ends in .onnx or .pt2",
    ),
    "run": ("modle.ckpt", "out.pt2", "no run 'modle.ckpt'. Did you mean 'model.ckpt'?"),
    "folder": ("model.ckpt", "/dev/null/x.pt2", "cannot write '/dev/null/x.pt2': '/dev/null' is not a folder"),
    "a folder of that name": ("model.ckpt", "folder.pt2", "cannot write 'folder.pt2': Is a directory"),
}


@pytest.mark.parametrize(("run", "file", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(run, file, message, tmp_path, monkeypatch):
    if file != "folder.pt2":  # the others are found before the work
        monkeypatch.setattr(exporting, "programs", None)
    (tmp_path / "folder.pt2").mkdir()
    make_module().save("model.ckpt")
    before = sorted(tmp_path.iterdir())
    assert ibd("export", run, file).mistake == message
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_the_last_checkpoint_on_request(tmp_path):
    for which, classes in (("best", ("ant", "bee")), ("last", ("cow", "dog"))):
        spec = dataclasses.replace(SPEC, class_names=classes)
        Baseline(spec, SMALL).save(tmp_path / "run" / "checkpoints" / f"{which}.ckpt")
    for options, classes in (([], ["ant", "bee"]), (["--which", "last"], ["cow", "dog"])):
        assert ibd("export", "run", "out.pt2", *options).code == 0
        extra = {NAMES: ""}
        torch.export.load("out.pt2", extra_files=extra)
        assert json.loads(extra[NAMES])["class_names"] == classes


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    [
        "cifar_resnet",
        "bagnet17",
        "resnet18",
        "vgg11_bn",
        "densenet121",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "convnext_tiny",
    ],
)
def test_every_family_of_backbones(backbone, tmp_path):
    spec = dataclasses.replace(SPEC, image_size=(32, 32))
    assert package.export(Baseline(spec, {"name": backbone}), tmp_path / "x.pt2").difference < 1e-4
    if backbone != "convnext_tiny":  # it has no batch normalization
        module = make_whitening(spec, backbone={"name": backbone})
        assert package.export(module, tmp_path / "x.pt2").difference < 1e-4
