"""The public names: what an editor, a type checker, and a person who misspells one see of them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ibd
from ibd.explain import LRP, GradCAM, Intrinsic, SmoothGrad, Target
from ibd.training.runner import Run
from tests.model_makers import SPEC, make_module
from tests.report_makers import small_report

ROOT = Path(__file__).parents[2]


def read_by_type_checkers(package):
    """Return name -> module of what is imported for type checkers alone."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {alias.asname: node.module for node in block.body for alias in node.names}


def test_type_checkers_read_the_names_that_there_are():
    rooms = dict.fromkeys(ibd._ROOMS, "ibd")
    assert read_by_type_checkers("ibd") == ibd._PUBLIC | rooms
    places = {name: f"ibd.explain.{module}" for name, module in ibd.explain._PLACES.items()}
    assert read_by_type_checkers("ibd/explain") == places


RIGHT = """
from typing import assert_type

import torch

import ibd
from ibd.data import ImageDataModule
from ibd.explain import LRP, Explanation, Target
from ibd.models.lightning import InterpretableModule
from ibd.models.prediction import Prediction

run = ibd.fit("config.yaml", "trainer.max_epochs=2")
model = assert_type(ibd.load_model(run), InterpretableModule)
images = torch.rand(2, 3, 64, 64)
prediction = assert_type(model.predict(images), Prediction)
corrected = assert_type(prediction.intervene({"wing::red": 1.0}), Prediction)
edits: dict[int, float] = {3: 0.5}
prediction.intervene(edits)
found = assert_type(LRP()(model, images, Target.cls(3) - Target.unit("wing::red")), Explanation)
assert_type(ibd.explain.GradCAM()(model, images).map, torch.Tensor | None)
report = ibd.compare([run, "runs/other"], explainers=["intrinsic", "lrp"], images=16)
report.save("report")
curve = ibd.intervention_curve(run)
names = assert_type(ibd.list_models(), list[str])
data: ImageDataModule = ibd.data.ToyBirds("tiny")
"""
WRONG = {
    "ibd.fitt('x')": 'Module has no attribute "fitt"',
    "ibd.explain.GradCam()": 'Module has no attribute "GradCam"',
    "ibd.load_model('x').predict('y').probabilitys": 'has no attribute "probabilitys"',
    "ibd.fit(config=3)": 'Argument "config" to "fit" has incompatible type "int"',
    "ibd.explain.Target.cls(3) + 1": "Unsupported operand types for +",
}


@pytest.mark.slow
def test_a_users_script_is_type_checked(tmp_path):
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(RIGHT)
    wrong.write_text("\n".join(["import ibd", *WRONG]) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--cache-dir", tmp_path / "cache"]
    answer = subprocess.run([*command, right, wrong], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[0].endswith("wrong.py") for line in lines] == [True] * len(WRONG), answer.stdout
    for line, message in zip(lines, WRONG.values(), strict=True):
        assert message in line


def test_what_is_misspelt_or_called():
    with pytest.raises(AttributeError, match=r"module 'ibd' has no attribute 'fitt'\. Did you mean 'fit'"):
        ibd.fitt  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'ibd.explain' has no attribute 'GradCam'\. Did you mean"):
        ibd.explain.GradCam  # noqa: B018
    with pytest.raises(TypeError, match=r"`ibd\.explain\.GradCAM\(\)\(model, images\)` asks one of them"):
        ibd.explain(make_module(), torch.rand(1, 3, 16, 16))


def test_everything_says_in_a_line_what_it_is():
    module, images = make_module(), torch.rand(4, 3, 16, 16)
    assert repr(SmoothGrad(GradCAM(layer="stage2"), n=3)) == "SmoothGrad(GradCAM(layer='stage2'), n=3)"
    found = Intrinsic()(module, images, Target.cls(1) - Target.cls(2))
    assert repr(found).startswith("Explanation(intrinsic: 4 images; class 1 - class 2; map (4, 16, 16); ")
    assert " forwards, 0 backwards, " in repr(found)
    prediction = module.predict(images)
    first = prediction.probabilities[0].max()
    assert repr(prediction).startswith(f"Prediction(4 images: {prediction.classes[0]} {100 * first:.1f} %, ")
    assert repr(prediction).endswith(", ...)")
    assert repr(prediction[0]).startswith("Prediction(1 image: ")
    run = Run(Path("runs/x"), Path("runs/x/best.ckpt"), {"val/accuracy": 0.75}, epoch=4, monitor="val/accuracy")
    assert repr(run) == "Run('runs/x', epoch 4, val/accuracy 0.75)"
    assert repr(small_report()) == "Report(4 models, 13 rows, 15 metrics, 12 images)"
    for each in (found, prediction, run):
        assert "\n" not in repr(each)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target.cls(3), "class 3"),
        (Target.cls("ant", "log_odds"), "log_odds of class ant"),
        (Target.predicted(), "the predicted class"),
        (Target.cls(3) - 0.5 * Target.unit("wing::red"), "class 3 - 0.5 * unit wing::red"),
        (-Target.cls(3), "- class 3"),
        (Target.classes([1, 2]), "class 1; class 2"),
        (Target.units("wing::*"), "units wing::*"),
        (Target.cls([0, 1, 2, 3, 4, 5]), "class 0, 1, 2, 3, ..."),
    ],
)
def test_a_target_is_said_in_words(target, said):
    assert str(target) == said


@pytest.mark.slow
def test_notebooks_show_pictures_and_tables():
    module, images = make_module(), torch.rand(2, 3, 16, 16)
    shown = LRP()(module, images)._repr_html_()
    assert shown.count('<img src="data:image/png;base64,') == 2
    assert shown.startswith("<code>Explanation(lrp: 2 images; ")
    several = LRP()(module, images, Target.classes([0, 1]))._repr_html_()
    assert several.count("<img") == 2
    assert "each map has a scale of its own; the first of 2 scores" in several
    page = module.predict(images)._repr_html_()
    assert SPEC.class_names[0] in page
    assert "<pre" in page
    report = small_report()
    assert "<b>" in report._repr_html_()
    assert "<i>" not in report._repr_html_()  # which is part of a name
