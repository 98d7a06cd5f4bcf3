"""What the columns of concept files say: truth values, words, or numbers with a unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ibd.data.concept_table import CERTAINTY, ConceptTable, cut
from ibd.errors import DataError

Kind = Literal["truth", "category", "number"]
Values = npt.NDArray[np.float32]

CERTAINTIES = {"definitely": 1.0, "probably": 0.5, "guessing": 0.0, "not visible": math.nan}
"""Words for how certain an annotation is; NaN makes it unknown. These are the four of CUB-200-2011."""
_YES_OR_NO = frozenset({"yes", "no", "true", "false", "y", "n", "t", "f"})
_NOTHING = frozenset({"nan", "na", "n/a", "null"})
"""What programs write into an empty cell; a person's "none" is a word."""
_LARGEST = 1e30
"""Numbers are kept in single precision, and squared."""
_MOST_WORDS = 100
"""A column with more of them is a remark, and no category."""


@dataclass(frozen=True)
class ConceptColumn:
    """A column of one concept file or of several, and the concepts that it becomes.

    Attributes:
        name: its name, without the unit.
        kind: kind of its cells: "truth" values from 0 to 1, words of a "category", or a "number".
        unit: unit of a number, "" for none.
        words: the words of a category, in order.
    """

    name: str
    kind: Kind
    unit: str = ""
    words: tuple[str, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of its concepts: its own, or ``column::word`` for each word."""
        return tuple(f"{self.name}::{word}" for word in self.words) if self.kind == "category" else (self.name,)

    def values(self, table: ConceptTable) -> Values:
        """Return the (rows, k) values of its k concepts in a file, NaN where unknown; certainties are applied.

        Of n possible answers (2, or the words), one that was given with certainty c keeps the share c, and what is
        left is shared by all n: ``c v + (1 - c) / n``.

        Raises:
            DataError: a cell holds something else; the message names the line.
        """
        place = table.column(self.name)
        rows = len(table.lines)
        if place is None:
            return np.full((rows, len(self.concepts)), np.nan, np.float32)
        if self.kind == "category":
            number = {word: float(index) for index, word in enumerate(self.words)}
            which = _mapped(table, place, number.__getitem__)
            values: Values = (which[:, None] == np.arange(len(self.words))).astype(np.float32)
            values[np.isnan(which)] = np.nan
        else:
            values = _mapped(table, place, _truth if self.kind == "truth" else _number)[:, None]
        certain = table.column(self.name, certainty=True)
        if certain is None:
            return values
        certainty = _mapped(table, certain, _certainty, empty=1.0)[:, None]
        answers = len(self.words) if self.kind == "category" else 2
        values *= certainty
        values += (1 - certainty) / np.float32(answers)
        return values


def find_column(name: str, tables: Sequence[ConceptTable], wanted: Kind | None) -> ConceptColumn:
    """Return what a column is: as its unit says, or `wanted`, or its cells.

    With a unit in its header it is a number. Without, it is a category where its cells are words alone and its name is
    no ``group::value``; else it holds truth values.

    Args:
        name: name of the column.
        tables: the files that have it.
        wanted: the user's word for it.

    Raises:
        DataError: the files disagree about the unit, or cells, unit and the user's word about the kind.
    """
    unit = _unit(name, tables)
    texts = {text for table in tables for text in table.cells[_place(table, name)]}
    words = sorted({text.strip() for text in texts} - {""})
    if wanted is None:
        wanted = "number" if unit is not None else "category" if _says_words(name, words) else "truth"
    elif unit is not None and wanted != "number":
        raise DataError(f"{tables[0].header}: column '{name} [{unit}]' has a unit, and data.kinds says '{wanted}'")
    if wanted == "category":
        _check_words(name, tables, words)
        return ConceptColumn(name, wanted, words=tuple(words))
    if wanted == "number":
        _check_number(name, tables)
    return ConceptColumn(name, wanted, unit or "")


def _place(table: ConceptTable, name: str) -> int:
    place = table.column(name)
    assert place is not None
    return place


def _unit(name: str, tables: Sequence[ConceptTable]) -> str | None:
    first, *others = [table.columns[_place(table, name)] for table in tables]
    for table, other in zip(tables[1:], others, strict=True):
        if other.unit != first.unit:
            raise DataError(f"{table.header}: the column is named '{other}', and in {tables[0].path} '{first}'")
    return first.unit


def _says_words(name: str, texts: Sequence[str]) -> bool:
    """Return whether cells are words alone, and none of them is a yes or a no."""
    plain = all(_is_word(text) for text in texts) and not {text.lower() for text in texts} <= _YES_OR_NO
    return bool(texts) and "::" not in name and plain


def _is_word(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return True
    return False


def _check_words(name: str, tables: Sequence[ConceptTable], words: Sequence[str]) -> None:
    """Check the words of a category: names of concepts are made of them."""
    if "::" in name:
        raise DataError(f"{tables[0].header}: column '{name}' is a category: its name cannot be a group::value itself")
    if not 0 < len(words) <= _MOST_WORDS:
        raise DataError(
            f"{tables[0].header}: column '{name}' is a category: it holds {len(words)} words, 1 to {_MOST_WORDS} are "
            "needed"
        )
    lower: dict[str, str] = {}
    for word in words:
        if any(character < " " for character in word) or "::" in word or "=" in word:
            raise DataError(f"{_where(name, tables, word)}: {cut(word)!r} given, a word without '::' and '=' is needed")
        if word.lower() in _NOTHING:
            raise DataError(f"{_where(name, tables, word)}: '{word}' given, an empty cell stands for unknown")
        if (other := lower.setdefault(word.lower(), word)) != word:
            raise DataError(f"{_where(name, tables, word)}: '{cut(word)}' and '{cut(other)}' differ in capitals alone")


def _where(name: str, tables: Sequence[ConceptTable], word: str) -> str:
    """Return where a word first stands."""
    for table in tables:
        place = _place(table, name)
        for text in table.cells[place]:
            if text.strip() == word:
                return table.place(place, text)
    raise AssertionError(word)


def _check_number(name: str, tables: Sequence[ConceptTable]) -> None:
    if "::" in name:
        raise DataError(f"{tables[0].header}: column '{name}' is a number, a group of its own: leave out the '::'")
    for table in tables:
        if table.column(name, certainty=True) is not None:
            raise DataError(
                f"{table.header}: column '{name} [{CERTAINTY}]': a number has no certainty; leave a cell empty where "
                "it is not known"
            )


def _mapped(table: ConceptTable, place: int, read: Callable[[str], float], empty: float = math.nan) -> Values:
    """Return a number for each cell of a column, (rows,); each different text is read once."""
    numbers: dict[str, float] = {}
    for text in dict.fromkeys(table.cells[place]):
        try:
            numbers[text] = read(text.strip()) if text.strip() else empty
        except ValueError as error:
            raise DataError(f"{table.place(place, text)}: '{cut(text.strip())}' given, {error}") from None
    return np.array([numbers[text] for text in table.cells[place]], np.float32)


def _truth(text: str) -> float:
    try:
        number = _number(text)
    except ValueError:
        number = math.nan
    if 0 <= number <= 1:
        return number
    needed = "a truth value from 0 to 1 or nothing (unknown) is needed"
    if math.isnan(number):
        raise ValueError(needed)
    raise ValueError(f"{needed}; a number has its unit in the header, as in 'size [mm]'")


def _number(text: str) -> float:
    needed = "a number or nothing (unknown) is needed"
    try:
        number = math.nan if "_" in text else float(text)  # Python reads 1_000
    except ValueError:
        raise ValueError(needed) from None
    if not abs(number) < _LARGEST:  # nor is it NaN then
        raise ValueError(needed)
    return number


def _certainty(text: str) -> float:
    if text in CERTAINTIES:
        return CERTAINTIES[text]
    try:
        number = _number(text)
    except ValueError:
        number = -1.0
    if 0 <= number <= 1:
        return number
    raise ValueError(f"a certainty from 0 to 1, or one of {', '.join(CERTAINTIES)} is needed")
