"""A run that was killed, and went on, has the numbers of one that was not."""

import shutil
import signal
from unittest import mock

import pytest
import torch

import ibd as package
from ibd.training.display import EpochLines
from tests.command import (
    SMALL,
    TINY,
    answer_of,
    assert_same_weights,
    checkpoint,
    fitted,
    ibd,
    rows,
    start,
)

EPOCHS = 4
CONFIG = (TINY, *SMALL, f"trainer.max_epochs={EPOCHS}")
OWN = """
import os, signal
from torch import nn
from ibd.backbones.small import SmallCNN
from ibd.models.cbm.lightning import ConceptBottleneck

class Dropping(SmallCNN):
    '''A backbone with dropout.'''
    def __init__(self, width: int = 4):
        super().__init__(width, 3)
        self.drop = nn.Dropout(0.5)

class Dying(ConceptBottleneck):
    '''Kills its process at a certain step, or (`die_at: -1`) while it is finished.'''
    def training_step(self, batch, batch_idx):
        if str(self.global_step) == os.environ.get("DIE_AT"):
            os.kill(os.getpid(), int(os.environ.get("DIE_BY", signal.SIGKILL)))
        return super().training_step(batch, batch_idx)

    def finish(self, data):
        if os.environ.get("DIE_AT") == "finish":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().finish(data)
"""


def assert_same_run(one, two):
    assert rows(one) == rows(two)
    for which in ("last", "best"):
        assert_same_weights(one, two, which)
        for key in ("epoch", "global_step", "lr_schedulers"):
            assert checkpoint(one, which)[key] == checkpoint(two, which)[key]
        moments = [checkpoint(run, which)["optimizer_states"][0]["state"] for run in (one, two)]
        for index, state in moments[0].items():
            for name, value in state.items():
                assert torch.equal(value, moments[1][index][name])
    assert (one / "finished.json").read_text() == (two / "finished.json").read_text()


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    text = (
        "name: own\n"
        "model: {name: 'own:Dying', head_epochs: 5, concept_weight: 1.0, backbone: {name: 'own:Dropping'}}\n"
        "data: {name: toybirds, preset: tiny, batch_size: 16}\n"
        "optimizer: {lr: 0.01}\n"
        f"trainer: {{max_epochs: {EPOCHS}}}\n"
    )
    (tmp_path / "own.yaml").write_text(text)
    return "own.yaml"


def killed(own, tmp_path, *changes, at, by=signal.SIGKILL):
    """Train in a process that dies at an optimizer step, and return its run folder."""
    process = start("fit", own, *SMALL, *changes, "output=killed", cwd=tmp_path, DIE_AT=str(at), DIE_BY=str(int(by)))
    answer = answer_of(process)
    assert answer.code == -by, answer.err
    return next((tmp_path / "killed" / "own").iterdir())


STEPS = 4
"""Optimizer steps of an epoch: 64 images, 16 at a time."""


@pytest.mark.parametrize("regime", ["joint", "sequential"])
@pytest.mark.slow
def test_killed_in_an_epoch(regime, own, tmp_path):
    """With dropout, augmentation and a schedule; killed by SIGKILL in the middle of the third epoch."""
    changes = (f"model.regime={regime}", "data.augment=flip")
    whole = fitted(own, *SMALL, *changes)
    run = killed(own, tmp_path, *changes, at=2 * STEPS + 2)
    assert [int(row["epoch"]) for row in rows(run)] == [0, 1]
    assert not (run / "finished.json").exists()
    answer = ibd("fit", f"resume={run}", "--trust")
    assert answer.code == 0, answer.err
    assert [line.split()[1] for line in answer.err.splitlines() if line.startswith("epoch ")] == ["3/4", "4/4"]
    assert_same_run(whole, run)
    if regime == "sequential":
        assert checkpoint(run)["ibd_unfinished"]


@pytest.mark.slow
def test_killed_while_finishing(own, tmp_path):
    whole = fitted(own, *SMALL, "model.regime=sequential")
    run = killed(own, tmp_path, "model.regime=sequential", at="finish")
    assert len(rows(run)) == EPOCHS
    assert ibd("predict", run, "x.png", "--trust").code == 2  # it can be read, but there is no such image
    assert ibd("fit", f"resume={run}", "--trust").code == 0
    assert_same_run(whole, run)


@pytest.mark.slow
def test_killed_before_the_first_epoch_ended(own, tmp_path):
    run = killed(own, tmp_path, at=1)
    assert "has no checkpoint yet: it stopped before its first epoch had ended" in ibd("fit", f"resume={run}").mistake


def stopped_after(epochs, tmp_path, *config):
    """Train, but fail so suddenly when `epochs` have ended that nothing is finished; return the run folder."""
    begin = EpochLines.on_train_epoch_start

    def fail(self, trainer, module):
        if trainer.current_epoch == epochs:
            raise LookupError
        begin(self, trainer, module)

    with mock.patch.object(EpochLines, "on_train_epoch_start", fail), pytest.raises(LookupError):
        ibd("fit", *config, f"output={tmp_path / 'stopped'}")
    return next((tmp_path / "stopped").glob("*/*"))


@pytest.mark.slow
def test_resumed_run_may_have_moved(tmp_path):
    """Which was best is remembered, though the folder has another name now."""
    config = (*CONFIG, "checkpoint.monitor=lr", "checkpoint.mode=max")
    whole = fitted(*config)
    part = stopped_after(2, tmp_path, *config)
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(part, moved)
    assert ibd("fit", f"resume={moved}").code == 0
    assert [checkpoint(run, "best")["epoch"] for run in (whole, moved)] == [0, 0]
    assert_same_run(whole, moved)


