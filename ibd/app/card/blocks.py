"""What a card is made of: sections of blocks; each that holds a number names the file that it was taken from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """Names and values, all from one file.

    Attributes:
        rows: name and value of each.
        source: file that they stand in.
    """

    rows: Sequence[tuple[str, str]]
    source: str


@dataclass(frozen=True)
class Grid:
    """A table from one file.

    Attributes:
        title: what its rows are.
        columns: names of the columns; the first holds names, the others numbers.
        rows: rows of texts.
        source: file that they stand in; "" where a column says it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    source: str


@dataclass(frozen=True)
class Words:
    """A sentence; with a source where it holds what was measured."""

    text: str
    source: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture that lies in the run.

    Attributes:
        file: path of a PNG.
        caption: what it shows.
        source: its path as it is said.
    """

    file: str
    caption: str
    source: str


@dataclass(frozen=True)
class Absent:
    """What was not measured, and the command that measures it."""

    what: str
    command: str


@dataclass(frozen=True)
class Stale:
    """What was measured of other weights, or may have been, and is not used.

    Attributes:
        what: what it would say.
        source: file that it stands in.
        why: why it is not used.
        command: command that measures it anew.
    """

    what: str
    source: str
    why: str
    command: str


@dataclass(frozen=True)
class ByHand:
    """What only a person knows.

    Attributes:
        key: its key in ``card.yaml``.
        prompt: what is to be written there.
        text: what a person has written; "" where nobody has.
    """

    key: str
    prompt: str
    text: str = ""


@dataclass(frozen=True)
class Links:
    """Sections of the card that hold what a heading asks for: the key and title of each."""

    sections: Sequence[tuple[str, str]]


Block = Facts | Grid | Words | Picture | Absent | Stale | ByHand | Links


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it.

    Attributes:
        key: its anchor.
        title: its heading.
        blocks: what stands below it.
        parts: sections within it.
    """

    key: str
    title: str
    blocks: Sequence[Block] = ()
    parts: Sequence[Section] = field(default_factory=tuple)


def every_section(sections: Sequence[Section]) -> Iterator[Section]:
    """Yield all sections, and those within."""
    for section in sections:
        yield section
        yield from every_section(section.parts)
