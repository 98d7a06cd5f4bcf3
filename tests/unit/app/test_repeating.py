"""Which trainings of a repetition count as tested, by files written by hand."""

import hashlib
import json

import pytest

from ibd.app.repeating import running
from ibd.app.repeating.plan import Plan

ANEW = "test/accuracy 0.9"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose test is a line, and which has been tested as it was trained."""
    monkeypatch.setattr(running, "show_test", lambda *_: iter([ANEW]))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "test.json").write_text("{}")
    write_about(tmp_path)
    return tmp_path


def write_about(run, changes=(), weights=b"weights"):
    about = {"sha256": hashlib.sha256(weights).hexdigest(), "changes": list(changes)}
    (run / "tested" / "test").mkdir(parents=True, exist_ok=True)
    (run / "tested" / "test" / "summary.json").write_text(json.dumps({"about": about}))


def test_a_test_of_the_best_checkpoint_on_its_own_images_is_taken(run):
    assert running._tested(run) == "tested before"


@pytest.mark.parametrize(
    "about",
    [
        pytest.param({"changes": ["data.tag_test=absent"]}, id="on changed images"),
        pytest.param({"weights": b"the last epoch"}, id="of another checkpoint"),
    ],
)
def test_another_test_by_hand_is_not_taken_for_it(run, about):
    """Its ``test.json`` is newer than the weights, but of other images or weights than those of the other trainings."""
    write_about(run, **about)
    assert running._tested(run) == ANEW


def test_what_a_test_has_left_half_is_tested_anew(run):
    (run / "tested" / "test" / "summary.json").write_text("{")
    assert running._tested(run) == ANEW
    write_about(run)
    (run / "test.json").unlink()
    assert running._tested(run) == ANEW


def test_a_trained_run_that_was_deleted_is_trained_anew(tmp_path, monkeypatch):
    """Its owner wanted it anew; `no run` would leave the whole repetition stuck."""
    plan = Plan(tmp_path, "seed", (0, 1), "mine.yaml", trained=["seed_0", "seed_1"])
    plan.run("seed_0").mkdir()
    trained = []
    monkeypatch.setattr(running, "_train", lambda plan, name: trained.append(name))
    monkeypatch.setattr(running, "_tested", lambda _: "tested")
    lines = list(running.run_plan(plan))
    assert trained == ["seed_1"]
    assert lines[:2] == ["seed_0 (1 of 2): trained before", "seed_0 (1 of 2): tested"]
    assert json.loads((tmp_path / "plan.json").read_text())["trained"] == ["seed_0", "seed_1"]
