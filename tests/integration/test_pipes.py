"""A pipe where a file is named: nobody writes to it, so that reading it would wait for ever."""

import os
from pathlib import Path

import pytest

from ibd.backbones.weights import read_file
from ibd.config import load_saved_config
from ibd.data.cub_attributes import read_numbers
from ibd.errors import CheckpointError, ConfigError, DataError
from ibd.io import read_checkpoint
from ibd.lock import LOCK, locked
from ibd.training.loggers import TableLogger
from tests.command import QUIET, TINY, ibd

PIPE = "'pipe.pt' is a pipe or a device"


@pytest.fixture(autouse=True)
def _pipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.pt")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["fit", TINY, *QUIET, "model.backbone.weights=pipe.pt"], f"weights: {PIPE}, a file is needed"),
        (["fit", TINY, *QUIET, "model.backbone.weights=/dev/zero"], "weights: '/dev/zero' is a pipe or a device"),
        (
            ["fit", TINY, *QUIET, "model.backbone.init_from=pipe.pt"],
            f"{PIPE}; a run folder or the file of a checkpoint",
        ),
        (["fit", "resume=pipe.pt"], f"{PIPE}; a run folder or the file of a checkpoint is needed"),
        (["fit", "pipe.pt"], f"{PIPE}, a YAML file is needed"),
        (["config", "pipe.pt"], f"{PIPE}, a YAML file is needed"),
        (["data", "pipe.pt", "out.png"], f"{PIPE}, a YAML file is needed"),
        (["test", "pipe.pt"], f"{PIPE}; a run folder or the file of a checkpoint is needed"),
        (["compare", "pipe.pt"], f"{PIPE}; a run folder or the file of a checkpoint is needed"),
        (["compare", "config=pipe.pt"], f"{PIPE}, a YAML file is needed"),
        (["export", "/dev/zero", "out.pt2"], "'/dev/zero' is a pipe or a device; a run folder"),
    ],
)
def test_on_the_command_line(command, message):
    assert message in ibd(*command).mistake


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda: read_file("pipe.pt"), CheckpointError),
        (lambda: read_checkpoint("pipe.pt"), CheckpointError),
        (lambda: load_saved_config("pipe.pt"), ConfigError),
        (lambda: read_numbers(Path("pipe.pt"), 1), DataError),
    ],
)
def test_in_python(read, error):
    with pytest.raises(error):
        read()


def test_in_the_run_of_a_stranger(tmp_path):
    """Its table and its lock are passed over."""
    os.mkfifo("metrics.csv")
    os.mkfifo(LOCK)
    table = TableLogger(tmp_path / "metrics.csv")
    table.resume(5)
    assert not table.rows
    with locked(tmp_path, "a training", "resume"):
        assert Path(LOCK).is_file()
