"""What is said of axes: the metrics on all images at once, and what is left out where nothing is annotated."""

import csv
import dataclasses
import json
import logging
import math

import pytest
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.metrics import auc_matrix, axis_correlation
from ibd.models.concept_whitening.evaluation import evaluate_axes, top_images
from ibd.models.concept_whitening.report import save_top_images
from tests.axis_makers import LAYERS, AxisModule, make_axis_baseline
from tests.model_makers import CONCEPTS, SPEC, TensorData, make_module
from tests.reference import axes as reference

K = len(CONCEPTS)
ANNOTATED = {"axis_purity", "separation"}
COMPARED = {"accuracy_baseline", "correlation_baseline", "separation_baseline"}
COMPARED |= {"axis_purity_best_channel", "axis_purity_best_channel_optimistic"}


@pytest.fixture(scope="module")
def data():
    """Images of which some tell of their concepts: the first three by their colors."""
    data = TensorData(sizes=(40, 24, 50))
    for images, _, concepts in data.splits.values():
        images[:, :3] *= 0.3 + concepts[:, :3, None, None].nan_to_num(0.5)
    return data


@pytest.fixture(scope="module")
def model():
    return AxisModule()


@pytest.fixture(scope="module")
def baseline():
    return make_axis_baseline()


@pytest.fixture(scope="module")
def report(model, data, baseline):
    return evaluate_axes(model, data, baseline=baseline)


def channels_of(baseline, image):
    """Run the stages one by one, and stop before the last ReLU."""
    backbone = baseline.network.backbone
    with torch.no_grad():
        value = backbone.stage2(backbone.stage1(backbone.normalize(image)))
        return backbone.stage3.norm(backbone.stage3.conv(value))


