import importlib
import time

import pytest
import torch

import benchmarks
from benchmarks import (
    bcos,
    cbm_step,
    concept_whitening,
    coverage,
    explainer_costs,
    explainers,
    faithfulness,
    intervention,
    localization,
    lrp,
    predicting,
)
from benchmarks.__main__ import main, write
from benchmarks.published_whitening import PublishedLayer, published_rotation_step
from benchmarks.timing import Row, Times, side_by_side
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.rotation import cayley_step
from ibd.models.concept_whitening.whitening import Whitening
from tests.explainer_makers import Functional
from tests.reference import whitening as reference


@pytest.mark.slow
def test_a_benchmark_measures_and_is_written_down(tmp_path, monkeypatch, capsys):
    def cheap(repetitions):
        return intervention.measure(repetitions, images=4, classes=3, chosen=("uncertainty",))

    monkeypatch.setattr(importlib.import_module("benchmarks.memory_layout"), "measure", cheap)
    results, threads = tmp_path / "results.md", torch.get_num_threads()
    main(["memory_layout", "--repetitions", "1", "--output", str(results)])
    assert torch.get_num_threads() == threads
    shown = capsys.readouterr().out
    assert "4 images, 112 concepts, 28 groups, 3 classes" in shown
    assert "python -m benchmarks memory_layout --repetitions 1" in shown
    assert shown.strip() in results.read_text()


@pytest.mark.slow
def test_the_cbm_step_trains_and_fills_its_metrics():
    rows = cbm_step.measure(1, ("small_cnn",))
    assert [row.bar for row in rows] == ["<= 1.02", "", "<= 1.02"]  # the vectors of concept embeddings have no bar here
    assert all(row.cpu > 0 and row.wall > 0 for row in rows)


@pytest.mark.slow
def test_bcos_is_measured():
    rows = bcos.measure(1, ("small_cnn",))
    assert [row.bar for row in rows] == ["<= 1.5", "<= 2", "<= 1.5"]
    assert all(row.cpu > 0 and row.wall > 0 for row in rows)


@pytest.mark.slow
def test_concept_whitening_is_measured(monkeypatch):
    monkeypatch.setattr(concept_whitening, "LAYERS", {(8, 6): ">= 2"})
    monkeypatch.setattr(concept_whitening, "ROTATIONS", {16: ">= 15"})
    rows = concept_whitening.measure(1, images=2)
    assert [row.bar for row in rows] == [">= 2", ">= 2", ">= 4", ">= 4", ">= 15"]
    assert all(row.cpu > 0 and row.wall > 0 for row in rows)


@pytest.mark.slow
def test_lrp_is_measured(monkeypatch):
    monkeypatch.setattr(lrp, "NETWORKS", {"resnet18": 1})
    rows = [row for row in lrp.measure(1, size=32) if row.bar]
    assert [row.bar for row in rows] == ["<= 1.1", "<= 1.7", "<= 2.8", "<= 2.8"]
    assert all(row.cpu > 0 and row.wall > 0 for row in rows)


def test_the_published_whitening_layer_computes_what_ours_does():
    """Where its iteration converges: both sides of the benchmark are the same function, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 6, 5, 5, generator=generator, dtype=torch.float64)
    x = (x + 0.3 * x.roll(1, 1) + 1).requires_grad_()
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    weight = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    published = PublishedLayer(6, iterations=14).double()
    ours = ConceptWhiteningLayer(6, 2, Whitening(shrinkage=0, eps=1e-5)).double()
    published.rotation.copy_(rotation)
    ours.rotation.copy_(rotation)
    outputs = published(x), ours(x)
    torch.testing.assert_close(*outputs, rtol=1e-8, atol=1e-8)
    gradients = (torch.autograd.grad(z, x, weight)[0] for z in outputs)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)
    published.running_mean.copy_(ours.running_mean.view(1, -1, 1))
    published.running_matrix.copy_(rotation.mT @ ours.affine()[0])
    torch.testing.assert_close(published.eval()(x), ours.eval()(x))


def test_the_published_rotation_step_goes_along_the_same_curve():
    """To a point of the same curve, chosen by the same conditions, though not the same one."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(10, 10, generator=generator))[0]
    gradient = torch.randn(3, 10, generator=generator) / 3
    full = torch.zeros(1, 10, 10)
    full[0, :3] = gradient
    found = published_rotation_step(rotation.unsqueeze(0), full, steps=1)[0]
    gaps = [
        float((reference.cayley(rotation.double(), gradient.double(), t) - found).abs().max())
        for t in (1000 / 2**k for k in range(20))
    ]
    assert min(gaps) < 1e-4
    values = [float((each[:3] * gradient).sum()) for each in (rotation, found, cayley_step(rotation, gradient, 1))]
    assert values[1] < values[0]
    assert values[2] < values[0]


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["cbm"])
    assert "unknown benchmark 'cbm': there are cbm_step, toybirds" in capsys.readouterr().err


def test_every_benchmark_has_a_measure():
    for name in benchmarks.BENCHMARKS:
        assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_operations_and_memory_are_counted():
    weight, image = torch.rand(4, 3, 3, 3), torch.rand(1, 3, 8, 8, requires_grad=True)

    def passes():
        return torch.autograd.grad(torch.conv2d(image, weight).sum(), image)

    forward = 2 * 36 * 4 * 27
    assert explainer_costs.operations(lambda: torch.conv2d(image.detach(), weight)) == forward
    assert explainer_costs.operations(passes) == 2 * forward
    made = explainer_costs.memory(lambda: [torch.ones(1000) + 1 for _ in range(5)])
    assert 6 * 4000 <= made < 8 * 4000


