"""Reading ``concepts.csv``: which concepts hold for each class, or in each image."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, did_you_mean, no_file
from ibd.printing import shown

_NO_IMAGE = "there is no image '{}'."
_CODES = {"0": "0", "1": "1", "0.0": "0", "1.0": "1", "": "?"}  # 0.0 as pandas writes beside an empty cell
_VALUES = np.full(128, np.nan, np.float32)
"""The value of each code, by the number of its character."""
_VALUES[ord("0")], _VALUES[ord("1")] = 0, 1


@dataclass(frozen=True)
class ConceptTable:
    """The rows of a ``concepts.csv``.

    Attributes:
        path: path of the file.
        kind: kind of the rows, what a row is about.
        names: the K concepts.
        lines: class, or path of an image, -> line number; in the order of `values`.
        values: (rows, K) float32, NaN where unknown.
    """

    path: Path
    kind: Literal["class", "image"]
    names: tuple[str, ...]
    lines: dict[str, int]
    values: Tensor

    def of_classes(self, classes: Iterable[str]) -> Tensor:
        """Return (C, K): the rows in the order of `classes`.

        Raises:
            DataError: a class has no row.
        """
        classes = list(classes)
        for name in classes:
            if name not in self.lines:
                raise DataError(f"{self.path}: class '{name}' has no row.{did_you_mean(name, self.lines)}")
        return self._rows(classes)

    def of_images(self, paths: Iterable[str]) -> Tensor:
        """Return (N, K): the rows in the order of `paths`; all unknown where an image has none.

        Args:
            paths: paths of the images, relative to the root.
        """
        return self._rows(paths)

    def _rows(self, keys: Iterable[str]) -> Tensor:
        row = {name: index for index, name in enumerate(self.lines)}
        unknown = torch.full((1, len(self.names)), torch.nan)
        return torch.cat([self.values, unknown])[[row.get(key, len(row)) for key in keys]]


def read_concept_table(path: Path, classes: Iterable[str], images: Iterable[str]) -> ConceptTable:
    """Read a ``concepts.csv``.

    Its first line is ``class`` or ``image`` and the names of the concepts; every other line a class, or the path of an
    image relative to the root, and for each concept 0, 1, or nothing where it is unknown. Lines are checked as they are
    read, so that a file of something else, however large, is refused at its first one.

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
    kind, names = _read_header(f"{path}:{first[0]}", [cell.strip() for cell in first[1]])
    known, stranger = (classes, "class '{}' has no folder in train.") if kind == "class" else (images, _NO_IMAGE)
    lines: dict[str, int] = {}
    codes = []
    for line, row in rows:
        key = row[0].strip() if kind == "class" else row[0].strip().replace("\\", "/").removeprefix("./")
        if key in lines:
            raise DataError(f"{path}:{line}: {kind} '{_shown(key)}' has a row already, on line {lines[key]}")
        if key not in known:
            raise DataError(f"{path}:{line}: {stranger.format(_shown(key))}{did_you_mean(_shown(key), sorted(known))}")
        lines[key] = line
        codes.append(_read_codes(path, line, row, names))
    if not lines:
        raise DataError(f"{path}: there is no line after the header; one for each {kind} is needed")
    values = _VALUES[np.frombuffer("".join(codes).encode(), np.uint8)].reshape(len(codes), len(names))
    return ConceptTable(path, kind, names, lines, torch.from_numpy(values))


def _read_header(where: str, header: list[str]) -> tuple[Literal["class", "image"], tuple[str, ...]]:
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{where}: the columns are separated by {name}; save the file with commas")
    kind, names = header[0], header[1:]
    if kind not in ("class", "image"):
        raise DataError(f"{where}: the first column is '{_shown(kind)}', it must be 'class' or 'image'")
    if not names:
        raise DataError(f"{where}: there is no concept after '{kind}'")
    columns: dict[str, int] = {}
    for column, name in enumerate(names, 2):
        if not name:
            raise DataError(f"{where}: column {column} has no name")
        if any(character < " " for character in name):
            raise DataError(f"{where}: column {column} is named {_shown(name)!r}, with a control character")
        if name in columns:
            raise DataError(f"{where}: columns {columns[name]} and {column} are both named '{_shown(name)}'")
        columns[name] = column
    return ("class" if kind == "class" else "image"), tuple(names)


def _read_codes(path: Path, line: int, row: list[str], names: tuple[str, ...]) -> str:
    """Return a character for each value of a row: all are turned into numbers at once, in a tenth of the time."""
    if len(row) != len(names) + 1:
        raise DataError(f"{path}:{line}: {len(row)} fields, the header has {len(names) + 1}")
    cells = "".join(row[1:])
    if len(cells) == len(names) and all(row) and not cells.strip("01"):  # the usual case
        return cells
    try:
        return "".join([_CODES[cell] for cell in row[1:]])
    except KeyError:
        row = [cell.strip() for cell in row]
    for name, cell in zip(names, row[1:], strict=True):
        if cell not in _CODES:
            raise DataError(
                f"{path}:{line}: column '{name}': '{_shown(cell)}' given, 0, 1 or nothing (unknown) is needed"
            )
    return "".join([_CODES[cell] for cell in row[1:]])


def _shown(text: str) -> str:
    """Return a cell for a message: a file of something else can have one of any length."""
    return text if len(text) <= 100 else f"{text[:100]}..."


def choose_exclusive(
    given: list[str] | Literal["auto"], groups: Mapping[str, tuple[int, ...]], values: Tensor
) -> tuple[str, ...]:
    """Return the groups of which at most one concept holds at once.

    Args:
        given: names of exclusive groups; or "auto": those of two concepts or more of which one is 1 in some row and
            never two are. An unknown counts neither for nor against.
        groups: group name -> concept indices.
        values: (rows, K), the annotations of the training images.

    Raises:
        ConfigError: there is no group of a given name.
    """
    if isinstance(given, str) and given != "auto":
        raise ConfigError(f"data.exclusive_groups: '{given}' given, 'auto' or a list of groups is needed")
    if given == "auto":
        most = {name: int((values[:, indices] == 1).sum(1).max()) for name, indices in groups.items()}
        return tuple(name for name, indices in groups.items() if len(indices) > 1 and most[name] == 1)
    for name in given:
        if name not in groups:
            raise ConfigError(f"data.exclusive_groups: there is no group '{name}'.{did_you_mean(name, groups)}")
    return tuple(given)
