"""Explainers called as captum's and pytorch-grad-cam's are: it works, or a line says what would."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain import GradCAM, GradientTimesInput, IntegratedGradients, Intrinsic, Saliency, Target, quantus_explain
from tests.explainer_makers import Functional, images, make

WEIGHT = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
"""Of each pixel of a 2 x 2 image, in a linear model."""


class Linear(nn.Module):
    """Class 0 is the sum of all pixels, each times its weight, and class 1 three times that."""

    def forward(self, image):
        score = (image * WEIGHT).flatten(1).sum(1)
        return torch.stack([score, 3 * score], 1)


IMAGE = torch.tensor([[0.5, 1.0], [0.25, 0.0]]).expand(2, 3, 2, 2)


def test_attribute_as_captum_has_it():
    found = GradientTimesInput().on(Linear()).attribute(IMAGE, target=1)
    assert found.shape == (2, 1, 2, 2)
    torch.testing.assert_close(found[0, 0], 3 * 3 * IMAGE[0, 0] * WEIGHT)  # three colors, each three times
    several = GradientTimesInput().on(Linear()).attribute(IMAGE, target=torch.tensor([0, 1]))
    torch.testing.assert_close(several[1], 3 * several[0])
    asked = GradientTimesInput().on(Linear())
    assert torch.equal(asked.attribute(IMAGE), asked.attribute(IMAGE, Target.predicted()))
    with pytest.raises(ConfigError, match="a target of one score is needed"):
        asked.attribute(IMAGE, Target.classes([0, 1]))
    for inputs in ((IMAGE, IMAGE), ()):
        with pytest.raises(ConfigError, match=f"attribute: {len(inputs)} inputs given, a model of images has one"):
            asked.attribute(inputs, 1)
    with pytest.raises(UnsupportedError, match="has no map here"):
        GradientTimesInput("hidden").on(_Vector()).attribute(IMAGE, 0)


class _Vector(nn.Module):
    """With a layer that is no map."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(12, 3)

    def forward(self, image):
        return self.hidden(image.flatten(1))


@pytest.mark.parametrize("kind", [GradCAM, Saliency, IntegratedGradients, Intrinsic])
def test_attribute_without_a_model_says_how(kind):
    with pytest.raises(ConfigError, match=rf"{kind.__name__}\(...\)\.on\(model\)\.attribute\(images, target=3\)"):
        kind().attribute(IMAGE, target=3)


def test_construction_as_pytorch_grad_cam_and_captum_have_it_says_how():
    """The layer is named where the model is given, too."""
    model = Functional()
    said = r'^GradCAM: takes only options.*: GradCAM\("second"\)\(model, image, target\)$'
    with pytest.raises(ConfigError, match=said):
        GradCAM(model=model, target_layers=[model.second])
    with pytest.raises(ConfigError, match=said):
        GradCAM(model, model.second)
    with pytest.raises(ConfigError, match=r"GradCAM\(...\)\(model, image, target\)$"):
        GradCAM(target_layers=[model.second])
    with pytest.raises(ConfigError, match=r"IntegratedGradients\(...\)\(model, image, target\)$"):
        IntegratedGradients(model)


def test_the_plain_logits_of_a_model_of_ours_are_explained_like_the_model():
    model, image = make("cbm").eval(), images(2, (16, 16))
    for explainer in (Intrinsic(), GradCAM(), Saliency()):
        assert torch.equal(explainer(model.logits, image, "bee").map, explainer(model, image, "bee").map)


def test_the_function_that_quantus_calls():
    image = IMAGE.numpy()
    found = quantus_explain(Linear(), image, np.array([0, 1]), method="gradient_input", device="cpu")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], 3 * (IMAGE[0, 0] * WEIGHT).numpy())
    np.testing.assert_allclose(found[1], 3 * found[0])
    np.testing.assert_array_equal(
        quantus_explain(Linear(), image, np.array([0, 1]), method=GradientTimesInput()), found
    )
    summed = quantus_explain(Linear(), image, np.array([0, 1]), method="saliency", reduce="sum")
    np.testing.assert_allclose(summed[0, 0], 3 * WEIGHT.numpy())


def test_an_explanation_as_arrays():
    found = Intrinsic()(make("cbm"), images(2, (16, 16)), Target.classes([0, 2]))
    arrays = found.to_numpy()
    assert {name: array.shape for name, array in arrays.items()} == {
        "map": (2, 2, 16, 16),
        "value": (2, 2),
        "units": (2, 2, 6),
        "unit_maps": tuple(found.unit_maps.shape),
    }
    np.testing.assert_array_equal(arrays["map"], found.map.numpy())
    half = found.to(torch.bfloat16).to_numpy()
    assert half["map"].dtype == np.float32
    assert "completeness" in IntegratedGradients(steps=2)(Linear(), IMAGE, 0).to_numpy()


def test_an_explanation_as_files(tmp_path):
    found = Intrinsic()(make("cbm"), images(2, (16, 16)), Target.classes([0, 2]))
    with np.load(found.save(tmp_path / "deep" / "all.npz")) as arrays:
        np.testing.assert_array_equal(arrays["units"], found.units.numpy())
    with Image.open(found.save(tmp_path / "maps.png")) as picture:
        assert picture.size[0] > 16
    with found.save(tmp_path / "units.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 6
    assert [row["unit"] for row in rows[:2]] == ["wing::red", "wing::blue"]
    chosen = [row for row in rows if row["image"] == "1" and row["score"] == "1"]
    np.testing.assert_allclose([float(row["contribution"]) for row in chosen], found.units[1, 1], rtol=1e-6)
    assert float(chosen[0]["explained"]) == pytest.approx(float(found.value[1, 1]))


def test_an_explanation_without_units_is_a_table_of_pixels(tmp_path):
    found = GradientTimesInput()(Linear(), IMAGE, 1)
    lines = found.save(tmp_path / "pixels.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "image,score,explained,row,column,value"
    assert lines[1].startswith("0,0,")
    assert lines[1].endswith(",0,0,4.5")  # 3 colors x 3 x weight 1 x 0.5
    assert len(lines) == 1 + 2 * 4


def test_files_that_an_explanation_cannot_be(tmp_path):
    found = GradientTimesInput("hidden")(_Vector(), IMAGE, 0)
    with pytest.raises(UnsupportedError, match="this explanation has no map"):
        found.save(tmp_path / "maps.png")
    found.save(tmp_path / "units.csv")
    with pytest.raises(ConfigError, match=r"its name must end in \.npz, \.png, \.csv$"):
        found.save(tmp_path / "maps.jpg")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot write"):
        found.save(tmp_path / "file" / "units.csv")