def test_sections_are_replaced_and_kept_in_order(tmp_path):
    results = tmp_path / "results.md"
    for name, text in (("toybirds", "old"), ("memory_layout", "kept"), ("cbm_step", "first"), ("toybirds", "new")):
        write(results, name, f"## {name}\n\n{text}\n")
    sections = results.read_text().split("## ")[1:]
    assert [section.split() for section in sections] == [
        ["cbm_step", "first"],
        ["toybirds", "new"],
        ["memory_layout", "kept"],
    ]


def test_ratios_are_medians_over_rounds_and_bars_are_judged_by_cpu_time():
    ours, plain = Times([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]), Times([2.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    assert ours.ratio(plain) == (2.0, 0.5)
    assert ours.times(2, plus=(1.0, 0.0)).cpu == [5.0, 19.0, 9.0]
    assert [Row("", "", "", 2.0, 0.5, bar).verdict for bar in ("<= 1.02", ">= 2", "")] == ["no", "yes", ""]


def test_candidates_take_turns(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.gc.collect", lambda: 0)  # which takes longer than all that is measured here
    order = []
    times = side_by_side({"a": lambda: order.append("a"), "b": lambda: time.sleep(0.002)}, 3, warm_up=2)
    assert len(order) == 5
    assert [len(times[name].cpu) for name in "ab"] == [3, 3]
    assert min(times["b"].wall) >= 0.002


@pytest.mark.slow
def test_explainers_are_measured(monkeypatch):
    monkeypatch.setattr(explainers, "SAMPLES", 2)
    rows = explainers.measure(1, images=1, size=64)
    assert [row.bar for row in rows if row.bar] == ["<= 1.10", "<= 0.7", "<= 1.05", "<= 1.0", "<= 1.0", "<= 0.5"]
    assert all(row.cpu > 0 for row in rows)


def test_localization_is_measured(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.gc.collect", lambda: 0)  # which takes longer than all that is measured here
    rows = localization.measure(1, images=2, size=40)
    assert len(rows) in (2, 8)  # without Quantus, and with it
    assert all(row.cpu > 0 and row.what.startswith(("ours", "Quantus")) for row in rows)


def test_the_passes_that_explainers_are_measured_against():
    model = torch.nn.Sequential()
    model.layer4 = torch.nn.Conv2d(3, 4, 1)
    model.pool = torch.nn.AdaptiveAvgPool2d(1)
    model.flat = torch.nn.Flatten()
    image = torch.rand(2, 3, 4, 4)
    assert explainers.to_the_input(model, image).shape == image.shape
    torch.testing.assert_close(explainers.to_the_layer(model, image)[:, 3], torch.full((2, 4, 4), 1 / 16))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_measuring_explanations_is_measured(monkeypatch):
    monkeypatch.setattr(faithfulness, "STAGES", 2)
    monkeypatch.setattr(faithfulness, "STEPS", 2)
    monkeypatch.setattr(faithfulness, "EXPLAINED", 2)
    monkeypatch.setattr(faithfulness, "_quantus", lambda *_: {})
    monkeypatch.setattr(faithfulness, "resnet18", lambda weights, num_classes: Functional(classes=num_classes))
    monkeypatch.setattr("benchmarks.timing.gc.collect", lambda: 0)  # which takes longer than all that is measured here
    rows = faithfulness.measure(1, images=1, size=32)
    assert [row.bar for row in rows] == ["<= 1.10", "", "<= 1.10"]
    assert all(row.cpu > 0 for row in rows)


def test_as_many_images_are_passed_as_are_needed():
    seen = []
    faithfulness.passes(lambda images: seen.append(len(images)), torch.zeros(4, 1), 10)
    assert seen == [4, 4, 2]


@pytest.mark.slow
def test_the_table_of_coverage(capsys):
    scenario, alike = coverage.SCENARIOS[:2]
    held, width = coverage.coverage(scenario, 3, repetitions=300)
    assert 0.9 < held < 0.99
    # 4.3 is t at 2 degrees of freedom, nearly all of the variance being that of trainings.
    assert 0.7 < width / (2 * 4.3 * (0.09 / 3 + 0.25 / 48 + 0.25 / 144) ** 0.5) < 1
    assert coverage.rivals(scenario, 3, repetitions=300)["bootstrap of both"][0] < 0.9
    assert coverage.coverage(alike, 1, repetitions=300)[0] > 0.9
    coverage.main(["--repetitions", "3"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| scores | 1 training | 2 trainings | 3 trainings | 5 trainings | 10 trainings |"
    assert len(printed) == 2 + len(coverage.SCENARIOS) + 1 + 2 + 6


@pytest.mark.parametrize("scenario", coverage.SCENARIOS, ids=lambda each: each.title)
def test_the_truth_of_made_up_scores(scenario):
    scores = scenario.make(torch.Generator().manual_seed(0), (20000, 2, 2), scenario.training)
    each = scores.nanmean((1, 2))
    each = each[~each.isnan()]
    assert float(each.mean()) == pytest.approx(scenario.truth, abs=4 * float(each.std()) / len(each) ** 0.5)


@pytest.mark.slow
def test_predicting_is_measured():
    rows = predicting.measure(1, images=20, backbone="small_cnn", size=32)
    assert [row.bar for row in rows] == ["", "<= 1.11"]
    assert all(row.cpu > 0 and row.wall > 0 for row in rows)
