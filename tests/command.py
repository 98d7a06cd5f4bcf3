"""The command line as a user has it: in this process, which is fast, or in one of its own."""

import contextlib
import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from ibd.cli import main

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "configs" / "toybirds" / "tiny.yaml")

QUIET = ("logger.mode=disabled", "trainer.accelerator=cpu", "trainer.enable_model_summary=false")
SMALL = (*QUIET, "data.train_size=64", "data.val_size=33", "data.test_size=33", "logger.figures_every=0")
"""Changes to `TINY` with which an epoch takes a tenth of a second."""


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def run(self):
        """The run folder that `ibd fit` names."""
        return Path(
            next(line.split(": ", 1)[1] for line in self.out.splitlines() if line.startswith(("done:", "inter")))
        )

    @property
    def figures(self):
        """Name -> what `ibd test` says of each metric."""
        return dict(line.split(maxsplit=1) for line in self.out.splitlines() if re.match(r"(train|val|test)/", line))

    @property
    def mistake(self):
        """The line for the user, where the command found a mistake before it started anything."""
        lines = self.err.splitlines()
        assert self.code == 2, (self.code, self.err)
        assert len(lines) == 1, self.err
        assert lines[0].startswith("ibd: ")
        assert "Traceback" not in self.err
        return lines[0].removeprefix("ibd: ")

    @property
    def late_mistake(self):
        """The line for the user, where the mistake was found during training."""
        assert self.code == 2, (self.code, self.err)
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        assert [line.startswith("ibd: ") for line in lines] == [False] * (len(lines) - 1) + [True], self.err
        return lines[-1].removeprefix("ibd: ")


def ibd(*arguments):
    """Run `ibd ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # --help
            code = stop.code
    return Answer(code, out.getvalue(), err.getvalue())


def fitted(*arguments):
    """Run `ibd fit ARGUMENTS`, which must succeed, and return the run folder."""
    answer = ibd("fit", *arguments)
    assert answer.code == 0, answer.err
    return answer.run


def start(*arguments, cwd, command=(sys.executable, "-m", "ibd.cli"), **environment):
    """Start `ibd ARGUMENTS` as a process that leads a process group of its own."""
    given = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled", **environment}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env={key: value for key, value in {**os.environ, **given}.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def answer_of(process, timeout=240):
    """Wait for what `start` returned; at the end nothing of its group is left."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return Answer(process.returncode, out, err)


def ibd_process(*arguments, cwd, timeout=240, **options):
    """Run `ibd ARGUMENTS` as a process."""
    return answer_of(start(*arguments, cwd=cwd, **options), timeout)


def wait_for(condition, process, timeout=120):
    """Wait until a condition holds for a running process."""
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def rows(run):
    """Return the rows of a run's metrics.csv."""
    with (Path(run) / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def checkpoint(run, which="last"):
    """Return the content of a run's checkpoint."""
    return torch.load(Path(run) / "checkpoints" / f"{which}.ckpt", weights_only=True)


def assert_same_weights(first, second, which="last", tolerance=0.0):
    """Check that two runs ended with the same weights, to the bit unless there is a tolerance."""
    one, two = (checkpoint(run, which)["state_dict"] for run in (first, second))
    assert list(one) == list(two)
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=0, atol=tolerance, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )
