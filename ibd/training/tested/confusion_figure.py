"""The picture of which classes are taken for which: of all classes, or of those of hundreds that are confused most."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.metrics.functional.where_wrong import WhereWrong

_WHOLE, _SOME = 60, 40
"""Classes up to which all are drawn, and how many are where there are more."""
_LISTED = 30
"""Most frequent confusions that stand beside a part of the classes."""
_BLUE, _ORANGE = np.array([0.10, 0.44, 0.76]), np.array([0.91, 0.35, 0.05])
_NO_IMAGES = 0.93
"""Gray of the rows of classes without images."""
_CELL = 0.4
"""Inches."""


def confusion_figure(found: WhereWrong, title: str) -> Figure:
    """Return the confusion matrix: a row is a true class; what is right is blue, what is wrong is orange.

    Args:
        found: where a model is wrong.
        title: what images it is of.
    """
    matrix, rows, names = _cells(found)
    count = len(rows)
    beside = 0.075 * min(28, max(map(len, names))) + 0.5
    width, height = max(4.6, _CELL * len(names) + beside), max(3.2, _CELL * count + beside + 0.5)
    listed = found.confusions()[:_LISTED] if count < len(found.class_names) else []
    figure = PlainFigure(figsize=(width + 4.4 * bool(listed), height), layout="compressed")
    axes = figure.subplots(1, 1 + bool(listed), squeeze=False, width_ratios=[width, 4.4][: 1 + bool(listed)])[0]
    axes[0].imshow(_colors(matrix), interpolation="nearest", aspect="equal")
    shown = [shorten(name, 28) for name in names]
    axes[0].set_xticks(range(len(names)), shown, rotation=90, fontsize=8)
    axes[0].set_yticks(range(count), [shorten(name, 28) for name in rows], fontsize=8)
    axes[0].set_xlabel("taken for", fontsize=9)
    axes[0].set_ylabel("is", fontsize=9)
    _number(axes[0], matrix)
    if listed:
        pairs = [f"{one.count}  {shorten(one.truth, 26)} → {shorten(one.predicted, 26)}" for one in listed]
        _list(axes[1], "most often taken for another", pairs)
        title = f"the {count} of {len(found.class_names)} classes with most errors; {title}"
    right = f"{int(found.right.sum())} of {len(found)} right ({100 * found.accuracy.mean:.1f} %)"
    figure.suptitle(f"{title}: {right}", fontsize=10)
    return figure


def _cells(found: WhereWrong) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the numbers to draw, the names of their rows, and of their columns.

    After the classes there may be a column for all others, and one for images without a prediction.
    """
    matrix, classes = found.matrix.cpu().numpy(), list(found.class_names)
    silent = np.array([one.silent for one in found.classes])
    chosen = np.arange(len(classes))
    if len(classes) > _WHOLE:
        errors = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal() + silent
        chosen = np.sort(np.argsort(-errors, kind="stable")[:_SOME])
    rows = [classes[index] for index in chosen]
    cells, columns = [matrix[np.ix_(chosen, chosen)]], list(rows)
    if len(chosen) < len(classes):
        cells.append((matrix[chosen].sum(1) - cells[0].sum(1))[:, None])
        columns.append("(another class)")
    if silent.any():
        cells.append(silent[chosen, None])
        columns.append("(no prediction)")
    return np.concatenate(cells, 1), rows, columns


def _colors(matrix: np.ndarray) -> np.ndarray:
    """Return the color of each cell, (rows, columns, 3): the more of a row's images, the fuller; of errors by the root.

    So that the error of one image in a hundred is seen.
    """
    images = matrix.sum(1, keepdims=True)
    share = matrix / np.maximum(images, 1)
    right = np.eye(matrix.shape[0], matrix.shape[1], dtype=bool)
    strength = np.where(right, 0.15 * (matrix > 0) + 0.85 * share, 0.06 * (matrix > 0) + 0.94 * np.sqrt(share))
    colors = 1 - strength[..., None] * (1 - np.where(right[..., None], _BLUE, _ORANGE))
    return np.where(images[..., None] > 0, colors, _NO_IMAGES)


def _number(axis: Axes, matrix: np.ndarray) -> None:
    """Write the numbers into the cells."""
    images = np.maximum(matrix.sum(1), 1)
    for row, column in zip(*matrix.nonzero(), strict=True):
        number = int(matrix[row, column])
        full = number / images[row] > (0.55 if row == column else 0.4)
        size = 8 if number < 1000 else 6.5 if number < 10_000 else 5.5
        axis.text(column, row, str(number), ha="center", va="center", fontsize=size, color="w" if full else "k")


def _list(axis: Axes, title: str, lines: list[str]) -> None:
    axis.set_axis_off()
    text = "\n".join([title, "", *lines])
    axis.text(0, 1, text, va="top", fontsize=9, linespacing=1.5, transform=axis.transAxes)
