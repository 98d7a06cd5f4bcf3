"""The rows of predictions as they come, in a folder beside the file that they become, so that a kill loses none.

A process that is killed may leave half a line, which the next one takes away; what is whole stays, and is not predicted
again. The file itself appears when all its rows are there.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from ibd.app.predictions.parquet import write_parquet
from ibd.errors import ConfigError
from ibd.models.columns import FILE, csv_line, json_line, rows_of

FORMATS = (".csv", ".jsonl", ".parquet")
_JOB = "job.json"


class Journal:
    """The rows that are there, and a file that further ones are added to.

    Args:
        out: the file that is to be, whose name says the format.
        job: what the rows are of, as plain values; rows of another job are refused.
        columns: the columns' names.

    Attributes:
        done: names of the files that there are rows of.

    Raises:
        ConfigError: the folder holds rows of another job.
    """

    def __init__(self, out: Path, job: Mapping[str, Any], columns: list[str]) -> None:
        self.out, self.columns, self.folder = out, columns, folder_of(out)
        self.as_csv = out.suffix == ".csv"
        self.rows = self.folder / f"rows{'.csv' if self.as_csv else '.jsonl'}"
        self._check({**job, "columns": columns, "format": self.rows.suffix})
        self.done = set[str]()
        self._resume()
        self._file: BinaryIO = self.rows.open("ab")
        if self.as_csv and not self.rows.stat().st_size:
            self._write([csv_line(tuple(columns))])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; the rows stay."""
        self._file.close()

    def add(self, columns: Mapping[str, list[Any]]) -> None:
        """Write the rows of some columns, so that they are there whatever happens next."""
        rows = rows_of(columns)
        self._write([csv_line(row) if self.as_csv else json_line(self.columns, row) for row in rows])

    def finish(self, gone: Collection[str] = ()) -> None:
        """Make the file of the rows, and take the folder away.

        Args:
            gone: names of files that are not asked for any more: their rows are left out.
        """
        self._file.close()
        if gone:
            self._without(gone)
        if self.out.suffix == ".parquet":
            whole = self.folder / "whole.parquet"
            write_parquet(self.rows, whole, self.columns)
            whole.replace(self.out)
        else:
            self.rows.replace(self.out)
        shutil.rmtree(self.folder)

    def _without(self, gone: Collection[str]) -> None:
        """Take rows away."""
        kept = self.folder / "kept"
        with self.rows.open("rb") as file, kept.open("wb") as new:
            for record, name in self._named(file):
                if name not in gone:
                    new.write(record)
        kept.replace(self.rows)

    def _named(self, file: BinaryIO) -> Iterator[tuple[bytes, str | None]]:
        """Return the whole records with the names of their files; the first line of CSV has none."""
        for place, record in enumerate(csv_records(file) if self.as_csv else _whole_lines(file)):
            if self.as_csv:
                yield record, _csv_name(record) if place else None
            else:
                yield record, json.loads(record)[FILE]

    def _write(self, lines: Iterable[str]) -> None:
        self._file.write("".join(lines).encode())
        self._file.flush()

    def _check(self, job: Mapping[str, Any]) -> None:
        """Say what the rows are of, or look whether those that are there are of the same."""
        path = self.folder / _JOB
        wanted = json.dumps(job, sort_keys=True)
        if not self.rows.exists():
            path.write_text(wanted, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != wanted:
            raise ConfigError(
                f"'{self.folder}' holds the beginning of other predictions (another model, other images or another "
                "format): delete it, or write to another file"
            )

    def _resume(self) -> None:
        """Read which rows are there, and cut off half a line at their end."""
        if not self.rows.exists():
            return
        end = 0
        with self.rows.open("rb") as file:
            for record, name in self._named(file):
                if name is not None:
                    self.done.add(name)
                end += len(record)
        if end < self.rows.stat().st_size:
            os.truncate(self.rows, end)


def folder_of(out: Path) -> Path:
    """Return the folder in which the rows of a file are gathered."""
    return out.with_name(f"{out.name}.partial")


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    return (line for line in file if line.endswith(b"\n"))  # only the last one can be without


def csv_records(file: BinaryIO) -> Iterator[bytes]:
    """Return the whole records: a line in quotes goes on after its end."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0 and record.endswith(b"\n"):
            yield record
            record = b""


def _csv_name(record: bytes) -> str:
    return next(csv.reader([record.decode()]))[0]
