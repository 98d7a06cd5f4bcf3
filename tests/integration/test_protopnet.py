"""Prototype networks through the command line: phases, resuming, finishing."""

import signal
from unittest import mock

import pytest
import torch

from ibd.io import load_run
from ibd.training.display import EpochLines
from tests.command import (
    QUIET,
    answer_of,
    assert_same_weights,
    checkpoint,
    fitted,
    ibd,
    rows,
    start,
)

CONFIG = """
name: own
model:
  {name: protopnet, per_class: 2, dimension: 8, prune: {k: 6, threshold: 2}, last_layer: {ridge: 0.1},
   warm: {epochs: 2}, joint: {epochs: 3}, push: {start: 2, every: 2},
   backbone: {name: 'own:Dropping'}}
data: {name: toybirds, preset: tiny, train_size: 64, val_size: 33, test_size: 33, batch_size: 16, augment: flip}
optimizer: {lr: 0.01}
logger: {figures_every: 0}
"""
OWN = """
import os, signal
from torch import nn
from ibd.backbones.small import SmallCNN
from ibd.models.protopnet.lightning import ProtoPNet

class Dropping(SmallCNN):
    '''A backbone with dropout.'''
    def __init__(self, width: int = 4):
        super().__init__(width, 3)
        self.drop = nn.Dropout(0.3)

class Dying(ProtoPNet):
    '''Kills its process at a certain step, or while it is finished.'''
    def training_step(self, batch, batch_idx):
        if str(self.global_step) == os.environ.get("DIE_AT"):
            os.kill(os.getpid(), int(os.environ.get("DIE_BY", signal.SIGKILL)))
        return super().training_step(batch, batch_idx)
"""
STEPS = 4
"""Optimizer steps of an epoch."""


@pytest.fixture(autouse=True)
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(CONFIG)


def assert_same_run(one, two):
    assert rows(one) == rows(two)
    for which in ("last", "best"):
        assert_same_weights(one, two, which)
        moments = [checkpoint(run, which)["optimizer_states"][0]["state"] for run in (one, two)]
        for index, state in moments[0].items():
            for name, value in state.items():
                assert torch.equal(value, moments[1][index][name])
    assert (one / "finished.json").read_text() == (two / "finished.json").read_text()


def assert_patches(run):
    for which in ("best", "last"):
        model, data = load_run(run, which=which, trust=True)
        assert float(model.verify_projection(data).max()) <= 1e-5


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
@pytest.mark.parametrize("schedule", ["onecycle", "constant", "step"])
def test_stopped_in_every_phase(schedule, tmp_path):
    """Inside warm, between the phases, inside joint, and after a projection in the middle of the training."""
    config = ("own.yaml", *QUIET, f"optimizer.schedule={schedule}", "optimizer.step_epochs=1")
    whole = fitted(*config)
    assert len(rows(whole)) == 5
    assert_patches(whole)
    for epochs in (1, 2, 3, 4):
        run = stopped_after(epochs, tmp_path / str(epochs), *config)
        answer = ibd("fit", f"resume={run}", "--trust")
        assert answer.code == 0, answer.err
        assert_same_run(whole, run)
        assert_patches(run)


@pytest.mark.slow
def test_resumed_after_a_projection(tmp_path):
    config = ("own.yaml", *QUIET, "model.warm.epochs=1", "model.joint.epochs=2", "model.push.start=1")
    whole = fitted(*config)
    run = stopped_after(2, tmp_path, *config)
    assert ibd("fit", f"resume={run}", "--trust").code == 0
    assert_same_run(whole, run)


@pytest.mark.slow
@pytest.mark.parametrize("at", [STEPS + 1, 3 * STEPS + 2])
def test_killed_inside_a_phase(at, tmp_path):
    """By SIGKILL in the middle of an epoch of warm, and of one of joint that follows a projection."""
    change = ("model.name=own:Dying",)
    whole = fitted("own.yaml", *QUIET, *change)
    process = start("fit", "own.yaml", *QUIET, *change, "output=killed", cwd=tmp_path, DIE_AT=str(at))
    assert answer_of(process).code == -signal.SIGKILL
    run = next((tmp_path / "killed" / "own").iterdir())
    assert len(rows(run)) == at // STEPS
    answer = ibd("fit", f"resume={run}", "--trust")
    assert answer.code == 0, answer.err
    assert_same_run(whole, run)


