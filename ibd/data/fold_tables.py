"""Folds of images in files: training and validation images cut anew, groups of images kept together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ibd.data.base import Split
from ibd.data.files import FileTable
from ibd.data.folding import assign_folds, roles, units_of_classes
from ibd.errors import ConfigError, DataError, did_you_mean


def fold_tables(
    tables: dict[Split, FileTable], classes: Sequence[str], folds: int, fold: int, together: str | None, seed: int
) -> dict[Split, FileTable]:
    """Return the tables of one fold: training and validation images are cut anew, test images stay where they are.

    Args:
        tables: images of the splits that there are.
        classes: names of the classes.
        folds: number of folds.
        fold: the one that is left out, see `roles`.
        together: column of groups whose images stay in one fold; None where each image stands for itself.
        seed: seed of who is in which fold.

    Raises:
        DataError: a class has too few images, or a group is in the test folder too.
        ConfigError: there is no such column, or nothing is left to train on.
    """
    pool = joined([tables[split] for split in ("train", "val") if split in tables])
    chosen = roles(folds, fold, "test" in tables)
    units = None if together is None else units_of(pool, together)
    if together is not None and "test" in tables:
        check_apart(pool, tables["test"], together)
    fold_of = assign_folds(pool.labels, classes, folds, seed, units)
    cut = {split: pool.select(torch.isin(fold_of, torch.tensor(members))) for split, members in chosen.items()}
    check_every_class(cut["train"], classes)
    return {**tables, **cut}


def set_aside(table: FileTable, classes: Sequence[str], fraction: float, together: str, seed: int) -> list[FileTable]:
    """Return the table without, and with only, about a fraction of it, in which groups of images stay together.

    It is the first of as many folds as the fraction goes into the whole, or as the class of the fewest groups allows.

    Raises:
        DataError: a class has one group only.
        ConfigError: there is no such column.
    """
    units = units_of(table, together)
    fewest = min(units_of_classes(table.labels, units).values())
    fold_of = assign_folds(table.labels, classes, max(2, min(round(1 / fraction), fewest)), seed, units)
    rest = table.select(fold_of != 0)
    check_every_class(rest, classes)
    return [rest, table.select(fold_of == 0)]


def joined(tables: Sequence[FileTable]) -> FileTable:
    """Return the images of several tables, by their paths."""
    paths = [path for table in tables for path in table.paths]
    order = sorted(range(len(paths)), key=paths.__getitem__)
    groups = {name: [word for table in tables for word in table.groups[name]] for name in tables[0].groups}
    return FileTable(
        [paths[i] for i in order],
        torch.cat([table.labels for table in tables])[order],
        torch.cat([table.concepts for table in tables])[order],
        torch.cat([table.rows for table in tables])[order],
        {name: tuple(words[i] for i in order) for name, words in groups.items()},
    )


def units_of(table: FileTable, together: str) -> list[str]:
    """Return what each image belongs to: its group, or where that is unknown itself.

    Raises:
        ConfigError: there is no such column.
    """
    if together not in table.groups:
        raise ConfigError(f"data.together: there is no column '{together}'.{did_you_mean(together, table.groups)}")
    words = table.groups[together]
    return [f"group {word}" if word else f"image {path}" for word, path in zip(words, table.paths, strict=True)]


def check_apart(pool: FileTable, test: FileTable, together: str) -> None:
    """Check that no group is among the test images too.

    Raises:
        DataError: one is.
    """
    shared = (set(pool.groups[together]) & set(test.groups[together])) - {""}
    if shared:
        raise DataError(
            f"data.together: '{min(shared)}' of '{together}' has images in test and in train or val"
            f"{f', and so have {len(shared) - 1} more' if len(shared) > 1 else ''}: move them to one side"
        )


def check_every_class(table: FileTable, classes: Sequence[str]) -> None:
    """Check that each class is trained.

    Raises:
        DataError: one has no image.
    """
    seen = set(table.labels.tolist())
    for label, name in enumerate(classes):
        if label not in seen:
            raise DataError(f"data.folds: no training image of class '{name}' is left: its groups are in too few folds")
