"""A training that is ended early: by Ctrl-C, by a loss that is no number, by being out of memory."""

import json
import os
import signal
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

from ibd.io import load_model
from ibd.models.cbm.lightning import ConceptBottleneck
from tests.command import SMALL, TINY, answer_of, checkpoint, fitted, ibd, rows, start, wait_for

STEPS = 2
"""Optimizer steps of an epoch: 64 images, 32 at a time."""
CONFIG = ("fit", TINY, *SMALL, "trainer.max_epochs=4")


def press_ctrl_c(method, when):
    """Patch a method of the model so that it presses Ctrl-C (a real SIGINT) as soon as `when(model)`."""
    real = getattr(ConceptBottleneck, method)

    def pressing(self, *arguments):
        if when(self):
            signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)

    return mock.patch.object(ConceptBottleneck, method, pressing)


def test_ctrl_c_leaves_a_usable_run(bird):
    before = signal.getsignal(signal.SIGINT)
    with press_ctrl_c("training_step", lambda model: model.global_step == 2 * STEPS + 1):
        answer = ibd(*CONFIG, "model.regime=sequential", "model.head_epochs=3")
    assert answer.code == 130
    assert "Traceback" not in answer.err
    assert f"interrupted: {answer.run}" in answer.out
    assert f"usable as it is, with the finished epochs; to continue: ibd fit resume={answer.run}" in answer.out
    assert "head/val_accuracy" in answer.out
    assert [row["epoch"] for row in rows(answer.run)] == ["0", "1", ""]  # the last one is of the head
    assert json.loads((answer.run / "finished.json").read_text())["best"]
    assert ibd("predict", answer.run, bird).code == 0
    assert ibd("test", answer.run).code == 0
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_to_the_same_numbers():
    whole = fitted(*CONFIG[1:], "model.regime=sequential", "model.head_epochs=3")
    with press_ctrl_c("training_step", lambda model: model.global_step == 2 * STEPS + 1):
        run = ibd(*CONFIG, "model.regime=sequential", "model.head_epochs=3").run
    assert ibd("fit", f"resume={run}").code == 0
    assert rows(run) == rows(whole)
    for name, value in checkpoint(whole)["state_dict"].items():
        assert torch.equal(value, checkpoint(run)["state_dict"][name]), name


def test_ctrl_c_before_the_first_epoch_has_ended():
    with press_ctrl_c("training_step", lambda model: model.global_step == 1):
        answer = ibd(*CONFIG)
    assert answer.code == 130
    assert answer.out == ""
    line = answer.err.splitlines()[-1]
    assert line.startswith("ibd: interrupted: 'runs/toybirds-tiny/")
    assert line.endswith("' stopped before its first epoch had ended: there is no model to keep")
    assert "Traceback" not in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("which", [pytest.param(1, marks=pytest.mark.slow, id="last"), pytest.param(2, id="best")])
def test_ctrl_c_while_the_model_is_finished(which, bird):
    """Both checkpoints are whole, and the run can be completed."""
    calls = []
    again = ("checkpoint.monitor=lr", "checkpoint.mode=max")  # so that best is not last, and is finished, too
    with press_ctrl_c("finish", lambda model: calls.append(model) or len(calls) == which):
        answer = ibd(*CONFIG, *again)
    assert answer.code == 130
    run = next(Path("runs/toybirds-tiny").iterdir())
    kept = f"'{run}' keeps its checkpoints; `ibd fit resume={run}` completes it"
    assert answer.err.splitlines()[-1] == f"ibd: interrupted: {kept}"
    for name in ("best", "last"):
        assert ibd("predict", run / "checkpoints" / f"{name}.ckpt", bird).code == 0
    assert not (run / "finished.json").exists()
    assert ibd("fit", f"resume={run}").code == 0
    assert set(json.loads((run / "finished.json").read_text())) == {"last", "best"}
    assert not torch.isnan(checkpoint(run, "best")["state_dict"]["network.low"]).any()


