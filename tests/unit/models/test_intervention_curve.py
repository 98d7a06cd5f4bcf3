"""The intervention curve: what is read, what is averaged, and how it is shown."""

import csv

import pytest
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.models.baseline.lightning import Baseline
from ibd.models.cbm.intervention import POLICIES, InterventionCurve, intervention_curve
from tests.model_makers import SMALL, SPEC, TensorData, make_module
from tests.reference import intervention as reference


@pytest.fixture
def counted():
    """A module, and how many images its network encodes."""
    module, seen = make_module(), []
    encode = module.network.encode
    module.network.encode = lambda image: (seen.append(len(image)), encode(image))[1]
    return module, seen


def test_the_backbone_reads_each_split_once(counted):
    module, seen = counted
    data = TensorData(sizes=(40, 24, 30))
    curve = intervention_curve(module, data, trials=7)
    assert sum(seen) == 30 + 24
    assert set(data.asked) == {("test", False), ("val", False)}  # never the training images, nothing augmented
    assert curve.images == 30
    assert curve.group_names == ["wing", "size", "flies"]
    assert {name: trials.shape for name, trials in curve.accuracy.items()} == {
        "random": (7, 4), "uncertainty": (1, 4), "expected_change": (1, 4), "learned": (1, 4)
    }  # fmt: skip


def test_the_validation_split_is_read_only_to_learn_an_order(counted):
    module, seen = counted
    data = TensorData()
    assert intervention_curve(module, data, ["random", "uncertainty"]).order == []
    assert sum(seen) == 30
    seen.clear()
    intervention_curve(module, data, split="val")
    assert sum(seen) == 24


def test_the_order_is_learned_on_validation_alone():
    module, data = make_module(), TensorData(unknown=0.0)
    images, labels, concepts = data.splits["val"]
    with torch.no_grad():
        scores = module(images).units.scores
        expected = reference.learned_order(module.network, scores, concepts, labels)
    order = intervention_curve(module, data, ["learned"]).order
    assert order == [["wing", "size", "flies"][g] for g in expected]
    test_images, test_labels, test_concepts = data.splits["test"]
    data.splits["test"] = test_images, (test_labels + 1) % 3, 1 - test_concepts
    assert intervention_curve(module, data, ["learned"]).order == order


def test_random_is_the_mean_over_trials_never_the_best():
    module, data = make_module(), TensorData()
    curve = intervention_curve(module, data, "random", trials=6, seed=3)
    trials = curve.accuracy["random"]
    assert torch.equal(curve.mean("random"), trials.mean(0))
    torch.testing.assert_close(curve.deviation("random"), trials.std(0))
    assert (curve.mean("random") < trials.max(0).values).any()
    assert torch.equal(intervention_curve(module, data, "random", trials=2, seed=3).accuracy["random"], trials[:2])
    assert curve.deviation("random")[0] == 0  # nothing is corrected yet


def test_ends_at_the_same_point_and_starts_at_the_test_accuracy():
    module, data = make_module(), TensorData()
    curve = intervention_curve(module, data)
    images, labels, _ = data.splits["test"]
    accuracy = (module.predict(images).labels == labels).double().mean()
    for policy in POLICIES:
        assert curve.mean(policy)[0] == pytest.approx(float(accuracy))
        assert curve.mean(policy)[-1] == pytest.approx(float(curve.mean("random")[-1]))


def test_leaves_the_model_as_it_was():
    module = make_module().train()
    module.network.backbone.eval()
    intervention_curve(module, TensorData(), ["random"])
    assert module.training
    assert not module.network.backbone.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policies": ["randm"]}, "unknown policy 'randm'. Did you mean 'random'?"),
        ({"policies": "learnt"}, "unknown policy 'learnt'. Did you mean 'learned'?"),
        ({"policies": []}, "policies: none given. Known: random, uncertainty"),
        ({"trials": 0}, "trials: 0 given, at least 1 is needed"),
        ({"split": "tets"}, "unknown split 'tets'. Did you mean 'test'?"),
        ({"data": None}, "intervention_curve needs the data beside the model"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError) as caught:
        intervention_curve(make_module(), **{"data": TensorData(), **options})
    assert message in str(caught.value)


def test_a_baseline_has_nothing_to_correct():
    with pytest.raises(UnsupportedError, match="a Baseline has no concepts to correct"):
        intervention_curve(Baseline(SPEC, SMALL), TensorData())


def curve():
    accuracy = {"random": [[0.5, 0.6, 1], [0.5, 0.8, 1]], "learned": [[0.5, 0.9, 1]]}
    return InterventionCurve(
        {name: torch.tensor(value, dtype=torch.float64) for name, value in accuracy.items()},
        ["wing", "size"],
        ["size", "wing"],
        10,
        "test",
    )


def test_csv(tmp_path):
    curve().save_csv(tmp_path / "x.csv")
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [(r["policy"], r["groups_corrected"], r["accuracy"]) for r in rows] == [
        ("random", "0", "0.500000"), ("random", "1", "0.700000"), ("random", "2", "1.000000"),
        ("learned", "0", "0.500000"), ("learned", "1", "0.900000"), ("learned", "2", "1.000000"),
    ]  # fmt: skip
    assert rows[1]["sd_over_trials"] == "0.141421"
    assert (rows[1]["trials"], rows[4]["trials"], rows[0]["images"]) == ("2", "1", "10")


def test_text():
    lines = str(curve()).splitlines()
    assert lines[0] == "class accuracy in % on 10 test images"
    assert lines[2].split() == ["random", "groups", "50.00", "70.00", "100.00"]
    assert lines[-1] == "learned order: size, wing"
    assert len({len(line) for line in lines[1:4]}) == 1


def test_figure(tmp_path):
    figure = curve().figure()
    figure.savefig(tmp_path / "x.png")
    axis = figure.axes[0]
    assert [line.get_ydata().tolist() for line in axis.lines] == [
        pytest.approx([50, 70, 100]),
        pytest.approx([50, 90, 100]),
    ]
    assert len(axis.collections) == 1  # one band
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "random groups (mean of 2 ± 1 sd)",
        "order learned on validation",
    ]


def test_says_how_much_is_known():
    """A curve that stays low because little is known must not be read as a model that cannot be corrected."""
    curve = intervention_curve(make_module(), TensorData(unknown=0.5), trials=1)
    assert 0.4 < curve.known < 0.7
    assert f"({100 * curve.known:.1f} % of their concepts are known and corrected)" in str(curve)
    assert "known" not in str(intervention_curve(make_module(), TensorData(unknown=0.0), trials=1))
    with pytest.raises(UnsupportedError, match="no test image has a known concept, so none can be corrected"):
        intervention_curve(make_module(), TensorData(unknown=1.0))
