"""Names of discovered concepts: what is proposed, and what a person writes into ``names.csv``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ibd.errors import ConfigError, DataError, did_you_mean, no_file

COLUMNS = ("concept", "name", "proposed", "because")


@dataclass(frozen=True)
class Proposal:
    """A name that something speaks for.

    Attributes:
        name: the name.
        because: what speaks for it, in words.
    """

    name: str
    because: str


def read_names(path: Path, concepts: Sequence[str]) -> dict[str, str]:
    """Return concept -> the name that a person gave it; those without a name are left out.

    Args:
        path: the file, as `write_names` writes it, with names in its second column.
        concepts: concepts that there are.

    Raises:
        DataError: no such file, or a line that is none; the message names it.
    """
    if (kind := no_file(path)) is not None or not path.exists():
        raise DataError(f"names: no file '{path}'" + (f": it is {kind}" if kind else ""))
    names: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, row in enumerate(csv.reader(file), 1):
                if line > 1 and len(row) > 1 and row[1].strip():
                    names[_concept(path, line, row[0].strip(), concepts, names)] = row[1].strip()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"names: '{path}' cannot be read: {error}") from None
    for name in names.values():
        if list(names.values()).count(name) > 1:
            raise DataError(f"names: '{path}': two concepts are named '{name}'")
        if name in concepts and name not in names:
            raise DataError(f"names: '{path}': '{name}' is what another concept is called")
    return names


def _concept(path: Path, line: int, concept: str, concepts: Sequence[str], names: dict[str, str]) -> str:
    if concept not in concepts:
        raise DataError(f"names: {path}:{line}: there is no concept '{concept}'.{did_you_mean(concept, concepts)}")
    if concept in names:
        raise DataError(f"names: {path}:{line}: '{concept}' has a name already")
    return concept


def write_names(
    path: Path, concepts: Sequence[str], names: dict[str, str], proposals: Sequence[Sequence[Proposal]]
) -> None:
    """Write a table in which a person names concepts: those that have a name keep it.

    Raises:
        ConfigError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for concept, found in zip(concepts, proposals, strict=True):
                first = found[0] if found else Proposal("", "")
                writer.writerow([concept, names.get(concept, ""), first.name, first.because])
        partial.replace(path)  # whole, or as it was: a person wrote into it
    except OSError as error:
        raise ConfigError(f"cannot write '{path}': {error.strerror or error}") from None