@pytest.mark.parametrize(
    "schedule", ["onecycle", *(pytest.param(name, marks=pytest.mark.slow) for name in ("constant", "cosine", "step"))]
)
def test_every_schedule_goes_on(schedule, tmp_path):
    config = (*CONFIG, f"optimizer.schedule={schedule}", "optimizer.step_epochs=1", "optimizer.name=sgd")
    whole = fitted(*config)
    run = stopped_after(2, tmp_path, *config)
    assert ibd("fit", f"resume={run}").code == 0
    assert_same_run(whole, run)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.slow
def test_every_precision_goes_on(precision, tmp_path):
    config = (*CONFIG, f"trainer.precision={precision}", "trainer.max_epochs=3")
    whole = fitted(*config)
    run = stopped_after(2, tmp_path, *config)
    assert ibd("fit", f"resume={run}").code == 0
    assert_same_run(whole, run)


@pytest.mark.slow
def test_the_number_of_loader_processes_changes_nothing(tmp_path):
    config = (*CONFIG, "data.augment=flip", "data.part_drop=0.5", "trainer.max_epochs=2")
    assert_same_run(*(fitted(*config, f"data.num_workers={n}", f"output=workers{n}") for n in (0, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3])
def test_the_phases_of_pipnet_go_on(after, tmp_path):
    """Stopped between phases and within one; its views are drawn as they would have been."""
    file = tmp_path / "pipnet.yaml"
    file.write_text(
        "name: pip\n"
        "model:\n"
        "  name: pipnet\n"
        "  prototypes: 8\n"
        "  backbone: {name: small_cnn, width: 4, depth: 3}\n"
        "  pretrain: {epochs: 1}\n"
        "  train: {epochs: 3, classifier_only: 1}\n"
        "data: {name: toybirds, preset: tiny, batch_size: 16, augment: flip}\n"
    )
    whole = fitted(file, *SMALL, f"output={tmp_path / 'whole'}")
    run = stopped_after(after, tmp_path, file, *SMALL)
    assert ibd("fit", f"resume={run}").code == 0
    assert_same_run(whole, run)


@pytest.mark.slow
def test_resumed_with_other_loader_processes(tmp_path):
    config = (*CONFIG, "data.augment=flip", "trainer.max_epochs=3")
    whole = fitted(*config)
    run = stopped_after(2, tmp_path, *config)
    assert ibd("fit", f"resume={run}", "data.num_workers=1").code == 0
    assert_same_run(whole, run)


@pytest.mark.slow
def test_resume_of_a_finished_run_changes_nothing(tmp_path):
    whole = fitted(*CONFIG, "model.regime=sequential", "model.head_epochs=3")
    before = tmp_path / "before"
    shutil.copytree(whole, before)
    answer = ibd("fit", f"resume={whole}")
    assert answer.code == 0
    assert "val/concept_auroc" in answer.out
    assert_same_run(before, whole)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "constant"])
def test_a_finished_run_goes_on_for_longer(schedule, tmp_path):
    """Its first epochs stay as they were; the learning rate goes on as in a run that was to be as long at once."""
    changes = (f"optimizer.schedule={schedule}", "model.regime=sequential", "model.head_epochs=3")
    longer = fitted(*CONFIG, *changes, "trainer.max_epochs=6")
    run = fitted(*CONFIG, *changes)
    first = rows(run)[:EPOCHS]
    answer = ibd("fit", f"resume={run}", "trainer.max_epochs=6")
    assert answer.code == 0, answer.err
    known = [key for key in first[0] if not key.startswith("head/")]
    assert [[row[key] for key in known] for row in rows(run)[:EPOCHS]] == [[row[key] for key in known] for row in first]
    assert [row["epoch"] for row in rows(run)] == [row["epoch"] for row in rows(longer)]
    rates = [[float(row["lr"]) for row in rows(r)[EPOCHS:6]] for r in (run, longer)]
    assert rates[0] == pytest.approx(rates[1])
    assert "max_epochs: 6" in (run / "config.yaml").read_text()
    if schedule == "constant":  # then a longer run is the same up to there
        assert_same_run(longer, run)


@pytest.mark.slow
def test_a_training_of_a_single_step_goes_on(tmp_path):
    run = fitted(TINY, *SMALL, f"output={tmp_path}", "trainer.max_epochs=1", "data.batch_size=64")
    assert checkpoint(run)["global_step"] == 1
    fitted(f"resume={run}", "trainer.max_epochs=3")
    assert checkpoint(run)["global_step"] == 3


@pytest.mark.slow
def test_early_stopping_is_remembered(tmp_path):
    """A run that had stopped stays so, unless it is given more patience."""
    config = (*CONFIG, "trainer.max_epochs=9", "optimizer.schedule=constant", "early_stopping.monitor=lr",
              "early_stopping.mode=max")  # fmt: skip
    run = fitted(*config, "early_stopping.patience=2")
    assert len(rows(run)) == 3
    assert ibd("fit", f"resume={run}").code == 0
    assert len(rows(run)) == 3
    assert ibd("fit", f"resume={run}", "early_stopping.patience=4").code == 0
    assert len(rows(run)) == 5


@pytest.mark.slow
def test_resume_through_the_python_api(tmp_path):
    run = package.fit(*CONFIG, "trainer.max_epochs=1")
    longer = package.fit(None, "trainer.max_epochs=2", resume=run)
    assert longer.folder == run.folder
    assert [row["epoch"] for row in rows(run.folder)] == ["0", "1"]
