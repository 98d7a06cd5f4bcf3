"""The pages of docs: their Python runs, and what they list is what there is."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from ibd import explain, registry
from ibd.data import ToyBirds
from ibd.errors import ConfigError
from ibd.models.cbm.lightning import ConceptBottleneck

PAGE = (Path(__file__).parents[2] / "docs" / "explainers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_on_explainers_runs(monkeypatch):
    torch.manual_seed(0)
    model = ConceptBottleneck(ToyBirds().spec, {"name": "small_cnn", "width": 16, "depth": 4}).eval()
    monkeypatch.setattr("ibd.io.load_model", lambda run: model)
    names = {"__name__": "page"}
    for number, block in enumerate(BLOCKS):
        quick = re.sub(r"steps=\d+", "steps=1", block)
        exec(compile(quick, f"explainers.md[{number}]", "exec"), names)
    assert names["found"].map.shape == names["relevance"].map.shape == (4, 64, 64)
    assert names["several"].map.shape == (4, 6, 64, 64)
    assert names["parts"].channels.shape == (4, 128)
    assert names["made"].image.shape == (2, 3, 64, 64)
    torch.testing.assert_close(names["relevance"].extra["conservation"], torch.ones(4), atol=1e-3, rtol=0)
    assert names["GradientTimesMean"].__name__ == "GradientTimesMean"


@pytest.mark.parametrize("name", registry.names("explainers"))
def test_the_table_has_the_options_of_every_explainer(name):
    found = inspect.signature(registry.resolve("explainers", name)).parameters.values()
    expected = ", ".join(f"`{each.name}={each.default!r}`" for each in found).replace("'", '"')
    (row,) = re.findall(rf"^\| `{re.escape(name)}` \|(.*)\|$", PAGE, re.MULTILINE)
    assert row.split(" | ")[2].strip() == expected


def test_every_composite_is_in_its_table():
    for name in ("epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1",
                 "epsilon_alpha2_beta1_flat", "deep_taylor", "excitation_backprop"):  # fmt: skip
        assert re.search(rf"^\| `{name}`", PAGE, re.MULTILINE)
        explain.composite(name)
    with pytest.raises(ConfigError, match="no composite"):
        explain.composite("epsilon_minus")


def test_every_public_name_of_explain_is_there():
    for name in explain.__all__:
        assert getattr(explain, name).__name__ == name or name == "Penalty"
    with pytest.raises(AttributeError, match="no attribute 'GradCam'"):
        _ = explain.GradCam
