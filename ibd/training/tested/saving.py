"""Writing what a test has come to into RUN/tested/SPLIT, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ibd.models.columns import csv_line
from ibd.training.tested.pictures import pictures
from ibd.training.tested.scored import Scored
from ibd.training.tested.summary import summary
from ibd.training.tested.tables import Table, plain, tables

FOLDER = "tested"
SUMMARY = "summary.json"
_LONG_AGO = 3600.0
"""Seconds after which nobody writes a file any more."""


def save_tested(scored: Scored, run: Path) -> Path:
    """Write the tables, the summary and the pictures of a test into ``RUN/tested/SPLIT``; return that folder.

    In the place of what an earlier test has left there, in one move at the end: whoever reads the folder has all files
    of one test, and a test that is killed leaves those of the one before.

    Args:
        scored: what the test has come to.
        run: the run folder, or another that is to have ``tested/SPLIT``.

    Raises:
        OSError: it cannot be written.
    """
    with _in_one_move(run / FOLDER / scored.split) as folder:
        for name, table in tables(scored).items():
            write_table(table, folder / f"{name}.csv")
        write_json(summary(scored), folder / SUMMARY)
        for name, figure in pictures(scored):
            figure.savefig(folder / f"{name}.png", dpi=110)
    return run / FOLDER / scored.split


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write plain values in one move; a number that is none, which JSON does not have, is null."""
    known = {key: plain(value) for key, value in values.items()}
    work = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        work.write_text(json.dumps(known, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def write_table(table: Table, path: Path) -> None:
    """Write a table as CSV, with numbers of seven digits and nothing for what is not known."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_line(table.columns))
        file.writelines(map(csv_line, table.rows))


@contextlib.contextmanager
def _in_one_move(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of another once all is written in it.

    Folders cannot be exchanged at once everywhere: there is a moment in which neither is there, and none in which half
    a one is.
    """
    _clear_away(folder)
    work = folder.with_name(f".{folder.name}-{os.getpid()}")
    work.mkdir(parents=True)
    earlier = work.with_name(f"{work.name}-old")
    try:
        yield work
        with contextlib.suppress(FileNotFoundError):
            folder.rename(earlier)
        work.rename(folder)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _clear_away(folder: Path) -> None:
    """Take away what tests that were killed have left beside a folder; another may be writing just now."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(OSError):
            if left.name == f".{folder.name}-{os.getpid()}" or time.time() - left.stat().st_mtime > _LONG_AGO:
                shutil.rmtree(left, ignore_errors=True)