def test_figures_are_those_of_all_images_at_once(report, model, data):
    image, label, concepts = data.splits["test"]
    network = model.network
    with torch.no_grad():
        units = network.encode(image)
        logits = network.decode(units)
        without = torch.stack([network.decode(network.edit(units, {k: 0.0})) for k in range(K)], 1)
    auc = torch.tensor(reference.auc_matrix(units.scores, concepts), dtype=torch.float64)
    torch.testing.assert_close(report.auc, auc)
    covariance = reference.covariance(units.maps)
    separation = torch.tensor(reference.separation(units.maps.mean((2, 3)), concepts))
    torch.testing.assert_close(report.separation, separation, atol=1e-5, rtol=1e-4)
    drop, loss = (torch.tensor(x, dtype=torch.float64) for x in reference.importance(logits, without, label.tolist()))
    torch.testing.assert_close(report.importance["accuracy_drop"], drop)
    torch.testing.assert_close(report.importance["loss_increase"], loss, atol=1e-5, rtol=1e-5)
    assert loss.abs().max() > 0.01
    beside = ~torch.eye(K, dtype=torch.bool)
    expected = {
        "accuracy": (logits.argmax(1) == label).float().mean().item(),
        "axis_purity": auc.diagonal().mean().item(),
        "correlation": reference.mean_absolute_correlation(covariance),
        "whiteness_diagonal": covariance.diagonal().mean() - 1,
        "whiteness_off_diagonal": abs(covariance[~torch.eye(16, dtype=torch.bool).numpy()]).mean(),
        "separation": separation[beside].mean().item(),
        "accuracy_drop": drop.mean().item(),
        "loss_increase": loss.mean().item(),
    }
    assert set(report.figures) == set(expected) | COMPARED
    assert {name: report.figures[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(report.scores, units.scores)
    assert report.index.tolist() == list(range(50))
    assert report.axis_names == network.unit_names
    assert report.concept_names == list(CONCEPTS)


def test_the_trajectory_is_the_auc_in_every_layer(report, model, data):
    image, _, concepts = data.splits["test"]
    with torch.no_grad():
        maps = model.network.depth_maps(image)
    assert tuple(report.trajectory) == LAYERS
    for name, found in report.trajectory.items():
        expected = auc_matrix(model.network.pool(maps[name]), concepts).diagonal()
        torch.testing.assert_close(found, expected)
    assert not torch.equal(*report.trajectory.values())


def test_a_single_layer_needs_no_second_pass(data):
    model = AxisModule(layers=LAYERS[-1:])
    passes, model.network.decoded = [], 0
    model.network.backbone.register_forward_hook(lambda *_: passes.append(1))
    report = evaluate_axes(model, data)
    assert tuple(report.trajectory) == LAYERS[-1:]
    assert len(passes) == len(data.loader("test"))
    assert model.network.decoded == 50 * (K + 1)


def test_channels_are_chosen_on_other_images_than_they_are_measured_on(report, model, data, baseline):
    chosen, measured = (
        auc_matrix(channels_of(baseline, data.splits[split][0]).amax((2, 3)), data.splits[split][2])
        for split in ("val", "test")
    )
    best = chosen.argmax(1)
    assert report.chosen_on == "val"
    assert report.best_channel_index.tolist() == best.tolist()
    torch.testing.assert_close(report.best_channel, measured[range(K), best])
    torch.testing.assert_close(report.best_channel_optimistic, measured.amax(1))
    assert (report.best_channel < report.best_channel_optimistic).any()
    figures = report.figures
    assert figures["axis_purity_best_channel"] == pytest.approx(report.best_channel.mean().item())
    assert figures["axis_purity_best_channel_optimistic"] == pytest.approx(measured.amax(1).mean().item())
    maps = channels_of(baseline, data.splits["test"][0])
    assert (maps < 0).any()  # as before the ReLU that works in place
    assert figures["correlation_baseline"] == pytest.approx(axis_correlation(maps).item(), abs=1e-6)
    assert report.baseline_correlation.shape == (16, 16)
    with torch.no_grad():
        right = baseline(data.splits["test"][0]).logits.argmax(1) == data.splits["test"][1]
    assert figures["accuracy_baseline"] == int(right.sum()) / 50
    assert evaluate_axes(model, data, "val", baseline).chosen_on == "train"


def test_a_concept_that_no_channel_can_be_chosen_for(model, data, baseline, caplog):
    other = TensorData(sizes=(40, 24, 50))
    other.splits = {**data.splits, "val": (*data.splits["val"][:2], data.splits["val"][2].clone())}
    other.splits["val"][2][:, 4] = 0
    report = evaluate_axes(model, other, baseline=baseline)
    assert report.best_channel.isnan().tolist() == [False] * 4 + [True, False]
    assert report.best_channel_index[4] == -1
    assert not report.best_channel_optimistic.isnan().any()
    assert not math.isnan(report.figures["axis_purity_best_channel"])
    assert "axis_purity_best_channel leaves out size::loud: always or never present in the val images" in caplog.text


def test_batches_and_what_is_left_behind(model, data, baseline, report):
    other = TensorData(sizes=(40, 24, 50), batch_size=7)
    other.splits = data.splits
    model.train()
    found = evaluate_axes(model, other, baseline=baseline)
    assert model.training
    model.eval()
    assert found.figures == pytest.approx(report.figures, abs=1e-5)
    assert not any(layer._forward_hooks for layer in [*model.modules(), *baseline.modules()])


def test_concepts_in_another_order_or_unknown_to_the_data(data, report, caplog):
    names = ("flies", "stripes", "wing::red")
    model = AxisModule(concept_names=names)
    found = evaluate_axes(model, data)
    concepts = data.splits["test"][2]
    expected = auc_matrix(found.scores, concepts[:, [5, 0]])
    torch.testing.assert_close(found.auc[[0, 2]], expected)
    assert found.auc[1].isnan().all()
    assert found.figures["axis_purity"] == pytest.approx(float(expected[[0, 1], [0, 2]].mean()))
    assert not found.importance["accuracy_drop"].isnan().any()
    assert found.best_channel is None
    assert set(found.figures) == set(report.figures) - COMPARED
    assert "1 of 3 axes are not measured: the data has no 'stripes'" in caplog.text
    shown = {(image.name, image.annotated) for image in top_images(model, data, k=50)}
    assert {("flies", 1.0), ("flies", 0.0), ("wing::red", 1.0)} < shown
    assert {str(value) for name, value in shown if name == "stripes"} == {"nan"}


def without_names(data):
    data.spec = dataclasses.replace(SPEC, concept_names=(), concept_groups={}, exclusive_groups=())
    data.splits = {name: (images, labels, concepts[:, :0]) for name, (images, labels, concepts) in data.splits.items()}


def with_nothing_known(data):
    data.splits["test"][2].fill_(torch.nan)


@pytest.mark.parametrize(
    ("change", "names", "why"),
    [
        (without_names, None, "the data has no annotated concepts (TensorData is not given any)"),
        (with_nothing_known, None, "no test image has a known concept"),
        (lambda data: None, ("dotted", "spotted"), "the data does not know the concepts of the axes: dotted, spotted"),
    ],
)
def test_without_annotations_it_says_what_is_left_out(change, names, why, baseline, caplog):
    data = TensorData()
    change(data)
    with caplog.at_level(logging.WARNING):
        found = evaluate_axes(AxisModule(concept_names=names), data, baseline=baseline)
    assert [r.getMessage() for r in caplog.records] == [f"axis_purity and separation are left out: {why}"]
    kept = {"accuracy", "correlation", "whiteness_diagonal", "whiteness_off_diagonal", "accuracy_drop", "loss_increase"}
    assert set(found.figures) == kept | {"accuracy_baseline", "correlation_baseline"}
    assert not any(math.isnan(value) for value in found.figures.values())
    assert found.auc.isnan().all()
    assert found.best_channel is None


def test_mistakes(model, data, baseline):
    with pytest.raises(UnsupportedError, match=r"^a ConceptBottleneck has no axes that stand for concepts \(its units"):
        evaluate_axes(make_module(), data)
    with pytest.raises(UnsupportedError, match=r"a Linear has no axes"):
        evaluate_axes(torch.nn.Linear(2, 2), data)
    with pytest.raises(ConfigError, match=r"unknown split 'tests'\. Did you mean 'test'"):
        evaluate_axes(model, data, split="tests")
    with pytest.raises(ConfigError, match="needs the data"):
        evaluate_axes(model)
    text = r"no batch normalization of 16 channels at 'stage3.norm': its backbone must be that of the whitened network$"
    for other in (make_axis_baseline(width=2), make_axis_baseline(norm="group")):
        with pytest.raises(ConfigError, match=text):
            evaluate_axes(model, data, baseline=other)
    with pytest.raises(ConfigError, match=r"the baseline is a Linear: a run of model\.name=baseline is needed"):
        evaluate_axes(model, data, baseline=torch.nn.Linear(2, 2))
    deeper = AxisModule()
    deeper.network.layer_names = ["stage4.norm"]
    with pytest.raises(ConfigError, match=r"no batch normalization of 16 channels at 'stage4\.norm'"):
        evaluate_axes(deeper, data, baseline=baseline)
    spec = dataclasses.replace(SPEC, class_names=("ant", "bee", "dog"))
    with pytest.raises(ConfigError, match="trained on other classes"):
        evaluate_axes(model, data, baseline=make_axis_baseline(spec))
    with pytest.raises(ConfigError, match="32 x 32 and 16 x 16 pixels"):
        evaluate_axes(model, data, baseline=make_axis_baseline(dataclasses.replace(SPEC, image_size=(32, 32))))


@pytest.mark.parametrize("given", [True, False])
def test_top_images(model, data, report, given):
    found = top_images(model, data, k=4, axes=[2, 7], report=report if given else None)
    assert [(image.axis, image.rank) for image in found] == [(axis, rank) for axis in (2, 7) for rank in range(4)]
    _, labels, concepts = data.splits["test"]
    for image in found:
        order = sorted(range(50), key=lambda i: (-float(report.scores[i, image.axis]), i))
        assert image.index == order[image.rank]
        assert image.score == pytest.approx(float(report.scores[image.index, image.axis]), abs=1e-5)
        assert image.sample == f"tensor {image.index}"
        assert image.class_name == SPEC.class_names[labels[image.index]]
        truth = float(concepts[image.index, 2]) if image.axis == 2 else math.nan
        assert image.annotated == pytest.approx(truth, nan_ok=True)
        assert image.name == ("wing::green" if image.axis == 2 else "axis 7")
    assert [image.axis for image in top_images(model, data, k=1)] == list(range(K))
    assert len(top_images(model, data, k=99, axes=[0])) == 50
    with pytest.raises(ConfigError, match="the report covers the test images, not the val"):
        top_images(model, data, "val", report=report)
    with pytest.raises(ConfigError, match="no axis 16"):
        top_images(model, data, axes=[16])


def test_it_is_written_down(report, model, data, tmp_path):
    report = dataclasses.replace(report, best_channel=report.best_channel.clone().fill_(torch.nan))
    assert [path.name for path in report.save(tmp_path)] == ["axes.json", "concepts.csv", "auc.csv"]
    found = json.loads((tmp_path / "axes.json").read_text(), parse_constant=pytest.fail)
    assert found["figures"] == report.figures
    assert found["concepts"]["flies"]["best_channel"] is None
    assert found["concepts"]["flies"]["best_channel_index"] == int(report.best_channel_index[5])
    assert found["trajectory"]["stage2.norm"]["wing::red"] == float(report.trajectory["stage2.norm"][0])
    with (tmp_path / "auc.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("concept") for row in rows] == list(CONCEPTS)
    values = torch.tensor([[float(row[name]) for name in report.axis_names] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(values, report.auc, atol=1e-5, rtol=0)
    with (tmp_path / "concepts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["AUC of the baseline's channel"] for row in rows} == {""}
    assert [float(row["AUC of its axis"]) for row in rows] == pytest.approx(report.auc.diagonal().tolist(), abs=1e-5)
    assert save_top_images(top_images(model, data, k=3), tmp_path / "top.csv") == 3 * K
    with (tmp_path / "top.csv").open() as file:
        assert [int(row["rank"]) for row in csv.DictReader(file)] == [0, 1, 2] * K
