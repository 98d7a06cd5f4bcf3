"""The attributes of CUB-200-2011 as concepts: the filtering of Koh et al. 2020 and the reading of its long tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ibd.errors import DataError, no_file

Numbers = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

NOT_VISIBLE = 1
"""The certainty of an annotator who did not see the part."""

# fmt: off
PUBLISHED = (
    1, 4, 6, 7, 10, 14, 15, 20, 21, 23, 25, 29, 30, 35, 36, 38, 40, 44, 45, 50, 51, 53, 54, 56, 57, 59, 63, 64, 69, 70,
    72, 75, 80, 84, 90, 91, 93, 99, 101, 106, 110, 111, 116, 117, 119, 125, 126, 131, 132, 134, 145, 149, 151, 152, 153,
    157, 158, 163, 164, 168, 172, 178, 179, 181, 183, 187, 188, 193, 194, 196, 198, 202, 203, 208, 209, 211, 212, 213,
    218, 220, 221, 225, 235, 236, 238, 239, 240, 242, 243, 244, 249, 253, 254, 259, 260, 262, 268, 274, 277, 283, 289,
    292, 293, 294, 298, 299, 304, 305, 308, 309, 310, 311,
)
# fmt: on
"""The 112 attributes, counted from 0, that Koh et al. 2020 kept."""

SOFT = np.array([[np.nan, 0, 0.5, 0.25, 0], [np.nan, 0, 0.5, 0.75, 1]], dtype=np.float32)
"""The "uncertain" value that Koh et al. 2020 give to (label, certainty)."""


def read_names(path: Path) -> list[str]:
    """Return the names of a table of ``<number> <name>`` lines, numbered from 1.

    Raises:
        DataError: there is no such file, or a line is malformed; the message names it.
    """
    names = []
    for line, text in enumerate(_text(path).splitlines(), 1):
        number, _, name = text.strip().partition(" ")
        if number != str(line) or not name:
            raise DataError(f"{path}:{line}: '{text.strip()}' given, '{line} NAME' is needed")
        names.append(name)
    return names


def read_numbers(path: Path, columns: int, dtype: type[np.generic] = np.int32) -> Numbers:
    """Return the first `columns` fields of every line: the distributed files have lines with a field too many.

    Raises:
        DataError: there is no such file, or a line has a field too few or no number; the message names it.
    """
    if not path.is_file() or not path.stat().st_size:
        raise DataError(f"{path}: {'the file is empty' if path.is_file() else 'there is no such file'}")
    try:
        return np.loadtxt(path, dtype, usecols=range(columns), ndmin=2, comments=None)
    except ValueError as error:
        for line, text in enumerate(_text(path).splitlines(), 1):
            fields = text.split()[:columns]
            if fields and (len(fields) < columns or not all(map(_is_number(dtype), fields))):
                needed = f"{columns} {'whole ' if np.issubdtype(dtype, np.integer) else ''}numbers are needed"
                raise DataError(f"{path}:{line}: '{text.strip()}' given, {needed}") from error
        raise DataError(f"{path}: cannot be read: {error}") from error


def read_labels(path: Path, images: int, attributes: int) -> tuple[Bytes, Bytes]:
    """Return what ``image_attribute_labels.txt`` says: (images, attributes) presence, 0 or 1, and certainty, 1 to 4.

    Raises:
        DataError: a line is malformed or out of range, or a pair of image and attribute has no line or two.
    """
    table = read_numbers(path, 4)
    columns = (("image", 1, images), ("attribute", 1, attributes), ("presence", 0, 1), ("certainty", 1, 4))
    for column, (name, low, high) in enumerate(columns):
        check_range(path, table[:, column], name, low, high)
    image, attribute, present, certainty = table.T
    pair = (image - 1).astype(np.int64) * attributes + attribute - 1
    count = np.bincount(pair, minlength=images * attributes)
    if count.min() != 1 or count.max() != 1:
        wrong = int(np.flatnonzero(count != 1)[0])
        where = f"image {wrong // attributes + 1}, attribute {wrong % attributes + 1}"
        raise DataError(f"{path}: {where}: {'no line' if count[wrong] == 0 else 'two lines or more'}, one is needed")
    both = np.empty((2, images * attributes), dtype=np.uint8)
    both[:, pair] = present, certainty
    return both[0].reshape(images, attributes), both[1].reshape(images, attributes)


def check_range(path: Path, column: Numbers, name: str, low: int, high: int) -> None:
    """Raise a `DataError` that names the line of the first value outside of [low, high]."""
    bad = np.flatnonzero((column < low) | (column > high))
    if len(bad):
        lines = [line for line, text in enumerate(_text(path).splitlines(), 1) if text.strip()]
        value = column[bad[0]]
        raise DataError(f"{path}:{lines[bad[0]]}: {name} is {value}, a number from {low} to {high} is needed")


def class_majority(
    present: Bytes, certainty: Bytes, labels: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.float32]:
    """Return (classes, attributes): what most annotators of a class's images said, 1 on a tie, NaN without a vote.

    That the attribute is absent because its part was not visible is no vote. (Koh et al. 2020 take no vote at all for a
    tie, so that a class whose legs nobody saw has legs of every color, and a class without images has everything.)

    Args:
        present: (N, attributes), 0 or 1.
        certainty: (N, attributes), 1 to 4.
        labels: (N,) the images' classes.
        classes: number of classes.
    """
    absent = (present == 0) & (certainty != NOT_VISIBLE)
    balance = np.zeros((classes, present.shape[1]), dtype=np.int32)
    votes = np.zeros_like(balance)
    np.add.at(balance, labels, present.astype(np.int32) - absent)
    np.add.at(votes, labels, present.astype(np.int32) + absent)
    return np.where(votes > 0, balance >= 0, np.nan).astype(np.float32)


def image_values(present: Bytes, certainty: Bytes, uncertainty: str) -> npt.NDArray[np.float32]:
    """Return the concept values of single images; see ``CUB`` for what `uncertainty` may be."""
    if uncertainty == "soft":
        return SOFT[present, certainty]
    values = present.astype(np.float32)
    if uncertainty == "unknown":
        values[certainty == NOT_VISIBLE] = np.nan
    return values


def _text(path: Path) -> str:
    if (kind := no_file(path)) is not None:
        raise DataError(f"{path}: is {kind}, a file is needed")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise DataError(f"{path}: {cause}") from error


def _is_number(dtype: type[np.generic]) -> Callable[[str], bool]:
    def check(field: str) -> bool:
        try:
            dtype(field)
        except ValueError:
            return False
        return True

    return check
