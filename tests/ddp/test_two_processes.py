"""Two processes (gloo, on the CPU) against one with twice the batch size: the same numbers, and nobody waits."""

import json
import os
import signal
import sys

import pytest
import torch

from ibd.io import load_run
from tests.command import (
    QUIET,
    answer_of,
    assert_same_weights,
    checkpoint,
    fitted,
    ibd,
    ibd_process,
    rows,
    start,
    wait_for,
)

pytestmark = pytest.mark.ddp

CONFIG = """
name: pair
model:
  {name: 'own:Own', concept_weight: 1.0, head_epochs: 5, backbone: {name: small_cnn, width: 4, depth: 3, norm: group}}
data:
  {name: toybirds, preset: tiny, train_size: 80, val_size: 65, test_size: 33, batch_size: 32, augment: flip,
   part_drop: 0.3, concept_missing: 0.3}
optimizer: {lr: 0.01}
trainer: {max_epochs: 3, precision: 64-true}  # AdamW makes much of the last digits of a small gradient
logger: {figures_every: 2}
"""
OWN = """
import os, signal
import torch
from ibd.models.cbm.lightning import ConceptBottleneck

class Own(ConceptBottleneck):
    '''A concept bottleneck to which things happen.'''

    def losses(self, output, batch):
        terms = super().losses(output, batch)
        if self.training and os.environ.get("NAN_AT") == f"{self.global_rank}:{self.global_step}":
            terms["loss"] = terms["loss"] * torch.nan
        step = str(self.global_step)
        if self.training and os.environ.get("DIE_AT") in (step, f"{self.global_rank}:{step}"):
            os.kill(os.getpid(), signal.SIGKILL)
        return terms
"""
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16")
FIT = ("fit", "pair.yaml", *QUIET, "output=two", *TWO)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a config and a model of its own, with one thread so that sums have one order."""
    (tmp_path / "pair.yaml").write_text(CONFIG)
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own", raising=False)
    torch.set_num_threads(1)
    return tmp_path


def two(place, *changes, **environment):
    """Train with two processes, which must succeed, and return the run folder."""
    answer = ibd_process(*FIT, *changes, cwd=place, timeout=150, **environment)
    assert answer.code == 0, answer.err
    assert "Traceback" not in answer.err
    assert answer.out.count("done: ") == 1
    assert [path.name for path in (place / "two" / "pair").iterdir()] == [answer.run.name]
    return place / answer.run


def assert_same_numbers(one, pair):
    first, second = rows(one), rows(pair)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    assert first[0].keys() == second[0].keys()
    for expected, row in zip(first, second, strict=True):
        for name, value in expected.items():
            if value:
                assert float(row[name]) == pytest.approx(float(value), abs=2e-5), name
    for which in ("last", "best"):
        assert_same_weights(one, pair, which, tolerance=1e-5)
        assert checkpoint(one, which)["epoch"] == checkpoint(pair, which)["epoch"]


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["joint", "sequential"])
def test_same_numbers_as_one_process(regime, place):
    """Loss, metrics, weights; with unknown concepts, augmentation, a last batch that is not full, odd validation."""
    changes = (f"model.regime={regime}", "model.imbalance=pos_weight")
    one = fitted("pair.yaml", *QUIET, *changes)
    pair = two(place, *changes)
    _, data = load_run(one, trust=True)
    unknown = data.dataset("train").concepts.isnan().sum(1)
    assert len(unknown.unique()) > 3  # unevenly spread
    assert_same_numbers(one, pair)
    accuracy = float(rows(pair)[0]["val/accuracy"])
    assert accuracy * 65 == pytest.approx(round(accuracy * 65), abs=1e-4)  # 65 images are 65
    assert (pair / "figures" / "validation_epoch_002.png").is_file()
    assert json.loads((pair / "finished.json").read_text()).keys() == {"last", "best"}
    assert ibd("test", pair, "--trust").figures == ibd("test", one, "--trust").figures


def test_one_process_or_two_see_the_same_images_at_every_step():
    """What makes the above possible, for sizes that two processes do not divide, too."""
    from ibd.data.sampling import EvalSampler, TrainSampler

    for size in (80, 72, 66, 65):
        alone = [key.index for key in TrainSampler(size, seed=3, epoch=lambda: 2)]
        shares = [[key.index for key in TrainSampler(size, 3, lambda: 2, rank, 2)] for rank in range(2)]
        assert len(shares[0]) == len(shares[1])
        for step in range(0, len(alone), 32):
            both = {i for share in shares for i in share[step // 2 : step // 2 + 16]}
            assert both >= set(alone[step : step + 32])
            assert len(both - set(alone[step : step + 32])) <= size % 2  # the image that evens it out
        seen = [key.index for rank in range(2) for key in EvalSampler(size, rank, 2) if not key.padding]
        assert sorted(seen) == list(range(size))


@pytest.mark.slow
def test_fewer_images_than_processes(place):
    """The second process would have nothing to validate, and the first would wait for it."""
    message = ibd_process(*FIT, "data.val_size=1", cwd=place, timeout=120).late_mistake
    assert message == "there are 1 images for 'val', fewer than the 2 processes"


@pytest.mark.slow
def test_killed_and_resumed(place):
    """All processes die in the second epoch; going on gives the numbers of an uninterrupted pair."""
    changes = ("model.regime=sequential", "logger.figures_every=0")
    whole = two(place, *changes)
    answer = ibd_process(*FIT, *changes, "output=part", cwd=place, timeout=150, DIE_AT="4")
    assert answer.code != 0
    run = next((place / "part" / "pair").iterdir())
    assert checkpoint(run)["epoch"] == 0
    answer = ibd_process("fit", f"resume={run}", "--trust", cwd=place, timeout=150)
    assert answer.code == 0, answer.err
    assert rows(run) == rows(whole)
    assert_same_weights(whole, run)
    assert_same_weights(whole, run, "best")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_dies(rank, place):
    """The other says so in one line, at once, and what it was waiting for does not hold it."""
    answer = ibd_process(*FIT, cwd=place, timeout=150, DIE_AT=f"{rank}:4")
    run = next((place / "two" / "pair").iterdir())
    told = answer.late_mistake if rank else answer.err.splitlines()[-1].removeprefix("ibd: ")
    assert told.startswith(
        "another process of this training has ended in epoch 2, perhaps because it ran out of memory; "
    )
    assert told.endswith(f"`ibd fit resume={run.relative_to(place)} --trust` continues from the last finished epoch")
    assert "Traceback" not in answer.err
    assert answer.code == (2 if rank else -signal.SIGKILL)
    assert checkpoint(run)["epoch"] == 0


@pytest.mark.slow
def test_early_stopping(place):
    """Both stop; nobody waits for the other."""
    stop = ("early_stopping.patience=1", "early_stopping.monitor=lr", "early_stopping.mode=max")
    pair = two(place, *stop, "optimizer.schedule=constant", "trainer.max_epochs=50", "logger.figures_every=0")
    assert len(rows(pair)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_no_number_in_one_process(rank, place):
    answer = ibd_process(*FIT, cwd=place, timeout=120, NAN_AT=f"{rank}:4")
    message = answer.late_mistake
    where = " in another process" if rank else ""
    assert message.startswith(f"the loss is no longer finite{where} at epoch 2, step 5 (")
    assert "keeps the finished epochs" in message
    assert checkpoint(next((place / "two" / "pair").iterdir()))["epoch"] == 0


@pytest.mark.slow
def test_a_mistake_that_is_found_while_training(place):
    """One line, and no process is left waiting for the one that told."""
    answer = ibd_process(*FIT, "checkpoint.monitor=val/acc", "checkpoint.mode=max", cwd=place, timeout=120)
    assert answer.late_mistake == "checkpoint.monitor: no metric is called 'val/acc'. Did you mean 'val/accuracy'?"


@pytest.mark.slow
def test_a_mistake_that_is_found_before(place):
    answer = ibd_process(*FIT, "model.concept_wieght=1", cwd=place, timeout=150)
    assert "Did you mean: 'concept_weight'?" in answer.mistake


@pytest.mark.slow
def test_ctrl_c(place):
    """SIGINT to both, as a shell sends it: the run is finished by the first process, and usable."""
    process = start(*FIT, "trainer.max_epochs=2000", "logger.figures_every=0", cwd=place)
    wait_for(lambda: any(place.glob("two/pair/*/checkpoints/last.ckpt")), process)
    os.killpg(process.pid, signal.SIGINT)
    answer = answer_of(process)
    assert answer.code == 130, answer.err
    assert "Traceback" not in answer.err
    assert answer.out.count("interrupted: ") == 1
    assert (place / answer.run / "finished.json").is_file()
    assert ibd("test", place / answer.run, "--trust").code == 0


@pytest.mark.slow
def test_torchrun(place):
    """Processes that something else has started agree on one run, too."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "ibd.cli")
    answer = ibd_process(*FIT, "logger.figures_every=0", cwd=place, command=launcher)
    assert answer.code == 0, answer.err
    assert answer.out.count("done: ") == 1
    (run,) = (place / "two" / "pair").iterdir()
    assert_same_numbers(fitted("pair.yaml", *QUIET, "logger.figures_every=0"), run)
