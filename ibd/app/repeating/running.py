"""Training and testing what a plan says, one training after the other, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ibd.app.repeating.plan import Plan
from ibd.app.test import show_test
from ibd.errors import IbdError, UnsupportedError
from ibd.io import find_checkpoint, sha256
from ibd.lock import locked
from ibd.registry import trusted
from ibd.training.runner import RUN_DIR
from ibd.training.tested.saving import FOLDER, SUMMARY

_INTERRUPTED = 130
_FIRST = "test/accuracy "
"""The figure that is said as soon as a training is tested."""
_COUNTS = ("WORLD_SIZE", "SLURM_NTASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Environment variables by which a launcher says how many processes it has started."""


def check_alone() -> None:
    """Check that this is one process, not one of several that a launcher has started.

    Raises:
        UnsupportedError: it is one of several.
    """
    for name in _COUNTS:
        if os.environ.get(name, "1") not in ("", "1"):
            raise UnsupportedError(
                f"repeat: started in {os.environ[name]} processes ({name}): start it once, trainer.devices says how "
                "many train together; across machines, start each training by `ibd fit CONFIG seed=...`"
            )


def run_plan(plan: Plan) -> Iterator[str]:
    """Train and test what is not done yet; yield a line for each training.

    A training that was killed goes on from its last epoch, one that had none begins anew. Lightning starts the other
    processes of a training by its command line, and what a training leaves in memory must not touch the next: each is
    the command ``ibd fit``.

    Raises:
        KeyboardInterrupt: Ctrl-C; the message says how to go on.
        IbdError: a training failed; it has said why.
    """
    with locked(plan.folder, "ibd repeat", "resume"):
        for number, name in enumerate(plan.names, 1):
            place = f"{name} ({number} of {len(plan.names)})"
            if name in plan.trained and plan.run(name).exists():  # who has deleted a run wants it anew
                yield f"{place}: trained before"
            else:
                yield f"{place}: training in {plan.run(name)}"
                sys.stdout.flush()  # before the training itself writes there
                _train(plan, name)
                plan.trained += [name] * (name not in plan.trained)
                plan.save()
            yield f"{place}: {_tested(plan.run(name))}"


def _train(plan: Plan, name: str) -> None:
    """Train one to its end, from where it stopped."""
    run, environment = plan.run(name), dict(os.environ)
    if (run / "checkpoints" / "last.ckpt").exists():
        words = [f"resume={run}", *(["--trust"] if trusted() else [])]
    else:
        shutil.rmtree(run, ignore_errors=True)  # what ended before its first epoch
        words, environment[RUN_DIR] = [str(plan.config(name))], str(run)
    command = [sys.executable, "-m", "ibd", "fit", *words]
    code, interrupted = _wait(subprocess.Popen(command, env=environment))  # noqa: S603  # ourselves
    if interrupted or code == _INTERRUPTED:
        raise KeyboardInterrupt(f"`{plan.goes_on}` goes on with {name}")
    if code:
        how = f"was killed by signal {-code}" if code < 0 else "failed, as it says above"
        raise IbdError(f"the training of {name} {how}; `{plan.goes_on}` goes on with it")


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """Wait for a training, which gets Ctrl-C of the terminal too and ends in its own way; return whether it came."""
    pressed = False
    while True:
        try:
            return process.wait(), pressed
        except KeyboardInterrupt:
            pressed = True


def _tested(run: Path) -> str:
    """Test a run unless that was done since it was trained; return its first figure in words."""
    if _is_tested(run):
        return "tested before"
    said = [line for line in show_test(str(run), (), "best") if line.startswith(_FIRST)]
    return " ".join(said[0].split()) if said else "tested"


def _is_tested(run: Path) -> bool:
    """Return whether the last test was of the best checkpoint as it is, on the images of its config."""
    if not (run / "test.json").exists():
        return False
    try:
        said = json.loads((run / FOLDER / "test" / SUMMARY).read_text(encoding="utf-8"))["about"]
        return bool(said["sha256"] == sha256(find_checkpoint(run)) and said["changes"] == [])
    except (OSError, ValueError, KeyError, TypeError):
        return False
