"""A person corrects many images: what is written down, what survives a kill, and what the curve says of it."""

import csv

import pytest
import torch

from ibd.app.teaching.curve import Taught, agreement, curve_csv, taught_images, teaching_curve
from ibd.app.teaching.orders import group_order, image_order
from ibd.app.teaching.record import Record, Row, Settings, sessions
from ibd.app.teaching.session import TeachingSession, require_teachable
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.models.calibration.calibration import checksum
from ibd.models.cbm.intervention import intervention_curve
from tests.model_makers import (
    TensorData,
    make_embedding,
    make_module,
    make_posthoc,
    make_prototypes,
    make_stochastic_module,
)

MAKERS = {"cbm": make_module, "cem": make_embedding, "posthoc_cbm": make_posthoc, "scbm": make_stochastic_module}


@pytest.fixture
def data():
    return TensorData((8, 6, 12))


def begin(folder, module, data, images=None, groups="given", split="test"):
    count = len(data.dataset(split))
    order = list(range(count)) if images is None else images
    settings = Settings(split, "random", groups, 0, True, checksum(module.network), order, count)
    return open_session(Record.begin(folder, settings), module, data)


def open_session(record, module, data):
    dataset = data.dataset(record.settings.split)
    return TeachingSession(record, module.network, dataset, lambda index: module.predict(dataset[index].image[None]))


def row(image, event, step, group="wing", right=True, was=False, seconds=2.0, after=1.0, annotated=None):
    return Row("", image, "", image + 1, event, step, group, f"{group}::red", 0.2, after, annotated, seconds,
               "ant", 0.5, "bee", 0.6, "bee", was, right)  # fmt: skip


# The curve, by hand


def test_a_curve_by_hand():
    """Three images: wrong, right after one group; right throughout, left at once; wrong with two groups."""
    images = [Taught(0, [False, True], [4.0]), Taught(1, [True], []), Taught(2, [False, False, False], [2.0, 6.0])]
    points = teaching_curve(images, groups=3)
    assert [(p.groups, p.images, p.answered, p.right) for p in points] == [(0, 3, 3, 1), (1, 3, 2, 2), (2, 3, 1, 2)]
    assert [p.accuracy for p in points] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert [p.seconds for p in points[1:]] == [3.0, 6.0]
    # Wilson 1927 of 1 in 3: (0.0615, 0.7923)
    assert (points[0].low, points[0].high) == pytest.approx((0.06149, 0.79234), abs=1e-5)
    assert all(p.oracle != p.oracle for p in points)
    lines = list(csv.DictReader(curve_csv(points).splitlines()))
    assert [line["accuracy"] for line in lines] == ["0.333333", "0.666667", "0.666667"]
    assert [line["oracle"] for line in lines] == [""] * 3


def test_the_oracle_answers_as_many_groups_as_the_person():
    oracle = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.5], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    images = [Taught(0, [False, True], [4.0]), Taught(1, [True], []), Taught(2, [False, False, False], [2.0, 6.0])]
    points = teaching_curve(images, groups=3, oracle=oracle)
    assert [p.oracle for p in points] == pytest.approx([1 / 3, 2.5 / 3, 1.0])


def test_rows_become_images():
    """Undone and repeated answers, several units of an answer, a skipped image, and one that is not finished."""
    rows = [
        row(0, "answer", 1, "wing", right=False, seconds=1.0),
        row(0, "answer", 2, "size", right=True, seconds=2.0),
        row(0, "answer", 2, "size", right=True, seconds=2.0),
        row(0, "undo", 3, "size", right=False),
        row(0, "unknown", 4, "flies", right=False, seconds=3.0),
        row(0, "done", 5, "", right=False),
        row(1, "answer", 1, "wing"),
        row(1, "skipped", 2, ""),
        row(2, "done", 1, "", right=True, was=True),
        row(3, "answer", 1, "wing"),
    ]
    assert taught_images(rows) == [Taught(0, [False, False, False], [1.0, 3.0]), Taught(2, [True], [])]
    assert teaching_curve([], 3)[0].images == 0


def test_agreement_counts_the_answers_that_stand():
    rows = [
        row(0, "answer", 1, "wing", after=1.0, annotated=1.0),
        row(0, "answer", 2, "size", after=0.0, annotated=1.0),
        row(0, "answer", 3, "flies", after=0.0, annotated=None),
        row(1, "answer", 1, "wing", after=0.0, annotated=1.0),
        row(1, "undo", 2, "wing"),
    ]
    assert agreement(rows) == (1, 2)