def test_ctrl_c_elsewhere(trained, bird):
    with mock.patch("ibd.models.loading.load_network", side_effect=KeyboardInterrupt):
        answer = ibd("predict", trained, bird)
    assert (answer.code, answer.err) == (130, "ibd: interrupted\n")


@pytest.mark.slow
def test_ctrl_c_of_a_process(bird, tmp_path):
    """As a shell does it: SIGINT to the whole process group, with loader processes, twice."""
    process = start("fit", TINY, *SMALL, "trainer.max_epochs=2000", "data.num_workers=2", "output=runs", cwd=tmp_path)
    wait_for(lambda: any(tmp_path.glob("runs/*/*/checkpoints/best.ckpt")), process)
    os.killpg(process.pid, signal.SIGINT)
    answer = answer_of(process)
    assert answer.code == 130, answer.err
    assert "Traceback" not in answer.err
    assert "usable as it is" in answer.out
    assert ibd("predict", tmp_path / answer.run, bird).code == 0


@pytest.mark.slow
def test_impatient_ctrl_c_of_a_process(bird, tmp_path):
    """Again and again: whatever it is doing then, what it leaves behind can be read."""
    process = start("fit", TINY, *SMALL, "trainer.max_epochs=2000", "output=runs", cwd=tmp_path)
    wait_for(lambda: any(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")), process)
    for _ in range(200):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    answer = answer_of(process)
    assert answer.code in (130, -signal.SIGINT), answer.err
    run = next(tmp_path.glob("runs/*/*"))
    for name in ("best", "last"):
        assert ibd("predict", run / "checkpoints" / f"{name}.ckpt", bird).code == 0


@pytest.mark.slow
def test_terminated_process(bird, tmp_path):
    """SIGTERM, as a cluster sends it before it takes a machine away."""
    process = start("fit", TINY, *SMALL, "trainer.max_epochs=2000", "output=runs", cwd=tmp_path)
    wait_for(lambda: any(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")), process)
    process.terminate()
    answer = answer_of(process)
    assert answer.code != 0
    assert "Traceback" not in answer.err
    assert ibd("predict", next(tmp_path.glob("runs/*/*")), bird).code == 0


def test_a_loss_that_is_no_number_at_once():
    answer = ibd(*CONFIG, "optimizer.lr=1e30", "optimizer.schedule=constant")
    message = answer.late_mistake
    assert message.startswith("the loss is no longer finite at epoch 1, step ")
    assert "Try a lower optimizer.lr or trainer.gradient_clip_val=1" in message
    assert "the last finite one was " in message
    assert message.endswith("keeps no model: no epoch had ended")


@pytest.mark.slow
def test_a_loss_that_is_no_number_later(bird):
    """Says where and what is kept; what was trained before is there."""
    real = ConceptBottleneck.losses

    def spoilt(self, output, batch):
        terms = real(self, output, batch)
        factor = torch.nan if self.training and self.global_step >= 2 * STEPS + 1 else 1.0
        return {**terms, "loss": terms["loss"] * factor}

    with mock.patch.object(ConceptBottleneck, "losses", spoilt):
        answer = ibd(*CONFIG)
    message = answer.late_mistake
    assert message.startswith(
        f"the loss is no longer finite at epoch 3, step {2 * STEPS + 2} (nan, the last finite one was 0."
    )
    run = next(Path("runs/toybirds-tiny").iterdir())
    assert message.endswith(f"'{run}' keeps the finished epochs")
    assert checkpoint(run)["epoch"] == 1
    assert all(bool(p.isfinite().all()) for p in load_model(run).parameters())
    assert ibd("predict", run, bird).code == 0
    assert [row["epoch"] for row in rows(run)] == ["0", "1"]


def test_an_error_of_ours_is_not_hidden():
    with mock.patch.object(ConceptBottleneck, "losses", side_effect=RuntimeError("a bug")), pytest.raises(RuntimeError):
        ibd(*CONFIG)
