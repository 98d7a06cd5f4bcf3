"""Names of classes and concepts are drawn as they are written, whatever is in them."""

import ast
import io
import warnings

import pytest
import torch
from matplotlib import rc_context

from ibd.data.overview import save_overview
from ibd.drawing import PlainFigure, shorten
from ibd.explain.base import Explanation
from ibd.explain.explanation_figures import explanations_figure
from ibd.explain.figures import prediction_figure
from ibd.explain.targets import Target
from ibd.models.concept_whitening.charts import purity_figure, trajectory_figure
from ibd.models.prediction import Prediction
from ibd.types import DataSpec, groups_of
from tests.model_makers import TensorData, make_network
from tests.unit.test_imports import FILES

AWKWARD = ("$a_", "$5_{a$", "b^$\\frac$", "a\\_b", "_^{", "נשר", "鳥", "x" * 400, "%", "#&~", "two\nlines", "<b>")


def svg(figure):
    """Return a figure as SVG, whose texts can be read, drawn without a warning."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="error"), rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg")
    return file.getvalue().decode()


@pytest.mark.parametrize("setting", [{}, {"text.usetex": True}], ids=["as it is", "a user of TeX"])
def test_a_text_is_drawn_as_it_is_written(setting):
    with rc_context(setting):
        figure = PlainFigure(layout="constrained")
        axis = figure.subplots()
        axis.set_title("$5_{a$ and $b^$")
        axis.set_yticks([0, 1], ["$1$", "a_b\\c"])
        axis.text(0, 0, r"\$")
        figure.suptitle("$x$")
        drawn = svg(figure)
    for text in ("$5_{a$ and $b^$", ">$1$<", ">a_b\\c<", r">\$<", ">$x$<"):
        assert text in drawn


def spec():
    concepts = tuple(f"g$_{i}::{name}" for i, name in enumerate(AWKWARD))
    return DataSpec(AWKWARD, concepts, groups_of(concepts), image_size=(16, 16))


def test_predictions_explanations_and_charts_of_axes():
    network, images = make_network(spec()), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        logits, units = network(images)
    prediction = Prediction(network, units, logits, torch.zeros_like(units.scores, dtype=torch.bool))
    size = len(AWKWARD)
    figures = [
        prediction_figure(prediction, images, torch.tensor([0, 1]), torch.ones(2, size), top=size),
        explanations_figure(
            images, [Explanation(torch.rand(2, 16, 16), torch.ones(2), Target.cls(0), "posthoc", "m")], AWKWARD[1:3]
        ),
        purity_figure(torch.rand(size), AWKWARD),
        trajectory_figure({"$l_1$": torch.rand(size), "l^": torch.rand(size)}, AWKWARD),
    ]
    for figure in figures:
        width, height = figure.get_size_inches()
        assert "$" in svg(figure)
        assert width < 30
        assert height < 30


@pytest.mark.slow
def test_the_picture_of_a_data_set(tmp_path):
    data = TensorData(spec=spec())
    save_overview(data.dataset("train"), spec(), tmp_path / "data.png", classes=len(AWKWARD))
    assert (tmp_path / "data.png").stat().st_size > 1000


def test_no_figure_is_made_in_another_way():
    for path in FILES:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        names = {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
        assert not names & {"Figure", "pyplot"} or path.name == "drawing.py", path


@pytest.mark.parametrize(("width", "short"), [(8, "abcdefgh"), (5, "ab…gh"), (4, "ab…h")])
def test_a_long_name_is_shortened_in_its_middle(width, short):
    assert shorten("abcdefgh", width) == short
