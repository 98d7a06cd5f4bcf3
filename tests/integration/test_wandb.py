"""Weights & Biases: offline where there is no account, not imported where it is switched off, and never a question."""

import re
import subprocess
import sys

import pytest

from ibd.training.loggers import wandb_mode
from ibd.training.settings import LoggerSettings
from tests.command import SMALL, TINY, ibd, ibd_process

RUN = ("fit", TINY, *(change for change in SMALL if not change.startswith("logger.mode")), "trainer.max_epochs=2")


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without an account."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_auto_is_offline_without_an_account_and_online_with_one(nobody, tmp_path):
    auto = LoggerSettings()
    assert auto.mode == "auto"
    assert wandb_mode(auto) == "offline"
    nobody.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_mode(auto) == "online"
    nobody.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(auto) == "disabled"
    assert wandb_mode(LoggerSettings(mode="offline")) == "offline"
    assert wandb_mode(LoggerSettings(mode="off")) == "disabled"


def test_off_is_a_word_although_yaml_reads_it_as_false():
    for given in ("logger.mode=off", "logger.mode=false", "logger.mode='off'"):
        assert "mode: 'off'" in ibd("config", TINY, given).out
    assert "logger.mode: Invalid value 'True', expected one of " in ibd("config", TINY, "logger.mode=on").err


def test_an_account_in_netrc(nobody, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'x' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode(LoggerSettings()) == "online"
    nobody.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_mode(LoggerSettings()) == "offline"


def test_asked_to_be_online_by_the_environment_without_an_account(nobody):
    """A question that nobody answers would hang the training."""
    nobody.setenv("WANDB_MODE", "online")
    assert wandb_mode(LoggerSettings()) == "offline"


DISABLED = """
import sys
from ibd.cli import main
code = main(sys.argv[1:])
print("wandb" in sys.modules)
sys.exit(code)
"""


@pytest.mark.slow
def test_disabled_does_not_import_wandb(tmp_path):
    command = [sys.executable, "-c", DISABLED, *RUN, "trainer.max_epochs=1", "logger.mode=disabled"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    assert not list(tmp_path.rglob("wandb*"))


@pytest.mark.slow
def test_offline_run_has_scalars_config_and_the_figure(tmp_path):
    """Written by `auto`, where there is no account; and a resumed run is the same W&B run."""
    nobody = {"WANDB_MODE": None, "WANDB_API_KEY": None, "HOME": str(tmp_path)}
    command = (*RUN, "logger.figures_every=1", "output=runs", "model.regime=sequential", "model.head_epochs=2")
    answer = ibd_process(*command, cwd=tmp_path, **nobody)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("done: ")  # W&B says nothing there
    assert len([line for line in answer.err.splitlines() if "wandb" in line]) == 1  # where it is, in one line
    assert re.search(r"^W&B: offline; to upload it: wandb sync runs/\S+/wandb/offline-run-\S+$", answer.err, re.M)
    assert "\x1b" not in answer.out + answer.err
    assert "stopped" not in answer.err
    run = tmp_path / answer.run
    (offline,) = (run / "wandb").glob("offline-run-*")
    (written,) = offline.glob("run-*.wandb")
    assert (run / "wandb_id.txt").read_text() in written.name
    content = written.read_bytes()
    for name in (
        b"train/loss",
        b"val/concept_auroc",
        b"head/val_accuracy",
        b"validation/predictions",
        b"validation/table",
        b"intervention/curve",
        b"intervention/accuracy",
        b"concept_weight",
    ):
        assert name in content, name
    pictures = [path.name for path in offline.glob("files/media/images/validation/*.png")]
    assert len(pictures) == 2
    answer = ibd_process("fit", f"resume={run}", "trainer.max_epochs=3", cwd=tmp_path, **nobody)
    assert answer.code == 0, answer.err
    earlier = set((run / "wandb").glob("offline-run-*"))
    assert ibd_process("test", run, "by=wing", cwd=tmp_path, **nobody).code == 0
    (tested,) = set((run / "wandb").glob("offline-run-*")) - earlier
    content = next(tested.glob("run-*.wandb")).read_bytes()
    for name in (b"test/accuracy", b"test/classes", b"test/images", b"test/by_wing", b"test/worst_picture"):
        assert name in content, name
    assert ibd_process("test", run, cwd=tmp_path, WANDB_MODE="disabled").code == 0
    ids = {path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")}
    assert len(list((run / "wandb").glob("offline-run-*"))) == 3
    assert ids == {(run / "wandb_id.txt").read_text()}


TWICE = """
import sys
import ibd
import wandb
runs = [ibd.fit(*sys.argv[1:]) for _ in range(2)]
assert wandb.run is None
with wandb.init(mode="offline", dir="own", settings=wandb.Settings(silent=True)) as own:  # as the agent of a sweep
    runs.append(ibd.fit(*sys.argv[1:]))
    own.log({"after": 1})
    names = [(run.folder / "wandb_id.txt").read_text() for run in runs]
    assert names[2] == own.id
print(len(set(names)))
"""


@pytest.mark.slow
def test_each_training_of_a_process_is_a_run_of_its_own_unless_there_is_one_already(nobody, tmp_path):
    (tmp_path / "own").mkdir()
    changes = ("trainer.max_epochs=1", "logger.mode=offline", "output=runs")
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *RUN[1:], *changes], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3"
    folders = [len(list(run.glob("wandb/offline-run-*"))) for run in sorted(tmp_path.glob("runs/*/*"))]
    assert folders == [1, 1, 0]
