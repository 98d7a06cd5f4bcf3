"""What lies in a run folder, and that a run needs nothing else."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from ibd.io import load_model, load_run
from ibd.models.lightning import InterpretableModule
from ibd.training import runner
from ibd.training.runner import RUN_DIR, fit
from tests.command import SMALL, TINY, assert_same_weights, checkpoint, fitted, ibd, ibd_process, rows


def test_files(trained):
    found = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    pictures = {name for name in found if name.startswith("figures/")}
    assert {"figures/validation_epoch_004.png"} <= pictures
    tested = {name for name in found if name.startswith("tested/test/")}  # by other tests
    assert found - pictures - tested - {"test.json"} == {
        "config.yaml", "metrics.csv", "finished.json", "training.json",
        "checkpoints/last.ckpt", "checkpoints/best.ckpt",
    }  # fmt: skip


@pytest.mark.slow
def test_config_runs_the_run_again(trained, tmp_path):
    again = fitted(trained / "config.yaml", "output=again", "logger.figures_every=0")
    one, two = (yaml.safe_load((run / "config.yaml").read_text()) for run in (trained, again))
    assert {key for key in one if one[key] != two[key]} == {"output", "logger"}
    assert rows(again) == rows(trained)
    assert_same_weights(trained, again)


def test_metrics_table(trained):
    table = rows(trained)
    assert [int(row["epoch"]) for row in table] == [0, 1, 2, 3, 4]
    steps = checkpoint(trained)["global_step"] // 5
    assert [int(row["step"]) for row in table] == [steps * (epoch + 1) - 1 for epoch in range(5)]
    shown = {"loss", "class_loss", "concept_loss", "accuracy", "balanced_accuracy", "concept_accuracy", "concept_auroc"}
    assert set(table[0]) == {"epoch", "step", "lr", *(f"{s}/{name}" for s in ("train", "val") for name in shown)}
    for row in table:
        assert all(math.isfinite(float(value)) for value in row.values())
    assert float(table[-1]["train/loss"]) < float(table[0]["train/loss"])
    rates = [float(row["lr"]) for row in table]
    assert max(rates) <= 0.01
    assert rates[-1] < 0.1 * max(rates)


def test_metrics_are_those_of_the_checkpoint(trained):
    """The table's last row is what the last checkpoint scores on the validation images, and best is the best row's."""
    for which in ("last", "best"):
        model, data = load_run(trained, which=which)
        right = [(model.predict(b.image).labels == b.label).float() for b in data.val_dataloader()]
        table = rows(trained)
        score = [(float(row["val/accuracy"]), -float(row["val/loss"])) for row in table]
        row = -1 if which == "last" else score.index(max(score))
        assert float(torch.cat(right).mean()) == pytest.approx(score[row][0], abs=1e-6)
        assert checkpoint(trained, which)["epoch"] == range(5)[row]


def test_best_is_kept_and_last_goes_on(tmp_path):
    """Where no epoch after the first is better, the last checkpoint is all the same that of the last epoch."""
    run = fitted(TINY, *SMALL, "trainer.max_epochs=4", "checkpoint.monitor=lr", "checkpoint.mode=max")
    rates = [float(row["lr"]) for row in rows(run)]
    assert rates[0] == max(rates) > rates[-1]
    assert [checkpoint(run, which)["epoch"] for which in ("best", "last")] == [0, 3]


@pytest.mark.slow
def test_checkpoints_every_n_epochs(tmp_path):
    """After every other epoch, and after the last one; here each is better than the one before."""
    changes = ("checkpoint.every_n_epochs=2", "checkpoint.monitor=train/loss", "checkpoint.mode=min")
    run = fitted(TINY, *SMALL, "trainer.max_epochs=3", *changes)
    assert [checkpoint(run, which)["epoch"] for which in ("best", "last")] == [2, 2]


@pytest.mark.slow
def test_a_training_that_ends_within_an_epoch_is_kept():
    run = fitted(TINY, *SMALL, "trainer.max_epochs=-1", "trainer.max_steps=5")
    assert checkpoint(run)["global_step"] == 5
    assert int(rows(run)[-1]["step"]) == 4


def test_checkpoint_is_plain_values_and_complete(trained, tmp_path):
    """It loads with weights_only, and elsewhere, without config, data, or the weights that the training began with."""
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["ibd_model"] == "cbm"
    spec = content["hyper_parameters"]["spec"]
    assert len(spec["class_names"]) == 6
    assert "wing::red_oval" in spec["concept_names"] or all("::" in name for name in spec["concept_names"])
    shutil.copy(trained / "checkpoints" / "best.ckpt", "alone.ckpt")
    assert load_model("alone.ckpt").spec == load_model(trained).spec
    assert ibd("test", "alone.ckpt").mistake.startswith("'alone.ckpt' has no config.yaml beside it")


@pytest.mark.slow
def test_weights_to_start_from_are_not_needed_afterwards(trained, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(trained, source)
    common = (TINY, *SMALL, "trainer.max_epochs=2", "optimizer.lr=1e-9", f"model.backbone.init_from={source}")
    run = fitted(*common)
    one, two = (checkpoint(r)["state_dict"] for r in (source, run))
    first = next(name for name in one if name.endswith("conv.weight"))
    torch.testing.assert_close(two[first], one[first], rtol=0, atol=1e-6)
    shutil.rmtree(source)
    assert ibd("test", run).code == 0
    assert ibd("fit", f"resume={run}", "trainer.max_epochs=3").code == 0
    assert f"init_from: {source}" in (run / "config.yaml").read_text()


def test_finished_json(tmp_path):
    run = fitted(TINY, *SMALL, "trainer.max_epochs=2", "model.regime=independent", "model.head_epochs=5")
    written = json.loads((run / "finished.json").read_text())
    assert set(written) == {"last", "best"}
    assert set(written["best"]) == {"head/val_loss", "head/val_accuracy"}
    assert float(rows(run)[-1]["head/val_accuracy"]) == written["best"]["head/val_accuracy"]
    model, data = load_run(run)
    right = torch.cat([model.predict(b.image).labels == b.label for b in data.val_dataloader()])
    assert float(right.float().mean()) == pytest.approx(written["best"]["head/val_accuracy"], abs=1e-6)


def test_percentiles_are_in_the_checkpoints(trained):
    for which in ("last", "best"):
        state = checkpoint(trained, which)["state_dict"]
        assert bool((state["network.low"] < state["network.high"]).all())


@pytest.mark.slow
def test_runs_in_the_same_second_do_not_meet(tmp_path):
    runs = [fitted(TINY, *SMALL, "trainer.max_epochs=1", "trainer.limit_train_batches=1") for _ in range(2)]
    assert len(set(runs)) == 2


def test_a_folder_of_runs_means_the_newest(trained, tmp_path):
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    path = tmp_path / "runs" / "2026-01-02_00-00-00" / "checkpoints" / "best.ckpt"
    path.write_bytes(b"broken")
    answer = ibd("test", tmp_path / "runs")
    assert str(path) in answer.late_mistake
    assert answer.err.startswith(f"'{tmp_path / 'runs'}' holds 2 runs; using the newest: ")


@pytest.mark.slow
def test_after_an_error_the_next_run_has_a_folder_of_its_own(monkeypatch):
    from ibd.errors import IbdError

    monkeypatch.delenv(RUN_DIR, raising=False)
    with pytest.raises(IbdError):
        fit(TINY, *SMALL, "trainer.max_epochs=1", "optimizer.lr=1e30")
    failed = next(Path("runs/toybirds-tiny").iterdir())
    assert fit(TINY, *SMALL, "trainer.max_epochs=1").folder != failed


@pytest.mark.slow
def test_early_stopping(tmp_path):
    run = fitted(TINY, *SMALL, "trainer.max_epochs=9", "early_stopping.patience=2", "early_stopping.monitor=lr",
                 "early_stopping.mode=max", "optimizer.schedule=constant")  # fmt: skip
    assert len(rows(run)) == 3  # the first, and two that are no better
    assert checkpoint(run)["epoch"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["64-true", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bf16-mixed", "bf16-true"))]
)
def test_precision(precision):
    run = fitted(TINY, *SMALL, "trainer.max_epochs=2", f"trainer.precision={precision}")
    assert all(math.isfinite(float(row["val/loss"])) for row in rows(run))
    assert ibd("test", run).code == 0


@pytest.mark.slow
def test_training_without_validation():
    run = fitted(TINY, *SMALL, "trainer.max_epochs=2", "trainer.limit_val_batches=0")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "val/loss" not in rows(run)[0]
    assert ibd("test", run).code == 0


@pytest.mark.slow
def test_validation_every_other_epoch():
    run = fitted(TINY, *SMALL, "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2")
    assert [bool(row["val/loss"]) for row in rows(run)] == [False, True, False, True]
    assert all(row["train/loss"] for row in rows(run))
    assert checkpoint(run)["epoch"] == 3


@pytest.mark.slow
def test_dropout_is_seeded_by_epoch_not_by_the_run(tmp_path):
    """The same config gives the same run, and another seed another one."""
    (tmp_path / "own.py").write_text(
        "from torch import nn\nfrom ibd.backbones.small import SmallCNN\n\n"
        "class Dropping(SmallCNN):\n    '''With dropout.'''\n\n"
        "    def __init__(self, width: int = 4):\n        super().__init__(width, 3)\n"
        "        self.drop = nn.Dropout(0.5)\n"
    )
    (tmp_path / "own.yaml").write_text(
        "model: {name: cbm, backbone: {name: 'own:Dropping'}}\ndata: {name: toybirds, preset: tiny, batch_size: 32}\n"
    )
    one, two = (fitted("own.yaml", *SMALL, "trainer.max_epochs=2") for _ in range(2))
    assert_same_weights(one, two)
    other = fitted("own.yaml", *SMALL, "trainer.max_epochs=2", "seed=1", "data.seed=0")
    with pytest.raises(AssertionError):
        assert_same_weights(one, other)


@pytest.mark.slow
def test_a_run_can_be_used_by_another_process(trained, bird, tmp_path):
    answer = ibd_process("predict", trained, bird, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert answer.out == ibd("predict", trained, bird).out


def test_the_table_is_well_formed_csv(trained):
    with (trained / "metrics.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert len({len(line) for line in lines}) == 1


def test_a_folder_that_another_run_has_claimed_is_left_alone(tmp_path, monkeypatch):
    """Two runs that start in the same second must not write into one folder."""
    config = OmegaConf.create({"output": str(tmp_path), "name": "birds"})
    monkeypatch.delenv(runner.RUN_DIR, raising=False)
    folders = set()
    for _ in range(3):
        folders.add(runner.new_folder(config))
        monkeypatch.delenv(runner.RUN_DIR)
    assert len(folders) == 3
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.slow
def test_a_monitor_that_is_never_a_number_is_told(monkeypatch):
    """No epoch is the best one then; the last checkpoint takes its place, and nobody should wonder why."""
    config = (TINY, *SMALL, "trainer.max_epochs=1", "checkpoint.monitor=val/accuracy", "checkpoint.mode=max")
    monkeypatch.setattr(
        InterpretableModule, "_log_metrics", lambda self, split: self.log(f"{split}/accuracy", math.nan)
    )
    answer = ibd("fit", *config)
    run = answer.run
    assert "no epoch is the best one, so the last one is used: val/accuracy was never a number" in answer.err
    assert "last epoch 1: " in answer.out
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
