"""The options of a calibration: the same to Python and to the command line; and what they ask for is done."""

import dataclasses
import inspect
import math
import re
from pathlib import Path

import pytest
import torch

import ibd
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.models.baseline.lightning import Baseline
from ibd.models.calibration.calibration import known_truth
from ibd.models.calibration.choosing import Choices, choose
from ibd.models.calibration.figures import reliability_figure
from ibd.models.calibration.measuring import Reading, class_error, concept_error, measure, readings
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.calibration.wording import summary
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.types import Units
from tests.model_makers import SMALL, SPEC, CountingBackbone, TensorData, make_module, make_network, random_concepts

PAGE = (Path(__file__).parents[4] / "docs" / "uncertainty.md").read_text(encoding="utf-8")
OPTIONS = {field.name: field.default for field in dataclasses.fields(Choices)}


def read(count=400, seed=0):
    """Return what a network put out, made up: logits that promise too much, and concepts."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(count, 3, generator=generator)
    labels = torch.multinomial(scores.softmax(1), 1, generator=generator).squeeze(1)
    concepts = random_concepts(count, seed=seed, unknown=0.1)
    known = torch.where(concepts.isnan(), 0.5, concepts)
    return ReadOutputs(
        4 * (known - 0.5) + torch.randn(concepts.shape, generator=generator), concepts, labels, 3 * scores
    )


def test_python_and_the_command_line_have_the_same_options():
    found = inspect.signature(ibd.calibrate).parameters
    assert {name: found[name].default for name in OPTIONS} == OPTIONS


def test_all_options_are_on_their_page():
    section = PAGE.split("## Options")[1].split("\n## ")[0]
    table = dict(re.findall(r"^\| `(\w+)=(.*?)` \|", section, re.MULTILINE))
    assert table == {
        name: str(value) if not isinstance(value, str) else f'"{value}"' for name, value in OPTIONS.items()
    }


def test_images_are_shared_out():
    network = make_network()
    half, whole = choose(network, read(), Choices()), choose(network, read(), Choices(fit_share=1))
    assert (half.classes.images, half.sets.images, half.apart) == (200, 200, True)
    assert (whole.classes.images, whole.sets.images, whole.apart) == (400, 400, False)
    assert "about 90 % or more" in summary(whole)
    assert "about" not in summary(half)
    assert choose(network, read(), Choices(coverage=None)).classes.images == 400  # nobody else needs them
    none = choose(network, read(), Choices(method="none"))
    assert (none.classes.method, none.sets.images, none.apart) == ("none", 400, True)
    assert choose(network, read(), Choices(seed=1)).classes.scale != half.classes.scale
    assert choose(network, read(), Choices()) == half


def test_a_planted_temperature_is_found_and_the_error_falls():
    network, new = make_network(), read(1500, seed=1)
    found = choose(network, read(4000), Choices(accuracy=0.8))
    assert found.classes.temperature == pytest.approx(3.0, rel=0.08)
    figures = measure(network, found, new)
    assert figures["ece_calibrated"] < 0.03 < 0.1 < figures["ece"]
    assert figures["concept_ece_calibrated"] < figures["concept_ece"]
    assert figures["nll_calibrated"].high < figures["nll"].low
    assert figures["set_coverage"].mean == pytest.approx(0.9, abs=0.03)
    assert figures["kept_accuracy"].mean >= 0.79
    assert "accuracy_calibrated" not in figures
    assert "accuracy_calibrated" in measure(network, choose(network, read(), Choices(method="vector")), new)


def test_the_spread_is_what_many_choices_have():
    network, new = make_network(), read(20_000, seed=99)
    probabilities, shares = new.logits.double().softmax(1), []
    for seed in range(60):
        found = choose(network, read(200, seed=seed), Choices(method="none", concept_method="none", coverage=0.8))
        inside = found.sets.sets(probabilities).gather(1, new.labels.unsqueeze(1))
        shares.append(float(inside.double().mean()))
    assert 2 * float(torch.tensor(shares).std()) == pytest.approx(0.056, rel=0.3)
    assert "one is off by up to 6 points" in summary(found)


def test_errors_of_calibration_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    assert class_error(probabilities, torch.tensor([0, 1, 1, 1])) == pytest.approx(0.5 * 0.4 + 0.5 * 0.3)
    assert class_error(torch.eye(3), torch.arange(3)) == 0  # certain, and right
    assert class_error(torch.full((4, 2), 0.5), torch.tensor([0, 0, 1, 1])) == 0  # half sure, and half right
    truth = torch.tensor([[1.0, torch.nan], [0.0, 0.5]])
    assert concept_error(torch.tensor([[0.8, 0.1], [0.8, 0.9]]), truth) == pytest.approx(0.3)
    assert math.isnan(concept_error(torch.rand(2, 2), torch.full((2, 2), torch.nan)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 1.0}, "coverage: 1 given"),
        ({"certainty": 0.0, "accuracy": 0.5}, "certainty: 0 given"),
        ({"accuracy": 1.5}, "accuracy: 1.5 given"),
        ({"fit_share": 0.0}, "fit_share: 0 given"),
        ({"split": "test"}, "what is chosen on test images says nothing"),
        ({"split": "valid"}, "split: 'valid' given, val or train is needed"),
    ],
)
def test_options_out_of_their_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Choices(**options)


def test_concepts_that_are_not_there():
    with pytest.raises(UnsupportedError, match="the units of this model are not true or false"):
        ibd.calibrate(Baseline(SPEC, SMALL), data=TensorData(), concept_method="vector", coverage=0.5)
    with pytest.raises(UnsupportedError, match="no concept of the images is known"):
        ibd.calibrate(make_module(), data=TensorData(unknown=1.0), concept_method="vector", coverage=0.5)
    assert ibd.calibrate(make_module(), data=TensorData(unknown=1.0), coverage=0.5).concepts is None
    with pytest.raises(ConfigError, match="calibrate needs the data beside the model"):
        ibd.calibrate(make_module())
    with pytest.raises(DataError, match="9 images must choose the threshold, and there are 3"):
        ibd.calibrate(make_module(), data=TensorData((40, 5, 5)))


def test_a_training_forgets_it():
    import pytorch_lightning as pl

    module = make_module()
    ibd.calibrate(module, data=TensorData(), coverage=0.8)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    pl.Trainer(max_steps=1, accelerator="cpu", limit_val_batches=0, **quiet).fit(module, datamodule=TensorData())
    assert module.calibration is None


def test_the_figure_shows_what_was_stated_and_what_came_true():
    network = make_network()
    shown = readings(network, choose(network, read(), Choices()), read(300, seed=2))
    assert list(shown) == ["classes", "classes, calibrated", "concepts", "concepts, calibrated"]
    figure = reliability_figure(shown, "images")
    upper, lower = figure.axes[0], figure.axes[2]
    assert upper.get_title() == "classes (300 images)"
    assert sum(bar.get_height() for bar in lower.patches) == 600  # all images, before and after
    half = {"classes": Reading(torch.full((20,), 0.55), torch.arange(20) % 2 == 0)}
    half["classes, calibrated"] = Reading(torch.full((20,), 0.5), torch.arange(20) % 2 == 0)
    lines = [line for line in reliability_figure(half, "half").axes[0].lines if len(line.get_xdata()) == 1]
    assert [float(line.get_ydata()[0]) for line in lines] == [0.5, 0.5]


@pytest.mark.parametrize("rest", [False, True])
def test_concepts_of_a_posthoc_bottleneck_are_calibrated_by_their_own_columns(rest):
    """Its concepts may be some of those of the data, in another order, and followed by units without a truth."""
    names = [SPEC.concept_names[k] for k in (2, 0)]
    network = PosthocNetwork(CountingBackbone(), SPEC, {"names": names, "truth": True}, rest)
    concepts = random_concepts(5, unknown=0.2)
    truth = known_truth(network, concepts)
    assert truth.shape == (5, len(network.unit_names))
    assert torch.equal(truth[:, :2].nan_to_num(-1), concepts[:, [2, 0]].nan_to_num(-1))
    assert truth[:, 2:].isnan().all()


def test_what_nobody_named_is_left_out_of_the_calibration_of_concepts():
    plain, beside = make_network(), make_network(residual=2)
    outputs = read()
    found = choose(plain, outputs, Choices())
    scores = torch.cat([outputs.scores, 5 * torch.ones(len(outputs.scores), 2)], 1)
    with_rest = choose(beside, outputs._replace(scores=scores), Choices())
    assert with_rest.concepts.scale == pytest.approx(found.concepts.scale)
    values = with_rest.values(beside, Units(scores, scores[..., None, None]))
    assert (values[:, -2:] == 5).all()
    expected = found.values(plain, Units(outputs.scores, outputs.scores[..., None, None]))
    torch.testing.assert_close(values[:, :-2], expected)
    before, after = (
        measure(n, c, outputs._replace(scores=s))
        for n, c, s in ((plain, found, outputs.scores), (beside, with_rest, scores))
    )
    assert after["concept_ece_calibrated"] == pytest.approx(before["concept_ece_calibrated"])
