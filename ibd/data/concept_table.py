"""Reading a concept file: which columns it has, what each row is about, and the texts of its cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ibd.distributed import progress
from ibd.errors import DataError, did_you_mean, no_file
from ibd.printing import shown

_NO_IMAGE = "there is no image '{}'."
_BRACKETS = re.compile(r"(.*?)\s*\[([^\[\]]*)\]")
CERTAINTY = "certainty"
"""What stands in the brackets of a column that says how certain another one is."""


@dataclass(frozen=True)
class Header:
    """A column by its name.

    Attributes:
        name: name without what stands in brackets after it.
        unit: the unit in brackets, "" in empty ones; None without brackets.
    """

    name: str
    unit: str | None

    @property
    def certainty(self) -> bool:
        """Whether it says how certain the column of its name is."""
        return self.unit == CERTAINTY

    def __str__(self) -> str:
        """Return it as it stands in the file."""
        return self.name if self.unit is None else f"{self.name} [{self.unit}]"


@dataclass(frozen=True)
class ConceptTable:
    """The rows of a concept file, as text.

    Attributes:
        path: path of the file.
        kind: kind of the rows, what a row is about.
        header_line: number of the line of the header.
        columns: the columns after the first.
        lines: class, or path of an image, -> line number; in the order of the cells.
        cells: the texts of each column.
    """

    path: Path
    kind: Literal["class", "image"]
    header_line: int
    columns: tuple[Header, ...]
    lines: dict[str, int]
    cells: list[tuple[str, ...]]

    @property
    def header(self) -> str:
        """Where the header is, for a message."""
        return f"{self.path}:{self.header_line}"

    def place(self, column: int, text: str) -> str:
        """Return where a text first stands in a column, for a message: file, line and column."""
        line = list(self.lines.values())[self.cells[column].index(text)]
        return f"{self.path}:{line}: column '{self.columns[column]}'"

    def column(self, name: str, certainty: bool = False) -> int | None:
        """Return the number of the column of a concept, or of what says how certain it is; None without one."""
        found = (n for n, header in enumerate(self.columns) if (header.name, header.certainty) == (name, certainty))
        return next(found, None)


def read_concept_table(path: Path, classes: Iterable[str], images: Iterable[str]) -> ConceptTable:
    """Read a concept file, such as ``concepts.csv``.

    Its first line is ``class`` or ``image`` and the names of the columns; every other line a class, or the path of an
    image relative to the root, and a cell for each column. Lines are checked as they are read, so that a file of
    something else, however large, is refused at its first one; what the cells say is left to `ConceptColumn`.

    Args:
        path: path of the file.
        classes: all classes that a row may name.
        images: the paths of all images that a row may name.

    Raises:
        DataError: the file is malformed, or a row names another class or image; the message names the line.
    """
    if (kind := no_file(path)) is not None:
        raise DataError(f"{path}: is {kind}, a file is needed")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = ((reader.line_num, row) for row in progress(reader, f"reading {shown(path.name)}") if any(row))
            return _read_rows(path, rows, set(classes), set(images))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; save it as 'CSV UTF-8'") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _read_rows(path: Path, rows: Iterator[tuple[int, list[str]]], classes: set[str], images: set[str]) -> ConceptTable:
    """Return the table of (line, cells), the first of which are the header."""
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: the file is empty; its first line must be 'class,CONCEPT,...' or 'image,CONCEPT,...'")
    kind, columns = _read_header(f"{path}:{first[0]}", [cell.strip() for cell in first[1]])
    known, stranger = (classes, "class '{}' has no folder in train.") if kind == "class" else (images, _NO_IMAGE)
    lines: dict[str, int] = {}
    read: list[list[str]] = []
    for line, row in rows:
        key = row[0].strip() if kind == "class" else row[0].strip().replace("\\", "/").removeprefix("./")
        if key in lines:
            raise DataError(f"{path}:{line}: {kind} '{cut(key)}' has a row already, on line {lines[key]}")
        if key not in known:
            raise DataError(f"{path}:{line}: {stranger.format(cut(key))}{did_you_mean(cut(key), sorted(known))}")
        if len(row) != len(columns) + 1:
            raise DataError(f"{path}:{line}: {len(row)} fields, the header has {len(columns) + 1}")
        lines[key] = line
        read.append(row[1:])
    if not lines:
        raise DataError(f"{path}: there is no line after the header; one for each {kind} is needed")
    return ConceptTable(path, kind, first[0], columns, lines, list(zip(*read, strict=True)))


def _read_header(where: str, header: list[str]) -> tuple[Literal["class", "image"], tuple[Header, ...]]:
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{where}: the columns are separated by {name}; save the file with commas")
    kind, names = header[0], header[1:]
    if kind not in ("class", "image"):
        raise DataError(f"{where}: the first column is '{cut(kind)}', it must be 'class' or 'image'")
    if not names:
        raise DataError(f"{where}: there is no concept after '{kind}'")
    columns = [_read_name(where, column, name) for column, name in enumerate(names, 2)]
    places: dict[tuple[str, bool], int] = {}
    for column, found in enumerate(columns, 2):
        key = (found.name, found.certainty)
        if key in places:
            raise DataError(f"{where}: columns {places[key]} and {column} are both named '{cut(found.name)}'")
        places[key] = column
    for name, certainty in places:
        if certainty and (name, False) not in places:
            near = did_you_mean(name, [other for other, _ in places if other != name])
            raise DataError(
                f"{where}: '{cut(name)} [{CERTAINTY}]' is about a column '{cut(name)}', and there is none.{near}"
            )
    return ("class" if kind == "class" else "image"), tuple(columns)


def _read_name(where: str, column: int, text: str) -> Header:
    found = _BRACKETS.fullmatch(text)
    name, unit = (found[1], found[2].strip()) if found else (text, None)
    if not name:
        raise DataError(
            f"{where}: column {column} has no name" + ("" if unit is None else f", only a unit, '[{unit}]'")
        )
    if any(character < " " for character in text):
        raise DataError(f"{where}: column {column} is named {cut(text)!r}, with a control character")
    return Header(name, unit)


def cut(text: str) -> str:
    """Return a cell for a message: a file of something else can have one of any length."""
    return text if len(text) <= 100 else f"{text[:100]}..."
