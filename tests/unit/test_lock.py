"""One process at a time in a folder, whatever the one before it left behind."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibd.errors import ConfigError
from ibd.lock import LOCK, _began, locked

HERE = socket.gethostname()


def test_the_second_is_refused_and_the_third_is_not(tmp_path):
    with locked(tmp_path / "run", "a training", "output"):
        expected = rf"'.*run' is in use: a training is running there \(process {os.getpid()} on {HERE}\)"
        with pytest.raises(ConfigError, match=expected), locked(tmp_path / "run", "a training", "output"):
            pass
        (tmp_path / "run" / "kept").touch()
    with locked(tmp_path / "run", "a training", "output"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kept"]


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a" / "b", "a comparison", "compare"):
        assert 1 / 0
    assert list(tmp_path.iterdir()) == []


def ended_process():
    """Return the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("left", "held"),
    [
        (lambda: "", False),  # killed before it could write
        (lambda: "what is this", False),
        (lambda: f"{os.getpid()} 1", False),
        (lambda: f"{ended_process()} 1 {HERE}", False),
        (lambda: f"{os.getpid()} 1 {HERE}", not Path("/proc/self/stat").exists()),  # the number is another's now
        (lambda: f"{os.getpid()} - {HERE}", not Path("/proc/self/stat").exists()),
        (lambda: f"{ended_process()} 1 another-computer", True),  # which cannot be asked
    ],
)
def test_a_lock_without_a_process_is_taken_over(left, held, tmp_path):
    (tmp_path / LOCK).write_text(left())
    if held:
        with pytest.raises(ConfigError, match="if it is no longer, delete"), locked(tmp_path, "a training", "output"):
            pass
        return
    with locked(tmp_path, "a training", "output"):
        assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} ")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_nobody_has_asked_after_is_no_more(tmp_path):
    """Killed, but still in the table of processes, as without an init process in a container."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (tmp_path / LOCK).write_text(f"{process.pid} {_began(process.pid)} {HERE}")
    with pytest.raises(ConfigError, match="is in use"), locked(tmp_path, "a training", "output"):
        pass
    process.kill()
    while _began(process.pid) not in ("", "-"):
        time.sleep(0.01)
    if _began(process.pid) == "-":  # where that is not told, it counts as there until somebody asks
        process.wait()
    with locked(tmp_path, "a training", "output"):
        pass
    process.wait()


def test_no_folder_is_no_lock():
    with locked(None, "a comparison", "compare"), locked(None, "a comparison", "compare"):
        pass


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"compare: cannot write to '.*file'"),
        locked(tmp_path / "file", "a comparison", "compare"),
    ):
        pass
    assert (tmp_path / "file").exists()
