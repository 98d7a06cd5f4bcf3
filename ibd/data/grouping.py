"""Groups of images that a model is scored for apart: columns of a table that are no concepts, and concepts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch

from ibd.data.base import ImageDataModule, Split
from ibd.data.concept_table import ConceptTable, cut, read_concept_table
from ibd.errors import ConfigError, DataError, UnsupportedError, did_you_mean

GROUPS = "groups.csv"
Columns = dict[str, tuple[str, ...]]
"""Name of a column -> the group of each image; "" where it is not known."""

_MOST_GROUPS = 100
"""A column with more different words is a remark, or a number."""
AND = "+"
"""Between two columns whose values are taken together."""


def read_columns(
    root: Path,
    wanted: Collection[str],
    others: Sequence[Path],
    classes: Sequence[str],
    images: Sequence[str],
    together: str | None = None,
) -> Columns:
    """Return the columns that say of which groups images are.

    Args:
        root: folder of the images, in which a ``groups.csv`` may be: all of its columns are such.
        wanted: names of columns; those that are not in ``groups.csv`` are looked for in the concept files.
        others: paths of the concept files.
        classes: the classes.
        images: paths of the N images, relative to the root.
        together: the one of `wanted` by which images stay together, which may have any number of groups.

    Raises:
        DataError: a file is malformed.
        ConfigError: there is no such column.
    """
    own = [root / GROUPS] if (root / GROUPS).exists() else []
    files = [*own, *(others if wanted else ())]
    tables = {path: read_concept_table(path, classes, images) for path in files}
    found: Columns = {}
    for path, table in tables.items():
        for place, header in enumerate(table.columns):
            if header.name not in found and not header.certainty and (path in own or header.name in wanted):
                most = math.inf if header.name == together else _MOST_GROUPS
                found[header.name] = _groups(table, place, images, most)
    for name in wanted:
        if name not in found:
            known = [header.name for table in tables.values() for header in table.columns]
            key = "together" if name == together else "groups"
            raise ConfigError(
                f"data.{key}: there is no column '{name}' in {', '.join(map(str, files)) or f'{root}: no file'}."
                f"{did_you_mean(name, known)}"
            )
    return found


def _groups(table: ConceptTable, place: int, images: Sequence[str], most: float) -> tuple[str, ...]:
    """Return the group of each image, by a row of its own or of its class, whose folder its path names."""
    cells = dict(zip(table.lines, (text.strip() for text in table.cells[place]), strict=True))
    different = set(cells.values()) - {""}
    if len(different) > most:
        name = cut(str(table.columns[place]))
        raise DataError(f"{table.header}: column '{name}' has {len(different)} groups, {most} at most are read")
    if table.kind == "image":
        return tuple(cells.get(path, "") for path in images)
    return tuple(cells.get(path.split("/")[1], "") for path in images)


def groups_of_images(data: ImageDataModule, split: Split, name: str) -> list[str | None]:
    """Return the group of each image of a split, None where it is not known.

    Args:
        data: the images.
        split: split of them.
        name: a column of groups; "class"; a concept (yes or no), or a group of concepts of which one holds at most;
            or several of these joined by "+", whose values are taken together.

    Raises:
        ConfigError: there is no such column or concept.
        UnsupportedError: a concept is a number, or several of a group hold at once.
    """
    whole = name in data.dataset(split).groups  # a column whose own name has a plus
    parts = [_one(data, split, part.strip()) for part in ([name] if whole else name.split(AND))]
    return [None if None in values else f" {AND} ".join(map(str, values)) for values in zip(*parts, strict=True)]


def _one(data: ImageDataModule, split: Split, name: str) -> list[str | None]:
    dataset, spec = data.dataset(split), data.spec
    if name in dataset.groups:
        return [value or None for value in dataset.groups[name]]
    if name == "class":
        return [spec.class_names[label] for label in dataset.labels.tolist()]
    if name in spec.quantities:
        raise UnsupportedError(f"by: '{name}' is a number: make a column of a few words of it, such as 'young', 'old'")
    if name in spec.concept_names:
        column = dataset.concepts[:, spec.concept_names.index(name)].tolist()
        return [_yes_or_no(value) for value in column]
    if name not in spec.concept_groups:
        known = [*dataset.groups, "class", *spec.concept_groups, *spec.concept_names]
        raise ConfigError(f"by: there is no column or concept '{name}'.{did_you_mean(name, known)}")
    return _members(name, spec.concept_names, spec.concept_groups, dataset.concepts)


def _yes_or_no(value: float) -> str | None:
    """Return what a truth value says; None where it says neither."""
    if math.isnan(value) or value == 0.5:
        return None
    return "yes" if value > 0.5 else "no"


def _members(
    name: str, concepts: Sequence[str], groups: Mapping[str, Sequence[int]], values: torch.Tensor
) -> list[str | None]:
    """Return which concept of a group holds in each image: "none" where it is known that none does."""
    members = list(groups[name])
    own = values[:, members]
    holds = own > 0.5
    if int(holds.sum(1).max()) > 1:
        raise UnsupportedError(f"by: several concepts of '{name}' hold at once: name one of them, or a column")
    words = [concepts[member].removeprefix(f"{name}::") for member in members]
    known = ~own.isnan().any(1)
    return [
        words[int(row.int().argmax())] if bool(row.any()) else "none" if bool(sure) else None
        for row, sure in zip(holds, known, strict=True)
    ]