@pytest.mark.slow
def test_interrupted_and_finished(tmp_path):
    """Ctrl-C inside joint: the run is projected and pruned, and going on gives the numbers of an uninterrupted one."""
    change = ("model.name=own:Dying", "model.push.every=0")
    whole = fitted("own.yaml", *QUIET, *change)
    process = start("fit", "own.yaml", *QUIET, *change, "output=killed", cwd=tmp_path, DIE_AT=str(3 * STEPS + 1),
                    DIE_BY=str(int(signal.SIGINT)))  # fmt: skip
    answer = answer_of(process)
    assert answer.code == 130, answer.err
    run = tmp_path / answer.run
    assert checkpoint(run)["epoch"] == 2
    assert not checkpoint(run)["ibd_unfinished"]["network.provenance.valid"]
    assert_patches(run)
    assert ibd("test", run, "--trust").code == 0
    assert ibd("fit", f"resume={run}", "--trust").code == 0
    assert_same_run(whole, run)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions(precision, tmp_path):
    """Trained, stopped, resumed, read and scored; what was a patch then is one now."""
    config = ("own.yaml", *QUIET, f"trainer.precision={precision}")
    whole = fitted(*config)
    run = stopped_after(3, tmp_path, *config)
    assert ibd("fit", f"resume={run}", "--trust").code == 0
    assert_same_run(whole, run)
    assert_patches(run)
    assert ibd("test", run, "--trust").code == 0


@pytest.mark.slow
def test_cut_short(tmp_path):
    """With fewer epochs than the phases have it ends in warm, with a projection; more there cannot be."""
    run = fitted("own.yaml", *QUIET, "trainer.max_epochs=1")
    assert [row["epoch"] for row in rows(run)] == ["0", ""]  # the second one is of finishing it
    assert_patches(run)
    mistake = ibd("fit", "own.yaml", *QUIET, "trainer.max_epochs=6").mistake
    assert mistake == (
        "trainer.max_epochs: 6 given, but the phases of the model have 5 epochs: leave it out, or cut the training "
        "short with fewer"
    )


@pytest.mark.slow
def test_cut_short_and_gone_on_with():
    """The projection at the end of a training that was cut short leaves no trace in one that goes on."""
    whole = fitted("own.yaml", *QUIET)
    cut = fitted("own.yaml", *QUIET, "trainer.max_epochs=2", "output=cut")
    assert ibd("fit", f"resume={cut}", "trainer.max_epochs=5", "--trust").code == 0
    assert_same_weights(whole, cut)


def test_every_projection_must_be_scored():
    mistake = ibd("fit", "own.yaml", *QUIET, "trainer.check_val_every_n_epoch=2").late_mistake
    assert mistake.startswith("trainer.check_val_every_n_epoch: 2 given, 1 is needed")


def test_a_misspelt_group():
    mistake = ibd("fit", "own.yaml", *QUIET, "model.joint.rates.bakbone=1").mistake
    assert mistake.endswith("there is no group 'bakbone'. Did you mean 'backbone'?")
    assert "joint.rates" in mistake


@pytest.mark.slow
def test_error_14_the_best_checkpoint_is_a_projected_one():
    """Though an earlier epoch, whose prototypes were no patches, may have been better on the validation images."""
    run = fitted("own.yaml", *QUIET, "model.warm.epochs=1", "model.joint.epochs=2", "model.push.every=0",
                 "model.backbone.width=2", "early_stopping={patience: 1}")  # fmt: skip
    assert [row["val/projected_accuracy"] == "" or row["val/projected_accuracy"] == "nan" for row in rows(run)] == [
        True,
        True,
        False,
    ]
    assert checkpoint(run, "best")["epoch"] == 2
    assert bool(checkpoint(run, "best")["state_dict"]["network.provenance.valid"])
    assert_patches(run)
    prediction = ibd("predict", run, "--help")
    assert prediction.code == 0
