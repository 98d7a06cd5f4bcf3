"""Thresholds of concepts and of confidence: by hand, against scikit-learn, and what predictions make of them."""

import dataclasses
import json

import pytest
import torch

from ibd.errors import CheckpointError, ConfigError, DataError, UnsupportedError
from ibd.models.calibration.calibration import Abstention, Calibration
from ibd.models.calibration.measuring import Reading
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.calibration.scaling import Scaling
from ibd.models.columns import table_columns
from ibd.models.thresholding import along, at, by_precision, changed, prediction_of, statements
from ibd.models.thresholds import FILE, Threshold, Thresholds, read_thresholds, write_thresholds
from ibd.training.thresholding import Wishes, find_thresholds
from tests.model_makers import SPEC, make_module, make_prototypes
from tests.unit.models.test_prediction import by_hand, text

FIVE = Reading(torch.tensor([0.9, 0.8, 0.6, 0.4, 0.2]), torch.tensor([True, True, False, True, False]))
SET = Threshold(0.8, 10, 4, 3, 3)


def outputs(count=40, seed=0):
    """What a model could have put out for images of six concepts and three classes; one concept is never known."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(count, 6, generator=generator)
    concepts = (torch.rand(count, 6, generator=generator) < scores.sigmoid()).float()
    concepts[:, 5] = torch.nan
    concepts[::3, 1] = torch.nan
    labels = torch.randint(3, (count,), generator=generator)
    return ReadOutputs(scores, concepts, labels, torch.randn(count, 3, generator=generator))


def test_by_hand():
    found = at(FIVE, 0.5)
    assert (found.images, found.true, found.called, found.right) == (5, 3, 3, 2)
    assert found.precision.mean == pytest.approx(2 / 3)
    assert found.recall.mean == pytest.approx(2 / 3)
    assert [(one.called, one.right) for one in along(FIVE, [0.0, 0.8, 1.0])] == [(5, 3), (2, 2), (0, 0)]
    assert at(FIVE, 1.0).precision.mean != at(FIVE, 1.0).precision.mean  # nothing is called: no number


def test_the_smallest_threshold_lies_midway_to_the_next_lower_value():
    found = by_precision(FIVE, 0.75, "precision")
    assert (found.value, found.called, found.right, found.wanted) == (pytest.approx(0.3), 4, 3, 0.75)
    assert by_precision(FIVE, 1.0, "precision").value == pytest.approx(0.7)
    assert by_precision(FIVE, 0.6, "precision").value == 0  # all five


def test_what_no_threshold_reaches_is_a_line():
    worse = Reading(FIVE.stated, torch.tensor([False, True, True, True, False]))
    with pytest.raises(DataError, match=r"^precision of 'red': 0\.9 given, which no threshold reaches on the 5 images"):
        by_precision(worse, 0.9, "precision of 'red'")
    with pytest.raises(DataError, match="true in none of the 5 images"):
        by_precision(Reading(FIVE.stated, torch.zeros(5, dtype=torch.bool)), 0.9, "precision")


@pytest.mark.parametrize("seed", range(5))
def test_it_calls_what_the_curve_of_scikit_learn_says(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(seed)
    stated = (torch.rand(90, generator=generator) * 25).round() / 25  # with equal ones
    true = torch.rand(90, generator=generator) < stated
    precision, recall, values = metrics.precision_recall_curve(true.numpy(), stated.numpy())
    for value, wanted, share in zip(values, precision, recall, strict=False):
        there = at(Reading(stated, true), float(value))
        assert there.precision.mean == pytest.approx(wanted)
        assert there.recall.mean == pytest.approx(share)
    for wanted in (0.6, 0.8, 0.9):
        enough = [float(v) for v, p in zip(values, precision, strict=False) if p >= wanted]
        if not enough:
            continue
        found = by_precision(Reading(stated, true), wanted, "precision")
        assert found.called == int((stated >= min(enough)).sum())
        assert found.value <= min(enough)


def test_concepts_that_are_not_known_have_no_statement():
    read = outputs()
    said = statements(make_module(), read)
    assert list(said.concepts) == list(SPEC.concept_names[:5])
    assert len(said.concepts["wing::blue"].stated) == int((~read.concepts[:, 1].isnan()).sum())
    torch.testing.assert_close(said.confidence.stated, read.logits.softmax(1).amax(1))
    assert bool((said.confidence.true == (read.logits.argmax(1) == read.labels)).all())


def test_what_a_calibration_does_not_answer_no_threshold_answers():
    model, read = make_module(), outputs()
    wary = Abstention(0.6, 0.95, None, 40, 20, 20)
    model.calibration = Calibration("val", True, 0, Scaling("none"), abstention=wary)
    model.thresholds = find_thresholds(model, statements(model, read), Wishes(confidence=0.3)).thresholds
    answered = ~prediction_of(model, read).abstains
    right = answered & (read.logits.argmax(1) == read.labels)
    found = model.thresholds.confidence
    assert (found.called, found.right) == (int(answered.sum()), int(right.sum()))
    assert 0 < found.called < 40


def test_wishes_change_only_what_they_name():
    model = make_module()
    said = statements(model, outputs())
    model.thresholds = find_thresholds(model, said, Wishes(value=0.7)).thresholds
    assert {name: one.value for name, one in model.thresholds.concepts.items()} == dict.fromkeys(said.concepts, 0.7)
    model.thresholds = find_thresholds(model, said, Wishes(precision=None, concepts=("size::big",))).thresholds
    assert "size::big" not in model.thresholds.concepts
    assert len(model.thresholds.concepts) == 4
    model.thresholds = find_thresholds(model, said, Wishes(confidence=0.6)).thresholds
    assert model.thresholds.confidence == at(said.confidence, 0.6)
    assert len(model.thresholds.concepts) == 4
    model.thresholds = find_thresholds(model, said, Wishes(accuracy=None, precision=None)).thresholds
    assert model.thresholds is None


def test_of_several_concepts_those_that_miss_it_are_named():
    model, read = make_module(), outputs()
    read.concepts[:, 0] = 0
    found = find_thresholds(model, statements(model, read), Wishes(precision=0.5))
    assert "wing::red" not in found.thresholds.concepts
    assert found.missed == (
        "precision of 'wing::red': 0.5 given, but it is true in none of the 40 images",
        "'flies' is known of none of the val images",
    )
    assert find_thresholds(model, statements(model, read), Wishes(value=0.8)).missed == found.missed[1:]
    with pytest.raises(DataError, match="true in none of the 40 images"):
        find_thresholds(model, statements(model, read), Wishes(precision=0.5, concepts=("wing::red",)))


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"precision": 1.5}, r"precision: 1\.5 given, a number above 0 and up to 1"),
        ({"value": -0.1}, r"value: -0\.1 given, a number from 0 to 1"),
        ({"precision": 0.9, "value": 0.5}, "precision and value are two ways"),
        ({"accuracy": 0.9, "confidence": 0.5}, "accuracy and confidence are two ways"),
        ({"concepts": ("flies",)}, "of which precision"),
        ({"confidence": None}, "accuracy=null takes it away"),
    ],
)
def test_wishes_that_go_not_together_are_refused(wishes, said):
    with pytest.raises(ConfigError, match=said):
        Wishes(**wishes)


def test_a_concept_must_be_known():
    model = make_module()
    said = statements(model, outputs())
    with pytest.raises(ConfigError, match=r"there is no 'wing::redd'. Did you mean one of: 'wing::red'"):
        find_thresholds(model, said, Wishes(value=0.5, concepts=("wing::redd",)))
    with pytest.raises(UnsupportedError, match="'flies' is no truth value, or no validation image is known to have it"):
        find_thresholds(model, said, Wishes(value=0.5, concepts=("flies",)))
    prototypes = make_prototypes()
    read = ReadOutputs(
        torch.rand(4, len(prototypes.network.unit_names)), torch.zeros(4, 6), torch.zeros(4).long(), torch.rand(4, 3)
    )
    with pytest.raises(UnsupportedError, match="prototypes are not true or false"):
        find_thresholds(prototypes, statements(prototypes, read), Wishes(value=0.5))


def thresholds(**changes):
    return Thresholds(**{"split": "val", "weights": 1, "calibration": 0, **changes})


def test_a_prediction_calls_present_by_them_and_abstains():
    plain = by_hand()  # values 0.75, 0.25, 0.5 and 0.88; bee 81.9 %
    assert plain.present.tolist() == [[True, False, False, True]]
    own = {"wing::red": Threshold(0.76, 9, 5, 4, 3), "size::big": Threshold(0.5, 9, 5, 4, 3, 0.7)}
    hand = dataclasses.replace(plain, thresholds=thresholds(concepts=own, confidence=Threshold(0.9, 10, 8, 5, 4)))
    assert hand.present.tolist() == [[False, False, True, True]]
    assert hand.abstains.tolist() == [True]
    assert plain.abstains.tolist() == [False]
    assert dataclasses.replace(hand, thresholds=thresholds(concepts=own)).abstains.tolist() == [False]
    assert hand.to_dict()["present"] == [["size::big", "flies"]]
    assert list(hand.to_dict()) == table_columns(hand.network, sets=False, present=True)
    assert "present" not in plain.to_dict()
    assert str(hand) == text("""
        a.png: abstains (bee 81.9 %, cow 18.1 %)
          concept      value   adds to the logit of bee
          wing::red     0.75     +1.50  ████████████████████  absent (below 0.76)
          flies         0.88     +0.88  ████████████
          wing::blue    0.25     -0.50  ░░░░░░░
          size::big     0.50     +0.00                        present (from 0.5)
          bias                   +0.25
          = logit                +2.13
          abstains below 90.0 %, set by hand: 4 of 5 answers for 10 val images were right
    """)
    assert hand.intervene({"wing::red": 1}).present.tolist() == [[True, False, True, True]]
    with pytest.raises(ConfigError, match="other thresholds cannot be joined"):
        hand.join(plain)


def test_units_that_are_not_true_or_false_are_not_present():
    model = make_prototypes()
    with pytest.raises(UnsupportedError, match="nothing is called present"):
        _ = model.predict(torch.rand(1, 3, *model.spec.image_size)).present


def test_they_are_kept_by_checkpoint_and_read_back(tmp_path):
    best = thresholds(concepts={"wing::red": SET}, confidence=Threshold(0.5, 3, 2, 0, 0, 0.9))
    write_thresholds(tmp_path, "best.ckpt", best)
    write_thresholds(tmp_path, "last.ckpt", thresholds(weights=2))
    assert read_thresholds(tmp_path, "best.ckpt") == best
    assert read_thresholds(tmp_path, "last.ckpt").weights == 2
    written = json.loads((tmp_path / FILE).read_text())["best.ckpt"]
    assert written["concepts"]["wing::red"]["precision"] == 1
    assert written["concepts"]["wing::red"]["precision_low"] == pytest.approx(SET.precision.low)
    assert written["confidence"]["precision"] is None
    write_thresholds(tmp_path, "best.ckpt", None)
    assert read_thresholds(tmp_path, "best.ckpt") is None
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"best.ckpt": 3}', '{"best.ckpt": {"split": "val"}}'])
def test_a_damaged_file_is_a_line(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_thresholds(tmp_path, "best.ckpt")


def test_a_threshold_of_nonsense_is_damage(tmp_path):
    plain = thresholds(concepts={"wing::red": SET}).to_dict()
    plain["concepts"]["wing::red"]["value"] = 1.5
    (tmp_path / FILE).write_text(json.dumps({"best.ckpt": plain}))
    with pytest.raises(CheckpointError, match="is no threshold"):
        read_thresholds(tmp_path, "best.ckpt")


def test_those_of_other_weights_or_another_calibration_are_left_out(tmp_path, caplog):
    model = make_module()
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    fitting = changed(model, "val", None, {"wing::red": SET})
    for found, taken in (
        (fitting, fitting),
        (dataclasses.replace(fitting, weights=fitting.weights + 1), None),
        (dataclasses.replace(fitting, calibration=5), None),
        (dataclasses.replace(fitting, concepts={"gone": SET}), None),
    ):
        write_thresholds(tmp_path, "best.ckpt", found)
        caplog.clear()
        model.take_thresholds(checkpoint)
        assert model.thresholds == taken
        assert ("left out: set them anew" in caplog.text) == (taken is None)


def test_an_image_without_an_answer_has_no_right_one():
    model, read = make_module(), outputs()
    guess = read.logits.argmax(1)
    model.network.abstains = lambda logits: guess == 0  # all of these, also where the truth is class 0
    reading = statements(model, read).confidence
    assert int((read.labels[guess == 0] == 0).sum()) > 0
    assert not bool(reading.true[guess == 0].any())
    everything = at(reading, 0.0)
    assert everything.recall.mean == 1  # all right answers are kept where all that there are are given
    assert everything.called == int((guess != 0).sum())
