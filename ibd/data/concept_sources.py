"""The concepts of a folder, from one file or several: of classes and of images, by one annotator or more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ibd.data.concept_columns import ConceptColumn, Kind, Values, find_column
from ibd.data.concept_table import ConceptTable, read_concept_table
from ibd.errors import ConfigError, DataError, did_you_mean
from ibd.types import Quantity


@dataclass(frozen=True)
class ConceptSource:
    """What concept files say, by column.

    Attributes:
        columns: the columns, in the order in which the files name them.
        classes: (C, K) concepts of the classes, NaN where unknown.
        images: (N, K) concepts of the images, NaN where unknown: there those of the class hold.
    """

    columns: tuple[ConceptColumn, ...]
    classes: Tensor
    images: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """The K concepts."""
        return tuple(name for column in self.columns for name in column.concepts)

    @property
    def categories(self) -> tuple[str, ...]:
        """The columns of words, each of which is an exclusive group."""
        return tuple(column.name for column in self.columns if len(column.words) > 1)

    @property
    def numbers(self) -> dict[str, str]:
        """Concept -> unit, of those that are numbers."""
        return {column.name: column.unit for column in self.columns if column.kind == "number"}

    def of(self, rows: Sequence[int], labels: Sequence[int]) -> Tensor:
        """Return the (n, K) concepts of images given by row and class: their own where known, else of the class."""
        own = self.images[list(rows)]
        return torch.where(own.isnan(), self.classes[list(labels)], own)

    def __str__(self) -> str:
        """Return in words which concepts there are."""
        truth = sum(column.kind == "truth" for column in self.columns)
        said = [f"{truth} true or false"] if truth else []
        said += [f"{c.name} ({', '.join(c.words)})" for c in self.columns if c.kind == "category"]
        said += [f"{name} in {unit}" if unit else f"{name}, a number" for name, unit in self.numbers.items()]
        return "; ".join(said)


def read_concepts(
    paths: Sequence[Path],
    kinds: Mapping[str, str],
    classes: Iterable[str],
    images: Sequence[str],
    without: Collection[str] = (),
) -> ConceptSource:
    """Read concept files.

    Files with a row for each class are those of several annotators, and so are files with a row for each image: a
    concept is the mean of what those say who know it, so that a truth value is the share that says yes. What is known
    of an image itself goes before what is known of its class.

    Args:
        paths: paths of the files.
        kinds: column -> kind, of those that are not to be told from their cells.
        classes: the C classes.
        images: the paths of the N images, relative to the root.
        without: columns that are no concepts.

    Raises:
        DataError: a file is malformed, two annotators name different concepts, or a class has no row.
        ConfigError: `kinds` names another column or kind.
    """
    classes = list(classes)
    tables = [read_concept_table(path, classes, images) for path in paths]
    of_classes, of_images = ([table for table in tables if table.kind == kind] for kind in ("class", "image"))
    for group in (of_classes, of_images):
        for other in group[1:]:
            _check_same(group[0], other)
    chosen = _checked_kinds(kinds, tables)
    headers = (header for table in tables for header in table.columns)
    names = dict.fromkeys(header.name for header in headers if not header.certainty and header.name not in without)
    columns = tuple(
        find_column(name, [table for table in tables if table.column(name) is not None], chosen.get(name))
        for name in names
    )
    _check_names(columns, tables)
    source = ConceptSource(columns, _mean(of_classes, columns, classes), _mean(of_images, columns, images))
    if of_classes and not of_images:
        _check_classes(of_classes, classes)
    return source


def _check_same(first: ConceptTable, other: ConceptTable) -> None:
    """Check that two annotators were asked the same."""
    mine, theirs = ({h.name for h in table.columns if not h.certainty} for table in (first, other))
    for name in sorted(mine ^ theirs):
        has, lacks = (first, other) if name in mine else (other, first)
        raise DataError(
            f"{lacks.header}: there is no column '{name}', and {has.path} has one: annotators answer the same"
        )


def _checked_kinds(kinds: Mapping[str, str], tables: Sequence[ConceptTable]) -> dict[str, Kind]:
    known = list(dict.fromkeys(header.name for table in tables for header in table.columns))
    allowed: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    for name, kind in kinds.items():
        if name not in known:
            raise ConfigError(f"data.kinds: there is no column '{name}'.{did_you_mean(name, known)}")
        if kind not in allowed:
            raise ConfigError(f"data.kinds: '{name}' is '{kind}', one of {', '.join(allowed)} is needed")
    return {name: allowed[kind] for name, kind in kinds.items()}


def _check_names(columns: Sequence[ConceptColumn], tables: Sequence[ConceptTable]) -> None:
    """Check that nothing else is in the group of a category or a number."""
    alone = {column.name: column.kind for column in columns if column.kind != "truth"}
    for column in columns:
        group = column.name.split("::", 1)[0]
        if column.kind == "truth" and group in alone:
            path = next(table.header for table in tables if table.column(column.name) is not None)
            raise DataError(f"{path}: column '{group}' is a {alone[group]}, and '{column.name}' would be in its group")


def _check_classes(tables: Sequence[ConceptTable], classes: Sequence[str]) -> None:
    for name in classes:
        if not any(name in table.lines for table in tables):
            raise DataError(f"{tables[0].path}: class '{name}' has no row.{did_you_mean(name, tables[0].lines)}")


def _mean(tables: Sequence[ConceptTable], columns: Sequence[ConceptColumn], keys: Sequence[str]) -> Tensor:
    """Return (keys, K): the mean over those tables that know a value, NaN where none does."""
    total = np.zeros((len(keys), sum(len(column.concepts) for column in columns)), np.float64)
    count = np.zeros_like(total)
    place = {key: index for index, key in enumerate(keys)}
    for table in tables:
        none = np.zeros((len(table.lines), 0), np.float32)
        values: Values = np.concatenate([none, *(column.values(table) for column in columns)], 1)
        rows = [place[key] for key in table.lines]
        known = ~np.isnan(values)
        total[rows] += np.where(known, values, 0)
        count[rows] += known
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return torch.from_numpy(mean.astype(np.float32))


def quantities_of(numbers: Mapping[str, str], names: Sequence[str], concepts: Tensor) -> dict[str, Quantity]:
    """Return the quantities, with mean and standard deviation over known values; 0 and 1 where nothing is known.

    A quantity that never differs has the deviation 1.

    Args:
        numbers: concept -> unit.
        names: the K concepts.
        concepts: (N, K) of the training images.

    Raises:
        DataError: numbers are so large beside their differences that single precision does not tell them apart.
    """
    quantities = {}
    for name, unit in numbers.items():
        column = concepts[:, names.index(name)].double()
        known = column[~column.isnan()]
        mean = float(known.mean()) if len(known) else 0.0
        varies = len(known) > 0 and bool(known.min() < known.max())
        deviation = float(known.std(correction=0)) if varies else 1.0
        if varies and float(known.abs().max()) * torch.finfo(torch.float32).eps > deviation / 100:
            raise DataError(
                f"concept '{name}': its numbers are about {mean:g} and differ by {deviation:g}: subtract {mean:g}"
            )
        quantities[name] = Quantity(unit, mean, deviation)
    return quantities


def choose_exclusive(
    given: list[str] | Literal["auto"], groups: Mapping[str, tuple[int, ...]], values: Tensor
) -> tuple[str, ...]:
    """Return the groups of which at most one concept holds at once.

    Args:
        given: names of exclusive groups; or "auto": those of two concepts or more of which one is above 0.5 in some row
            and never two are. What is unknown or undecided counts neither for nor against.
        groups: group name -> concept indices.
        values: (rows, K), the annotations of the training images.

    Raises:
        ConfigError: there is no group of a given name.
    """
    if isinstance(given, str) and given != "auto":
        raise ConfigError(f"data.exclusive_groups: '{given}' given, 'auto' or a list of groups is needed")
    if given == "auto":
        most = {name: int((values[:, indices] > 0.5).sum(1).max()) for name, indices in groups.items()}
        return tuple(name for name, indices in groups.items() if len(indices) > 1 and most[name] == 1)
    for name in given:
        if name not in groups:
            raise ConfigError(f"data.exclusive_groups: there is no group '{name}'.{did_you_mean(name, groups)}")
    return tuple(given)