# Orders


def test_orders_of_images():
    sure = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])
    assert image_order("uncertain", 3, 0, sure, None) == [1, 2, 0]
    right = torch.tensor([True, False, True, False, True])
    wrong_first = image_order("wrong", 5, 0, None, right)
    assert {*wrong_first[:2]} == {1, 3}
    assert sorted(wrong_first) == [0, 1, 2, 3, 4]
    assert image_order("random", 50, 3, None, None) == image_order("random", 50, 3, None, None) != list(range(50))


@pytest.mark.parametrize("name", MAKERS)
def test_the_most_uncertain_group_comes_first(name, data):
    module = MAKERS[name]()
    network, prediction = module.network, module.predict(data.dataset("test")[0].image[None])
    p = network.probabilities(prediction.units.scores)[0].double().clamp(1e-12, 1 - 1e-12)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    by_hand = sorted(network.unit_groups, key=lambda group: -float(entropy[network.unit_groups[group]].sum()))
    nothing = torch.full((1, network.concept_count), torch.nan)
    assert group_order("uncertain", network, prediction, nothing, [], 0) == by_hand
    assert group_order("given", network, prediction, nothing, ["size"], 0) == ["wing", "flies"]


# Sessions


@pytest.mark.parametrize("name", MAKERS)
def test_an_answer_is_an_intervention(name, data, tmp_path):
    """The same logits as `Prediction.intervene` with the same values, for every family that can be taught."""
    module = MAKERS[name]()
    session = begin(tmp_path, module, data)
    base = module.predict(data.dataset("test")[0].image[None])
    session.answer("wing", {"wing::blue": 1.0}, 1.5)
    session.answer("flies", {"flies": 0.0}, 2.5)
    expected = base.intervene({"wing::blue": 1.0, "flies": 0.0})
    assert torch.equal(session.now.logits, expected.logits)
    rows = session.record.rows
    assert [(r.step, r.group, r.unit, r.after) for r in rows] == [
        (1, "wing", "wing::blue", 1),
        (2, "flies", "flies", 0),
    ]
    assert rows[0].before == pytest.approx(float(base.unit_values[0, 1]), abs=1e-6)
    assert rows[0].class_before == base.classes[0]
    assert rows[1].class_after == expected.classes[0]
    assert rows[1].probability_after == pytest.approx(float(expected.probabilities.max()))
    truth = int(data.dataset("test").labels[0])
    assert rows[1].right_after == (int(expected.labels[0]) == truth)
    assert rows[0].annotated == float(data.dataset("test").concepts[0, 1])
    session.undo("wing")
    assert torch.equal(session.now.logits, base.intervene({"flies": 0.0}).logits)


def test_a_session_goes_on_where_it_was_killed(data, tmp_path):
    module = make_module()
    session = begin(tmp_path, module, data, images=[5, *(i for i in range(12) if i != 5)])
    session.answer("wing", {"wing::blue": 1.0}, 1.5)
    session.finish(1.0)
    session.answer("wing", None, 1.0)
    session.answer("size", {"size::big": 1.0, "size::loud": 0.0}, 3.25)
    stamp, table = session.record.stamp, session.record.table
    assert sessions(tmp_path) == [stamp]
    whole = table.read_bytes()
    with table.open("ab") as file:
        file.write(b"2026-11-30T00:00:00,0,half a row")  # a kill in the middle of a row
    again = open_session(Record(tmp_path, stamp), module, data)
    assert table.read_bytes().startswith(whole + b"2026")  # who looks changes nothing
    assert (again.place, again.image, again.step) == (1, 0, 2)
    assert again.answers == session.answers == {"wing": {}, "size": {3: 1.0, 4: 0.0}}
    assert torch.equal(again.now.logits, session.now.logits)
    assert again.record.rows[-1].seconds == 3.25
    again.finish(2.0)
    assert table.read_bytes().startswith(whole)
    assert b"half a row" not in table.read_bytes()
    assert [taught.image for taught in taught_images(Record(tmp_path, stamp).rows)] == [5, 0]
    with table.open() as file:
        head = next(csv.reader(file))
    assert head[8:11] == ["from", "to", "annotated"]


