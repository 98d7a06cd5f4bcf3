"""The answers of a split that the page is made of: which come first, that they are the model's, that they are kept."""

import threading

import pytest
import torch

from ibd.app.page.long_work import Stopped, Work, Works
from ibd.app.page.split_answers import Answers, KeptAnswers, read_answers
from ibd.errors import DataError
from ibd.models.calibration.reading import ReadOutputs, read_outputs
from ibd.models.thresholds import Threshold, Thresholds
from ibd.training.calibrating import calibrate
from tests.model_makers import TensorData, make_module


def answers(predicted, labels, confidence, abstains=None):
    """Answers of two classes, by hand."""
    count = len(predicted)
    sure, predicted = torch.tensor(confidence), torch.tensor(predicted)
    probabilities = torch.where(predicted[:, None] == torch.arange(2), sure[:, None], 1 - sure[:, None])
    read = ReadOutputs(torch.zeros(count, 1), torch.zeros(count, 0), torch.tensor(labels), probabilities.log())
    silent = torch.zeros(count, dtype=torch.bool) if abstains is None else torch.tensor(abstains)
    names = [f"{row}.png" for row in range(count)]
    index, values = torch.arange(count), torch.zeros(count, 1)
    return Answers("test", count, index, names, read, values, probabilities, predicted, silent)


def test_wrong_ones_come_first_then_the_unsure():
    found = answers([0, 1, 0, 1, 1], [0, 0, 0, 0, 1], [0.9, 0.8, 0.6, 0.7, 0.95])
    assert found.order() == [3, 1, 2, 0, 4]
    assert found.wrong.tolist() == [False, True, False, True, False]


def test_no_prediction_is_not_wrong_but_before_what_is_right():
    found = answers([0, 1, 0], [0, 0, 1], [0.6, 0.9, 0.55], [False, False, True])
    assert found.order() == [1, 2, 0]


def test_equal_ones_stay_in_order():
    assert answers([0] * 40, [0] * 40, [0.7] * 40).order() == list(range(40))


def test_they_are_what_predict_says_and_the_progress_is_told():
    model, data, said = make_module(), TensorData(), []
    found = read_answers(model, data, "test", lambda *step: said.append(step))
    whole = model.predict(data.splits["test"][0])
    torch.testing.assert_close(found.values, whole.unit_values)
    torch.testing.assert_close(found.probabilities, whole.probabilities)
    torch.testing.assert_close(found.read.logits, read_outputs(model, data, "test").logits)
    assert found.predicted.tolist() == whole.labels.tolist()
    assert found.names[3] == "tensor 3"
    assert found.read.labels.tolist() == data.splits["test"][1].tolist()
    assert said == [(0, 30), (16, 30), (30, 30)]


def test_the_copy_that_is_read_is_made_while_nobody_runs_the_model(monkeypatch):
    model, lock, held = make_module(), threading.RLock(), []
    copied = lambda self, memo: held.append(lock._is_owned()) or self  # noqa: E731
    monkeypatch.setattr(type(model), "__deepcopy__", copied, raising=False)
    KeptAnswers(model, TensorData(), lock=lock).get("test")
    assert held == [True]


def test_thresholds_that_are_set_while_a_split_is_read_hold_for_it():
    model = make_module()

    def told(done, total):
        model.thresholds = Thresholds("val", 0, 0, Threshold(1.0, 0, 0, 0, 0))

    assert KeptAnswers(model, TensorData()).get("test", told).abstains.all()


def test_of_many_images_some_are_read_from_all_over_the_split():
    model, data = make_module(), TensorData()
    found = read_answers(model, data, "test", most=4)
    assert (found.index.tolist(), found.of, len(found)) == ([0, 7, 15, 22], 30, 4)
    torch.testing.assert_close(found.read.logits, model.predict(data.splits["test"][0][[0, 7, 15, 22]]).logits)
    assert found.read.labels.tolist() == data.splits["test"][1][[0, 7, 15, 22]].tolist()


def test_a_split_is_read_once_and_again_by_a_new_calibration():
    model, data = make_module(), TensorData()
    kept = KeptAnswers(model, data)
    assert kept.ready("val") is None
    first = kept.get("val")
    assert kept.get("val") is first
    assert kept.ready("val") is first
    data.asked.clear()
    calibrate(model, data=data, coverage=None)
    data.asked.clear()
    kept.calibrated()
    assert kept.ready("val") is not first
    torch.testing.assert_close(kept.get("val").probabilities, model.predict(data.splits["val"][0]).probabilities)
    assert data.asked == []
    kept.forget()
    assert kept.ready("val") is None


def test_an_empty_split_is_one_line():
    with pytest.raises(DataError, match="there are no val images"):
        read_answers(make_module(), TensorData((4, 0, 4)), "val")


def test_work_tells_how_far_it_is_and_what_it_made():
    go = threading.Event()

    def count(told):
        told(1, 2)
        go.wait(5)
        told(2, 2)
        return 7

    work = Work(count, "counting")
    assert not work.wait(0.01)
    assert work.result is None
    go.set()
    assert work.wait(5)
    assert work.result == 7
    assert work.state() == {
        "title": "counting",
        "done": 2,
        "total": 2,
        "ended": True,
        "error": None,
        "stopped": False,
    }


def test_work_that_fails_says_so_in_one_line():
    def fail(told):
        raise DataError("no\nimage")

    def break_down(told):
        raise RuntimeError("out of\nmemory")

    for function, line in ((fail, "no image"), (break_down, "reading failed: out of memory")):
        work = Work(function, "reading")
        assert work.wait(5)
        assert work.state()["error"] == line


def test_of_a_lane_only_the_newest_goes_on():
    ends = []

    def forever(told):
        try:
            while True:
                told(0, 0)
        except Stopped:
            ends.append("stopped")
            raise

    works = Works()
    first = works.start("maps lrp", forever, "lrp", lane="maps ")
    assert works.start("maps lrp", forever, "lrp", lane="maps ") is first
    second = works.start("maps shap", forever, "shap", lane="maps ")
    assert first.wait(5)
    assert first.state()["stopped"]
    assert not second.ended
    works.stop("maps shap")
    assert second.wait(5)
    assert works.get("maps shap") is None
    assert ends == ["stopped"] * 2


def test_what_nobody_asks_for_any_more_ends():
    def forever(told):
        while True:
            told(0, 0)

    works = Works()
    work = works.start("map", forever, "map", patience=0.05)
    assert work.wait(5)
    assert work.stopped
    kept = works.start("map", forever, "map", patience=60)
    assert kept is not work
    assert not kept.wait(0.1)
    works.only("ma", ["map"])
    assert not kept.wait(0.05)
    works.only("ma", [])
    assert kept.wait(5)
