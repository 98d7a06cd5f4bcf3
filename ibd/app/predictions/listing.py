"""Which image files are meant: by a folder, a pattern, a table, or their names."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ibd.data.images import IMAGE_SUFFIXES
from ibd.errors import DataError, no_file

_COLUMNS = ("file", "image", "path")


def listed(words: Sequence[str]) -> list[str]:
    """Return the image files that words of the command line mean, each once, in the order of the words.

    Args:
        words: folders (all images in them and below, in the order of their names), patterns such as
            ``photos/**/*.jpg``, tables ``*.csv`` with a column "file", "image" or "path" (relative to the table's
            folder), and names of files.

    Raises:
        DataError: a word means nothing that there is.
    """
    return list(dict.fromkeys(file for word in words for file in _files(word)))


def means_many(word: str) -> bool:
    """Return whether a word of the command line means other files than one of its name."""
    return os.path.isdir(word) or word.lower().endswith(".csv") or _is_pattern(word)  # noqa: PTH112  # long ones, too


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word) and not os.path.exists(word)  # noqa: PTH110  # long ones, too


def _files(word: str) -> list[str]:
    if os.path.isdir(word):  # noqa: PTH112
        return _below(word)
    if _is_pattern(word):
        return _matching(word)
    if word.lower().endswith(".csv"):
        return _of_table(Path(word))
    if not os.path.exists(word):  # noqa: PTH110  # a folder that is misspelt is no damaged image
        raise DataError(f"{word}: cannot be read: there is no such file")
    return [word]


def _below(folder: str) -> list[str]:
    """Return the images in a folder and below it.

    Raises:
        DataError: there is none.
    """
    found = list(_walk(folder))
    if not found:
        raise DataError(f"{folder}: there is no image in it ({', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)})")
    return found


def _walk(folder: str) -> Iterator[str]:
    """Return the images in a folder and below it, also where a link leads to another disk; no folder twice."""
    roots = [os.path.join(os.path.realpath(folder), "")]  # noqa: PTH118  # with a slash: "a" is not in "ab"
    for place, folders, names in os.walk(folder, followlinks=True):
        seen = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in seen if _is_new(os.path.join(place, name), roots)]  # noqa: PTH118
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield os.path.join(place, name)  # noqa: PTH118  # a Path for each of a million would take a minute


def _is_new(path: str, roots: list[str]) -> bool:
    """Return whether a folder is not walked by another name, and remember where a link leads: they may go round."""
    if not os.path.islink(path):  # noqa: PTH114
        return True
    real = os.path.join(os.path.realpath(path), "")  # noqa: PTH118
    if any(real.startswith(root) or root.startswith(real) for root in roots):
        return False
    roots.append(real)
    return True


def _matching(pattern: str) -> list[str]:
    """Return the files that a pattern matches.

    Raises:
        DataError: there is none.
    """
    found = sorted(path for path in glob.iglob(pattern, recursive=True) if not os.path.isdir(path))  # noqa: PTH112, PTH207
    if not found:
        raise DataError(f"{pattern}: no file matches it")
    return found


def _of_table(path: Path) -> list[str]:
    """Return the files that a table names.

    Raises:
        DataError: it cannot be read, or names none.
    """
    if (kind := no_file(path)) is not None or not path.exists():
        raise DataError(f"{path}: is {kind}, a file is needed" if kind else f"{path}: there is no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = list(_named(path, csv.DictReader(file)))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; save it as 'CSV UTF-8'") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not names:
        raise DataError(f"{path}: names no image")
    return names


def _named(path: Path, reader: csv.DictReader[str]) -> Iterator[str]:
    """Return the files that the lines of a table name.

    Raises:
        DataError: there is no column of them, or a line without one.
    """
    given = reader.fieldnames or ()
    column = next((name for name in _COLUMNS if name in given), None)
    if column is None:
        wanted, found = f"{', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}", ", ".join(given) or "none"
        raise DataError(f"{path}: a column {wanted} is needed; there is: {found}")
    for row in reader:
        if not row[column]:
            raise DataError(f"{path}:{reader.line_num}: there is no {column} in this line")
        yield str(path.parent / row[column])