def test_two_servers_do_not_mix_their_rows(data, tmp_path):
    module = make_module()
    session = begin(tmp_path, module, data)
    other = open_session(Record(tmp_path, session.record.stamp), module, data)
    session.answer("wing", {"wing::blue": 1.0}, 1.0)
    assert (session.record.stale, other.record.stale) == (False, True)
    with pytest.raises(ConfigError, match="by another server: this session went on there"):
        other.answer("wing", {"wing::red": 1.0}, 1.0)
    session.finish(1.0)
    assert [row.event for row in Record(tmp_path, session.record.stamp).rows] == ["answer", "done"]


def test_a_later_answer_takes_the_place_of_an_earlier_one(data, tmp_path):
    session = begin(tmp_path, make_module(), data)
    session.answer("wing", {"wing::blue": 1.0}, 1.0)
    session.answer("wing", {"wing::red": 1.0}, 1.0)
    assert [row.event for row in session.record.rows] == ["answer", "undo", "answer"]
    assert session.answers == {"wing": {0: 1.0}}
    assert session.groups()[0] == "wing"
    session.finish(0.5)
    assert len(taught_images(session.record.rows)[0].seconds) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_all_answers_right_is_the_oracle(name, tmp_path):
    """Answering every group of every image as the data has it is the curve of `ibd curve`, point by point."""
    module, data = MAKERS[name](), TensorData((8, 6, 12), unknown=0.0)
    session = begin(tmp_path, module, data, groups="uncertain")
    dataset = data.dataset("test")
    while session.image is not None:
        for _ in range(3):
            group = session.groups()[len(session.answers)]
            known = dataset.concepts[session.image]
            units = module.network.unit_groups[group]
            session.answer(group, {module.network.unit_names[u]: float(known[u]) for u in units}, 1.0)
        session.finish(1.0)
    oracle = intervention_curve(module, data, ["uncertainty"]).right["uncertainty"]
    points = teaching_curve(taught_images(session.record.rows), 3, oracle)
    assert [point.accuracy for point in points] == pytest.approx([point.oracle for point in points])
    assert [point.accuracy for point in points] == pytest.approx(oracle.mean(1).tolist())
    right, known = agreement(session.record.rows)
    assert right == known == 12 * 6
    with pytest.raises(ConfigError, match="every image of this session is finished"):
        session.finish(1.0)


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        ("wings", {"wing::red": 1}, "no group 'wings'. Did you mean.*'wing'"),
        ("wing", {"flies": 1}, "'flies' is no unit of the group 'wing'"),
        ("wing", {"wing::red": 2}, "a truth value from 0 to 1"),
        ("wing", {"wing::red": 1, "wing::blue": 1}, "exclude each other"),
        ("wing", {"wing::pink": 1}, "unknown concept 'wing::pink'"),
        ("wing", {}, "nothing is said"),
    ],
)
def test_mistakes_are_not_written(group, values, message, data, tmp_path):
    session = begin(tmp_path, make_module(), data)
    session.answer("wing", {"wing::blue": 1.0}, 1.0)
    with pytest.raises(ConfigError, match=message):
        session.answer(group, values, 1.0)
    assert session.answers == {"wing": {1: 1.0}}
    assert len(session.record.rows) == 1


def test_what_is_no_session_of_this_run(data, tmp_path):
    session = begin(tmp_path, make_module(), data)
    stamp = session.record.stamp
    with pytest.raises(DataError, match="other weights"):
        open_session(Record(tmp_path, stamp), make_module(seed=1), data)
    with pytest.raises(DataError, match="of other images: the test split has 13"):
        open_session(Record(tmp_path, stamp), make_module(), TensorData((8, 6, 13)))
    with pytest.raises(DataError, match="no session '2020-01-01'"):
        Record(tmp_path, "2020-01-01")
    with pytest.raises(DataError, match="not the name of a session"):
        Record(tmp_path, "../secret")
    with session.record.table.open("a") as file:
        file.write("a,b\r\n")
    with pytest.raises(DataError, match="cannot be read as a record of teaching: 2 cells in place of 19"):
        Record(tmp_path, stamp)
    session.record.table.unlink()
    with pytest.raises(ConfigError, match="is gone"):
        session.answer("wing", {"wing::blue": 1.0}, 1.0)
    assert not session.record.table.exists()


def test_what_cannot_be_taught():
    with pytest.raises(UnsupportedError, match="its units are prototypes"):
        require_teachable(make_prototypes().network)
    with pytest.raises(UnsupportedError, match="found, and not labelled"):
        require_teachable(make_posthoc(truth=False).network)
