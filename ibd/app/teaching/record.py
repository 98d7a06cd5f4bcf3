"""What a person corrected, as it came about: settings in ``RUN/teaching/TIME.json``, its steps in ``TIME.csv``.

A row is on the disk before the next thing is asked. Half a row at the end, which a process that was killed may leave,
is cut off by who writes the next one; who only reads changes nothing. Images that were brought to the page are never in
it: it is of a split of the data.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ibd.app.predictions.journal import csv_records
from ibd.app.terminal import writing
from ibd.errors import ConfigError, DataError
from ibd.models.columns import csv_line

Event = Literal["answer", "unknown", "undo", "done", "skipped"]
FOLDER = "teaching"
FORMAT = 1
"""Of the settings; another one is refused."""
_HEADS = {"before": "from", "after": "to"}
"""Columns that are called otherwise than what they hold."""


@dataclass(frozen=True)
class Settings:
    """What a session is of.

    Attributes:
        split: split of the data.
        order: how the images were put in order: "random", "uncertain" or "wrong" first.
        groups: how the groups of an image are put in order: "uncertain" first, "random", or as "given" by the data.
        seed: seed of the random orders.
        blind: whether the true class is hidden from the person.
        weights: checksum of the network, without which no answer can be made again.
        images: indices of the images in their split, in the order in which they come.
        count: number of images of the split.
        format: version of all this.
    """

    split: str
    order: str
    groups: str
    seed: int
    blind: bool
    weights: int
    images: list[int]
    count: int
    format: int = FORMAT


@dataclass(frozen=True)
class Row:
    """One step.

    Attributes:
        time: when, in UTC.
        image: index of the image in its split.
        file: what it is called.
        place: which of the images in order it is, from 1.
        event: "answer" (a row for each unit that was set), "unknown" (the person does not know), "undo" (of the last
            answer on this group), "done" (with the image), or "skipped" (left out of the curve).
        step: which of the events on this image it is, from 1; the rows of one answer share it.
        group: group of the units.
        unit: unit that was set.
        before: its value, as a person reads it, before.
        after: what it was set to.
        annotated: what the data says of it; None where nobody knows.
        seconds: how long this took.
        class_before: predicted class before.
        probability_before: its probability.
        class_after: predicted class after.
        probability_after: its probability.
        truth: true class.
        right_before: whether the prediction was right before.
        right_after: whether it is now.
    """

    time: str
    image: int
    file: str
    place: int
    event: Event
    step: int
    group: str
    unit: str
    before: float | None
    after: float | None
    annotated: float | None
    seconds: float
    class_before: str
    probability_before: float
    class_after: str
    probability_after: float
    truth: str
    right_before: bool
    right_after: bool


class Record:
    """The files of a session.

    Args:
        folder: folder of the run.
        stamp: name of the session: the time at which it was started.

    Raises:
        DataError: there is no such session, or its files are damaged.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        self.settings_file, self.table = _files(folder, stamp)
        self.stamp = stamp
        self.settings = _read_settings(self.settings_file)
        self._end = self._size = 0  # of the whole rows, and of the file as it was left
        self.rows = self._read()

    @classmethod
    def begin(cls, folder: Path, settings: Settings) -> Record:
        """Return a new record, whose files are there.

        Raises:
            ConfigError: they cannot be written.
        """
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        count = 1
        while True:
            name = stamp if count == 1 else f"{stamp}_{count}"
            settings_file, table = _files(folder, name)
            with writing(table):
                try:
                    with table.open("x", encoding="utf-8") as file:
                        file.write(csv_line(tuple(_HEADS.get(field.name, field.name) for field in fields(Row))))
                except FileExistsError:
                    count += 1
                    continue
                partial = settings_file.with_suffix(".partial")
                partial.write_text(json.dumps(asdict(settings)), encoding="utf-8")
                partial.replace(settings_file)  # from here on it is a session
            return cls(folder, name)

    @property
    def stale(self) -> bool:
        """Whether somebody else has written to the table since, such as another server of the same run."""
        return self.table.exists() and self.table.stat().st_size != self._size

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows, so that they are there whatever happens next.

        Raises:
            ConfigError: they cannot be written, or somebody else has written.
        """
        text = "".join(csv_line(tuple(asdict(row).values())) for row in rows).encode()
        if not self.table.exists():  # a folder that was deleted is not made anew, with half a session in it
            raise ConfigError(f"'{self.table}' is gone: this session was deleted while it went on")
        if self.stale:
            raise ConfigError(f"'{self.table}' was written to by another server: this session went on there")
        try:
            with writing(self.table), self.table.open("r+b") as file:
                file.truncate(self._end)
                file.seek(self._end)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._size = self.table.stat().st_size if self.table.exists() else 0
        self._end = self._size
        self.rows += rows

    def _read(self) -> list[Row]:
        """Return the whole rows that are there.

        Raises:
            DataError: one is none.
        """
        rows, self._end = list[Row](), 0
        try:
            with self.table.open("rb") as file:
                for number, record in enumerate(csv_records(file)):
                    if number:
                        rows.append(_row(next(csv.reader([record.decode()]))))
                    self._end += len(record)
                self._size = os.fstat(file.fileno()).st_size
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"'{self.table}' cannot be read as a record of teaching: {reason}") from None
        return rows


def sessions(folder: Path) -> list[str]:
    """Return the names of the sessions of a run, the newest first."""
    return sorted((path.stem for path in (folder / FOLDER).glob("*.json")), reverse=True)


def _files(folder: Path, stamp: str) -> tuple[Path, Path]:
    """Return the settings and the table of a session.

    Raises:
        DataError: a name that no session has.
    """
    if not re.fullmatch(r"[\d_-]{1,40}", stamp):
        raise DataError(f"'{stamp[:60]}' is not the name of a session: it is a time, such as 2026-11-30_12-00-00")
    return folder / FOLDER / f"{stamp}.json", folder / FOLDER / f"{stamp}.csv"


def _read_settings(path: Path) -> Settings:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise DataError(f"'{path}' was written by another version of ibd: begin a new session")
        return Settings(**plain)
    except FileNotFoundError:
        raise DataError(f"there is no session '{path.stem}' in '{path.parent}'") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"'{path}' does not describe a session of teaching: {reason}") from None


def _row(cells: list[str]) -> Row:
    """Return the row that cells of a table mean.

    Raises:
        ValueError: they mean none.
    """
    names = [field.name for field in fields(Row)]
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} cells in place of {len(names)}")
    values: dict[str, Any] = dict(_cells(names, cells))
    return Row(**values)


def _cells(names: list[str], cells: list[str]) -> Iterator[tuple[str, object]]:
    for name, cell in zip(names, cells, strict=True):
        if name in ("image", "place", "step"):
            yield name, int(cell)
        elif name in ("before", "after", "annotated"):
            yield name, float(cell) if cell else None
        elif name in ("seconds", "probability_before", "probability_after"):
            yield name, float(cell)
        elif name in ("right_before", "right_after"):
            yield name, {"true": True, "false": False}[cell]
        elif name == "event" and cell not in get_args(Event):
            raise ValueError(f"'{cell}' is no event")
        else:
            yield name, cell
