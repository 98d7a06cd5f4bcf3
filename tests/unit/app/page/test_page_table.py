"""The table of a split on the page: which rows, in which order, and what they say, by hand."""

import math
import time
from io import BytesIO

import pytest
import torch
from PIL import Image

from ibd.app.page.site import Site
from ibd.app.page.split_answers import read_answers
from ibd.app.page.split_figures import concept_curve, confusion, figures
from ibd.app.page.split_view import SplitViews, View
from ibd.app.page.table import HAVINGS, STATES, Rows, Wanted, described, ordered, rows_of, selected
from ibd.app.page.thumbnails import SIDE, Thumbnails, thumbnail
from ibd.errors import DataError
from ibd.models.thresholds import Threshold, Thresholds
from ibd.models.where_wrong import where_model_wrong
from ibd.types import Quantity
from tests.model_makers import TensorData, make_module, make_prototypes
from tests.page_makers import make_run

NAN = math.nan


@pytest.fixture
def rows():
    """Five images: ant, ant, bee, bee, cow; the second is taken for a bee, the last has no answer."""
    truth = torch.tensor([[1, 4.0], [0, NAN], [1, 6.0], [NAN, 5.0], [0, 5.0]])
    values = torch.tensor([[0.9, 4.5], [0.8, 1.0], [0.3, 6.0], [0.7, 5.0], [0.1, 8.0]])
    return Rows(
        "test",
        ("ant", "bee", "cow"),
        ("red", "length"),
        {1: Quantity("mm", 5.0, 2.0)},
        ["B/1.png", "a/2.png", "c/3.png", "b/4.png", "A/5.png"],
        torch.tensor([0, 2, 4, 6, 8]),
        torch.tensor([0, 0, 1, 1, 2]),
        torch.tensor([0, 1, 1, 1, -1]),
        torch.tensor([0.9, 0.6, 0.6, 0.8, NAN], dtype=torch.float64),
        torch.tensor([True, False, True, True, False]),
        torch.tensor([False, False, True, False, True]),
        values,
        truth,
        torch.stack([values[:, 0] > 0.5, torch.zeros(5, dtype=torch.bool)], 1),
        torch.tensor([[0.1, 0.25], [0.8, NAN], [0.7, 0.0], [NAN, 0.0], [0.1, 1.5]]),
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"state": "right"}, [0, 2, 3]),
        ({"state": "wrong"}, [1, 4]),
        ({"state": "abstains"}, [2, 4]),
        ({"state": "answered"}, [0, 1, 3]),
        ({"truth": 0}, [0, 1]),
        ({"predicted": 1}, [1, 2, 3]),
        ({"truth": 0, "predicted": 1}, [1]),
        ({"least": 0.6}, [0, 1, 2, 3]),
        ({"most": 0.6}, [1, 2]),
        ({"least": 0.7, "most": 0.85}, [3]),
        ({"concept": 0, "having": "true"}, [0, 2]),
        ({"concept": 0, "having": "false"}, [1, 4]),
        ({"concept": 0, "having": "unknown"}, [3]),
        ({"concept": 0, "having": "called"}, [0, 1, 3]),
        ({"concept": 0, "having": "not called"}, [2, 4]),
        ({"concept": 0, "having": "wrong"}, [1, 2]),
        ({"concept": 1, "having": "wrong"}, []),
        ({"concept": 1, "having": "unknown"}, [1]),
        ({"text": "A/"}, [1, 4]),
        ({"text": "png", "state": "wrong", "most": 0.7}, [1]),
    ],
)
def test_what_is_wanted(rows, wanted, expected):
    assert selected(rows, Wanted(**wanted)).tolist() == expected


def test_no_way_to_want_fails(rows):
    for state in STATES:
        for having in HAVINGS:
            selected(rows, Wanted(state=state, concept=1, having=having))


@pytest.mark.parametrize(
    ("by", "descending", "expected"),
    [
        ("image", False, [0, 1, 2, 3, 4]),
        ("image", True, [4, 3, 2, 1, 0]),
        ("name", False, [1, 4, 0, 3, 2]),
        ("name", True, [2, 3, 0, 4, 1]),
        ("truth", True, [4, 2, 3, 0, 1]),
        ("predicted", False, [4, 0, 1, 2, 3]),
        ("confidence", False, [1, 2, 3, 0, 4]),  # what has none is last, both ways
        ("confidence", True, [0, 3, 1, 2, 4]),
        ("right", False, [1, 4, 0, 2, 3]),
        ("concepts", True, [1, 4, 2, 0, 3]),
        ("concept", False, [4, 2, 3, 1, 0]),
    ],
)
def test_orders(rows, by, descending, expected):
    assert ordered(rows, torch.arange(5), by, descending, concept=0).tolist() == expected


def test_an_order_keeps_to_what_is_selected(rows):
    assert ordered(rows, torch.tensor([0, 2, 3]), "name").tolist() == [0, 3, 2]
    assert ordered(rows, torch.tensor([0, 2, 3]), "confidence").tolist() == [2, 3, 0]


def test_a_row_names_its_worst_concepts(rows):
    assert described(rows, 1) == {
        "image": "test:2",
        "name": "a/2.png",
        "truth": 0,
        "predicted": 1,
        "confidence": 0.6,
        "right": False,
        "abstains": False,
        "concepts": [{"name": "red", "truth": "no", "value": "0.80", "wrong": True}],
        "chosen": None,
        "known": 1,
        "wrong": 1,
    }
    last = described(rows, 4)
    assert last["predicted"] is None
    assert last["confidence"] != last["confidence"]
    assert [concept["name"] for concept in last["concepts"]] == ["length", "red"]
    assert last["concepts"][0]["truth"] == Quantity("mm", 5.0, 2.0).shown(5.0)
    assert described(rows, 4, shown=1)["concepts"] == last["concepts"][:1]
    assert described(rows, 3, 0)["chosen"] == {"name": "red", "truth": "unknown", "value": "0.70", "wrong": False}


