"""The pages of docs: their Python runs, and what they list is what there is."""

import importlib
import inspect
import re
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

import ibd as package
from ibd import explain, registry
from ibd.app.compare import read_options
from ibd.comparison import tagged_images
from ibd.comparison.compare import compare
from ibd.comparison.groups import FIGURES, GROUPS, METRICS
from ibd.comparison.methods import DEFAULT, choose_methods
from ibd.comparison.reference_maps import REFERENCE_MAPS
from ibd.data import ToyBirds
from ibd.errors import ConfigError
from ibd.models.baseline.lightning import Baseline
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.types import DataSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explainers.md").read_text(encoding="utf-8")
COMPARISON = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_on_explainers_runs(monkeypatch):
    torch.manual_seed(0)
    model = ConceptBottleneck(ToyBirds().spec, {"name": "small_cnn", "width": 16, "depth": 4}).eval()
    monkeypatch.setattr("ibd.io.load_model", lambda run: model)
    names = {"__name__": "page"}
    for number, block in enumerate(BLOCKS):
        quick = re.sub(r"steps=\d+", "steps=1", block)
        exec(compile(quick, f"explainers.md[{number}]", "exec"), names)
    assert names["explanation"].map.shape == names["relevance"].map.shape == (4, 64, 64)
    assert names["several"].map.shape == (4, 6, 64, 64)
    assert names["parts"].channels.shape == (4, 128)
    assert names["made"].image.shape == (2, 3, 64, 64)
    torch.testing.assert_close(names["relevance"].extra["conservation"], torch.ones(4), atol=1e-3, rtol=0)
    assert names["GradientTimesMean"].__name__ == "GradientTimesMean"


def test_the_python_of_the_page_on_models_runs(monkeypatch):
    """With a network of torchvision in the place of timm's, which need not be installed."""
    torch.manual_seed(0)
    timm = types.ModuleType("timm")
    timm.create_model = lambda *_, **__: _Features()
    monkeypatch.setitem(sys.modules, "timm", timm)
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    names = {"__name__": "page", "ibd": package, "images": torch.rand(2, 3, 32, 32)}
    names["model"] = Baseline(DataSpec(("a", "b"), image_size=(32, 32)), {"name": "bcos_small_cnn", "width": 2}).eval()
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "models.md", "exec"), names)
    assert names["maps"].weights.shape == (2, 2, 6, 32, 32)
    heat, logit = names["heat"].detach(), names["logit"].detach()
    assert logit != 0
    torch.testing.assert_close(heat.sum(), logit, rtol=0, atol=1e-5 * float(heat.abs().sum()))
    backbone = names["Lite"]()
    assert backbone.account == "pixels"
    assert backbone(torch.rand(1, 3, 32, 32)).shape == (1, 4, 16, 16)


class _Features(torch.nn.Sequential):
    """A feature extractor as timm makes them."""

    num_features = 4

    def __init__(self):
        super().__init__(torch.nn.Conv2d(3, 4, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.SiLU())


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


def self_consistency_table() -> str:
    """Return the table of figures of self-consistency that docs/comparison.md must hold."""
    rows = [f"| `{f.name}` | {f.reading} |" for f in (*FIGURES.values(), *tagged_images.FIGURES)]
    return "\n".join(["| figure | how to read it |", "|---|---|", *rows])


def test_the_table_of_self_consistency_is_what_the_figures_mean():
    assert self_consistency_table() in COMPARISON, f"docs/comparison.md must hold\n{self_consistency_table()}"


def test_the_options_of_compare_are_in_their_table():
    section = COMPARISON.split("## Run it")[1].split("### ")[0]
    options = dict(re.findall(r"^\| `(\w+)(?:=(.*?))?` \|", section, re.MULTILINE))
    found = inspect.signature(compare).parameters.values()
    defaults = {each.name: "" if each.default is each.empty else repr(each.default) for each in found}
    expected = {name: value.replace("'", '"') for name, value in defaults.items()}
    assert options == expected
    assert "By default " + ", ".join(f"`{name}`" for name in DEFAULT) in COMPARISON
    assert all(f"group `{name}`" in COMPARISON for name, group in GROUPS.items() if not group.by_default)


def test_every_null_is_in_its_table():
    rows = re.findall(r"^\| `(\w+)` \|", COMPARISON.split("**Reference maps")[1].split("**Intervals")[0], re.MULTILINE)
    assert rows == [*REFERENCE_MAPS, "other_image", "oracle", "oracle_sum"]


def test_the_example_of_a_metric_runs():
    (function, line) = re.findall(r"^ {3}```(?:python)?\n(.*?)^ {3}```", COMPARISON, re.MULTILINE | re.DOTALL)
    module = vars(importlib.import_module("ibd.metrics.functional.properties"))
    names = dict(module)
    exec(compile_block(function), names)
    maps = torch.zeros(3, 5, 4)
    maps[0, 0, :2], maps[0, 1, :2] = 3.0, 1.0
    maps[1] = 1.0
    torch.testing.assert_close(names["top_share"](maps), torch.tensor([0.75, 0.1, torch.nan]).double(), equal_nan=True)
    record = vars(importlib.import_module("ibd.comparison.groups.record"))
    entry = eval(line.strip(), {**record, "top_share": names["top_share"]})
    assert (entry.name, entry.higher_is_better, entry.needs) == ("top_share", True, "map")


def compile_block(text):
    return compile(inspect.cleandoc("\n" + text), "comparison.md", "exec")


@pytest.mark.parametrize("where", ["page", "file"])
def test_the_examples_of_a_file_are_read(where, tmp_path):
    path = ROOT / "configs" / "compare.yaml"
    if where == "page":
        path = tmp_path / "compare.yaml"
        path.write_text(re.search(r"^```yaml\n(.*?)^```", COMPARISON, re.MULTILINE | re.DOTALL)[1], encoding="utf-8")
    options = read_options([f"config={path}", "images=32", "data.root=elsewhere"])
    assert options.images == 32
    assert options.overrides == ["data.seed=0"] * (where == "file") + ["data.root=elsewhere"]
    assert len(options.runs) >= 2
    assert set(options.metrics) <= {*GROUPS, *METRICS}
    methods = {method.name: method for method in choose_methods(options.explainers, oracle=True)}
    assert methods["smoothgrad 50"].explainer.n == 50
    if where == "file":
        given = set(yaml.safe_load(path.read_text(encoding="utf-8"))) - {"data"}
        in_python = {"overrides", "progress", "trust", "models", "data", "preprocess", "label", "contrast"}
        assert given - {"model"} == {*inspect.signature(compare).parameters, "logger"} - in_python


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "ibd").rglob("README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_the_readme_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1500
