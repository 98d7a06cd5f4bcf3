"""Folds: cutting images into parts of equal size, class by class, that take turns at being left out of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ibd.data.base import Split
from ibd.errors import ConfigError, DataError


def check_folds(folds: int, fold: int) -> None:
    """Check what a config says of folds.

    Raises:
        ConfigError: there are no such folds.
    """
    if folds < 0 or folds == 1:
        raise ConfigError(f"data.folds: {folds} given, 2 or more folds are needed, or 0 for none")
    if not 0 <= fold < max(1, folds):
        raise ConfigError(
            f"data.fold: {fold} given, {f'0 to {folds - 1}' if folds else '0 without data.folds'} is needed"
        )


def assign_folds(
    labels: Tensor, classes: Sequence[str], folds: int, seed: int, units: Sequence[str] | None = None
) -> Tensor:
    """Return the fold of each image, (N,) int64 in 0 to `folds` - 1: of each class about as many images in each.

    By scikit-learn's ``StratifiedKFold``, or ``StratifiedGroupKFold`` where images stay together. It depends on the
    order of the images and the seed alone: units come in an order drawn here, as how the latter shuffles differs by its
    release, and is uneven in some.

    Args:
        labels: (N,) classes of the images, as numbers.
        classes: names of the classes.
        folds: number of folds, 2 or more.
        seed: seed of who is in which.
        units: for each image what it belongs to: images of one unit are in one fold. None: each stands for itself.

    Raises:
        DataError: a class has fewer images, or units, than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    for label, count in sorted(units_of_classes(labels, units).items()):
        if count < folds:
            what = "images" if units is None else "groups of images that stay together"
            raise DataError(f"data.folds: class '{classes[label]}' has {count} {what}, fewer than the {folds} folds")
    fold_of = torch.empty(len(labels), dtype=torch.int64)
    if units is None:
        cut, places = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed), None
    else:
        cut, places = StratifiedGroupKFold(n_splits=folds), _drawn_places(units, seed)
    for fold, (_, chosen) in enumerate(cut.split(labels.numpy(), labels.numpy(), places)):
        fold_of[torch.from_numpy(chosen)] = fold
    return fold_of


def _drawn_places(units: Sequence[str], seed: int) -> list[int]:
    """Return for each image the place of its unit in a drawn order of units."""
    names = sorted(set(units))
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    place = dict(zip(names, order, strict=True))
    return [place[unit] for unit in units]


def units_of_classes(labels: Tensor, units: Sequence[str] | None) -> dict[int, int]:
    """Return class -> how many different units (or images) it has."""
    members: dict[int, set[str]] = {}
    for index, label in enumerate(labels.tolist()):
        members.setdefault(label, set()).add(str(index) if units is None else units[index])
    return {label: len(found) for label, found in members.items()}


def roles(folds: int, fold: int, tested: bool) -> dict[Split, list[int]]:
    """Return which folds are trained, validated and tested on.

    Args:
        folds: number of folds.
        fold: the one that is left out.
        tested: whether there are test images apart. Then the fold left out validates; else it is what is tested, and
            the next one validates: a checkpoint must not be chosen by what it is tested on.

    Raises:
        ConfigError: nothing is left to train on.
    """
    if tested:
        return {"train": [other for other in range(folds) if other != fold], "val": [fold]}
    if folds < 3:
        raise ConfigError(
            f"data.folds: {folds} given, at least 3 are needed: without test images one is tested, one validates"
        )
    beside = (fold + 1) % folds
    return {"train": [other for other in range(folds) if other not in (fold, beside)], "val": [beside], "test": [fold]}