@pytest.fixture(scope="module")
def view():
    model, data = make_module(), TensorData()
    answers = read_answers(model, data, "test")
    wrong = where_model_wrong(model, answers.read)
    return View(answers, wrong, rows_of(model, answers, wrong))


def test_it_is_what_the_model_says(view):
    rows, model, data = view.rows, make_module(), TensorData()
    prediction = model.predict(data.splits["test"][0])
    assert rows.predicted.tolist() == prediction.labels.tolist()
    torch.testing.assert_close(rows.confidence.float(), prediction.probabilities.amax(1))
    torch.testing.assert_close(rows.values, prediction.unit_values)
    assert bool((rows.called == prediction.present).all())
    torch.testing.assert_close(rows.truth, data.dataset("test").concepts, equal_nan=True)


def test_a_cell_of_the_matrix_opens_as_many_images_as_it_says(view):
    found = confusion(view)
    assert sum(count for *_, count in found["cells"]) == len(view.rows.names)
    for truth, predicted, count in found["cells"]:
        assert len(selected(view.rows, Wanted(truth=truth, predicted=predicted))) == count
        assert count > 0


def test_what_is_called_wrongly_is_what_the_accuracy_says(view):
    for k, concept in enumerate(figures(view)["concepts"]):
        count = len(selected(view.rows, Wanted(concept=k, having="wrong")))
        known = concept["yes"] + concept["no"]
        assert count == (round(known * (1 - concept["accuracy"][0])) if known else 0)


def test_the_curves_count_what_is_known(view):
    whole = figures(view)
    assert whole["concept_reliability"]["count"] == sum(each["yes"] + each["no"] for each in whole["concepts"])
    one = concept_curve(view, 0)
    assert one["count"] == whole["concepts"][0]["yes"] + whole["concepts"][0]["no"]
    assert one["error"] == pytest.approx(whole["concepts"][0]["ece"], abs=1e-6)
    assert sum(number for _, _, number, *_ in one["bins"]) == one["count"]


def test_thresholds_change_what_is_called_and_who_abstains(view):
    model = make_module()
    never = Threshold(1.0, 10, 4, 0, 0)
    model.thresholds = Thresholds("val", 0, 0, never, {"wing::red": never})
    answers = read_answers(model, TensorData(), "test")
    rows = rows_of(model, answers, where_model_wrong(model, answers.read))
    assert not bool(rows.called[:, 0].any())
    assert bool((rows.called[:, 1:] == view.rows.called[:, 1:]).all())
    assert int(rows.abstains.sum()) > int(view.rows.abstains.sum())
    assert rows.right.tolist() == view.rows.right.tolist()  # what `ibd test` counts stays


def test_where_the_network_has_no_answer_there_is_no_prediction():
    model, data = make_module(), TensorData()
    level = float(model.predict(data.splits["test"][0]).logits[:, 0].median())
    model.network.abstains = lambda logits: logits[:, 0] > level
    answers = read_answers(model, data, "test")
    rows = rows_of(model, answers, where_model_wrong(model, answers.read))
    silent = answers.read.logits[:, 0] > level
    assert 0 < int(silent.sum()) < 30
    assert (rows.predicted == -1).tolist() == rows.confidence.isnan().tolist() == rows.abstains.tolist()
    assert rows.abstains.tolist() == silent.tolist()
    assert not bool(rows.right[silent].any())


def test_units_that_are_no_concepts_have_no_columns():
    model = make_prototypes()
    data = TensorData(spec=model.spec)
    answers = read_answers(model, data, "test")
    wrong = where_model_wrong(model, answers.read)
    view = View(answers, wrong, rows_of(model, answers, wrong))
    assert view.rows.concept_names == ()
    assert described(view.rows, 0)["concepts"] == []
    assert figures(view)["concept_reliability"] is None


def test_thumbnails_are_small_and_few_are_kept():
    image = torch.rand(3, 200, 100)
    assert Image.open(BytesIO(thumbnail(image))).size == (SIDE // 2, SIDE)
    assert Image.open(BytesIO(thumbnail(image[:, :40, :30]))).size == (30, 40)
    one = len(thumbnail(image))
    kept = Thumbnails(most=one * 5 // 2)
    for number in range(4):
        kept.keep(("test", str(number)), image)
    assert kept.size == 2 * one
    assert kept.find(("test", "1")) is None
    assert kept.find(("test", "3")) == thumbnail(image)


def test_a_split_that_could_not_be_read_is_read_when_it_is_there_again(tmp_path, monkeypatch):
    views = SplitViews(Site([str(make_run(tmp_path / "birds"))]).run("birds"))

    def gone(split, told):
        raise DataError("there is no such file")

    monkeypatch.setattr(views, "get", gone)
    assert until_ended(views)["error"] == "there is no such file"
    monkeypatch.undo()
    state = until_ended(views)
    assert (state["ready"], state["error"], state["images"]) == (True, None, 33)


def until_ended(views):
    """Ask for the test images until they are read, or cannot be."""
    for _ in range(2000):
        if (state := views.begin("test"))["ended"]:
            return state
        time.sleep(0.005)
    raise AssertionError("it never ends")
