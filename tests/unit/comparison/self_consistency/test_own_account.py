"""What is measured of which model, what is left out and why, and that every figure can be read."""

import math

import pytest
import torch

from ibd.comparison import tagged_images
from ibd.comparison.groups import FIGURES, METRICS
from ibd.comparison.groups.self_consistency import asked_figures
from ibd.comparison.results import SelfConsistency
from ibd.comparison.self_consistency import concept_leakage, self_consistency, shortcut_figures
from ibd.data.toybirds import PARTS, ToyBirds
from ibd.errors import ConfigError
from ibd.models.baseline.lightning import Baseline
from tests.model_makers import (
    SMALL,
    SPEC,
    TensorData,
    make_embedding,
    make_module,
    make_pipnet,
    make_prototypes,
    make_whitening,
)

UNITS = {"completeness_error", "named_share", "units_for_90", "units"}
MASKS = {"detectors", "unique_detectors", "dissection_iou", "dissection_own_iou", "dissection_own_best", "form_iou"}
CONCEPTS = {"locality", "own_change", "intervention_consistency", "leakage_gap", "concept_task_leakage"}
BYPASS = {"accuracy_whole", "accuracy_without_named", "accuracy_named_alone"}
FRAMES = {"prototype_alignment", "prototype_location_change", "locality"}


@pytest.fixture(scope="module")
def birds():
    return ToyBirds("tiny", train_size=12, val_size=4, test_size=8)


def axes(spec):
    module = make_whitening(spec, backbone={"name": "small_cnn", "width": 8, "depth": 3})
    module.network.low.fill_(-1)
    module.network.high.fill_(1)
    return module


@pytest.mark.parametrize(
    ("make", "wanted", "skipped", "columns"),
    [
        (lambda birds: make_module(birds.spec), CONCEPTS | UNITS | MASKS, [], PARTS),
        (
            lambda birds: axes(birds.spec), {"locality"} | BYPASS | UNITS | MASKS,
            ["intervention_consistency", "leakage", "completeness_error"], PARTS,
        ),
        (lambda birds: make_module(birds.spec, residual=2), CONCEPTS | BYPASS | UNITS | MASKS, [], PARTS),
        (lambda birds: make_embedding(birds.spec), CONCEPTS | BYPASS | UNITS | MASKS, [], PARTS),
        (make_prototypes, FRAMES | {"consistency", "purity"} | UNITS | MASKS, ["bypass"], (*PARTS, "elsewhere")),
        (
            lambda birds: make_pipnet(birds.spec).eval(), FRAMES | UNITS | MASKS,
            ["prototype_parts", "bypass"], (*PARTS, "elsewhere"),
        ),
        (lambda birds: Baseline(birds.spec, SMALL).eval(), UNITS | MASKS, ["bypass"], ()),
    ],
    ids=["cbm", "whitening", "residual", "cem", "protopnet", "pipnet", "baseline"],
)  # fmt: skip
def test_what_applies_to_each_family(birds, make, wanted, skipped, columns):
    module = make(birds)
    found, left = self_consistency(module, birds, [5, 1, 6], name="it", form_units=1)
    assert wanted <= set(found.figures)
    assert [each.metric for each in left] == skipped
    assert all(each.model == "it" and each.why for each in left)
    assert found.columns == list(columns)
    assert found.rows == (list(PARTS) if columns else [])
    assert (found.matrix is None) == (not columns)
    if columns:
        assert found.matrix.shape == (5, len(columns))
    for (name, _), value in found.named().items():
        assert isinstance(value, float)
        assert FIGURES[name].reading, name
    assert math.isnan(found.figures["completeness_error"]) == ("completeness_error" in skipped)
    assert not module.training


@pytest.mark.parametrize("make", [make_module, lambda: Baseline(SPEC, SMALL)], ids=["cbm", "baseline"])
def test_data_without_scenes_and_masks(make):
    found, left = self_consistency(make(), TensorData(), range(10))
    reasons = {each.metric: each.why for each in left}
    assert reasons["dissection"] == "the data has no part masks"
    assert "locality" not in found.figures
    assert found.matrix is None
    assert set(found.figures) >= UNITS
    if "leakage_gap" in found.figures:
        assert "those of TensorImages cannot" in reasons["locality"]
        assert reasons["locality"] == reasons["intervention_consistency"]


def test_leakage_is_measured_on_more_images():
    module = make_module()
    few, _ = self_consistency(module, TensorData((4, 4, 30)), [0, 1])
    expected = concept_leakage(module, TensorData((4, 4, 30)).dataset("test"), range(30)).figures()
    assert {name: few.figures[name] for name in expected} == pytest.approx(expected)


def test_shortcut_figures(birds):
    hans = ToyBirds("hans", image_size=32, train_size=4, val_size=4, test_size=4)
    figures, left = shortcut_figures(make_module(hans.spec), hans, [0, 1], {"x": torch.ones(2, 32, 32)})
    assert left == []
    assert figures.breakdown["energy_on_tag"]["x"] == pytest.approx(figures.figures["tag_area"])
    assert {name for name, _ in figures.named()} <= {figure.name for figure in tagged_images.FIGURES}
    figures, left = shortcut_figures(make_module(birds.spec), birds, [0], name="it")
    assert figures.named() == {}
    assert [(each.model, each.metric) for each in left] == [("it", "shortcut")]


def test_sentences():
    for name, text, metric in (*FIGURES.values(), *tagged_images.FIGURES):
        assert text.endswith("."), name
        assert "  " not in text, name
        assert metric == "" or metric in METRICS, name


def test_no_images(birds):
    with pytest.raises(ConfigError, match="no images given"):
        self_consistency(make_module(birds.spec), birds, [])


def test_only_the_figures_of_the_metrics_that_are_asked_for_are_shown():
    figures = {"locality": 0.5, "own_change": 0.1, "leakage_gap": 0.2, "units": 4.0, "detectors": 0.3, "form_iou": 0.1}
    account = SelfConsistency(figures, {"intervention_same_class": {"beak": 1.0}, "form": {"a is b": 0.1}})
    one = asked_figures(account, {"locality", "deletion"})
    assert (set(one.figures), one.breakdown) == ({"locality", "own_change", "units"}, {})
    other = asked_figures(account, {"form_iou", "intervention_consistency"})
    assert set(other.figures) == {"units", "form_iou"}
    assert other.breakdown == account.breakdown
    assert asked_figures(account, {"deletion"}).named() == {}
